# Everything runs from .venv, which the first target that needs it creates. `make help` lists the targets.

PYTHON   ?= python3
PIP_ARGS ?=
# Test processes; raise it on a large machine.
JOBS     ?= 2

# libgomp's spin barriers make torch tens of times slower beside any other busy process.
export GOMP_SPINCOUNT = 0
# numba's OpenMP layer silently resets torch's thread count.
export NUMBA_THREADING_LAYER = workqueue
export WANDB_MODE ?= offline
export MPLBACKEND = Agg
# Material for MkDocs announces the plans for MkDocs 2 on every build.
export NO_MKDOCS_2_WARNING = 1

BIN := .venv/bin
# -qq keeps pip's errors and drops its warnings; --no-compile leaves byte code to the first import.
INSTALL := $(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt $(PIP_ARGS)

.DEFAULT_GOAL := help
.PHONY: help demo test fast lint docs ssl bench results constraints clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: .venv/.runtime  ## a quick tour without any downloaded data
	@$(BIN)/worldmodel demo

test: lint docs  ## style, types, import contracts, docs and every test
	@$(BIN)/pytest -q -n $(JOBS) --dist worksteal

fast: .venv/.dev  ## the tests that need neither patience nor recorded data
	@$(BIN)/pytest -q -n $(JOBS) --dist worksteal -m 'not slow and not data'

lint: .venv/.dev  ## style, types and import contracts
	@$(BIN)/ruff format --check --quiet . || { echo 'run: $(BIN)/ruff format .'; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: .venv/.dev  ## build the documentation into site/
	@$(BIN)/mkdocs build --strict --quiet

ssl: .venv/.dev  ## prove every system of docs/ssl.md, and write its table anew
	@$(BIN)/pytest -q tests/ssl -m proof --ssl-table docs/ssl.md

bench: .venv/.runtime  ## run every benchmark; numbers go to runs/bench/
	@mkdir -p runs/bench
	@set -e; for script in $(wildcard benchmarks/[a-z]*.py); do \
		echo "== $$script"; \
		$(BIN)/python $$script --json runs/bench/$$(basename $$script .py).json; \
	done

results: .venv/.runtime  ## docs/results.md anew, in two to three hours; goes on where it was; needs ../shared/data
	@$(BIN)/worldmodel results

constraints: .venv/.dev  ## pin what .venv holds into constraints.txt
	@{ sed -n '/^#/p' constraints.txt; \
	   $(BIN)/python -m pip freeze --all --exclude-editable --exclude pip | sed 's/+cpu$$//'; } > constraints.new
	@mv constraints.new constraints.txt
	@touch .venv/.runtime .venv/.dev

clean:  ## remove what was built, .venv included; runs/ stays
	@rm -rf .venv site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "highway-worldmodel needs Python 3.11 or newer, but $(PYTHON) is: $$($(PYTHON) --version 2>&1)"; \
		echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo 'creating .venv (a minute or two)'
	@$(PYTHON) -m venv .venv

.venv/.runtime: pyproject.toml constraints.txt | .venv/bin/python
	@$(INSTALL) -e .
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | .venv/bin/python
	@$(INSTALL) -e '.[dev]'
	@touch .venv/.runtime $@
