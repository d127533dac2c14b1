"""The import contracts hold, and they would notice if they did not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = """
    worldmodel worldmodel.types worldmodel.protocols worldmodel.scene worldmodel.nn
    worldmodel.models worldmodel.ssl worldmodel.costs worldmodel.data worldmodel.data.readers
    worldmodel.evaluation worldmodel.training worldmodel.viz worldmodel.app
    envs planners planners.policy configs
"""
HEAVY = ("torch", "lightning", "hydra", "numba", "highway_env", "cv2", "matplotlib")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([tool, "--no-cache"], cwd=folder, capture_output=True, text=True)


def make_house(folder: Path, root: Path, **source: str) -> Path:
    """An empty copy of our packages with our contracts, and `source` (dots as `__`) in its modules."""
    shutil.copy(root / "pyproject.toml", folder)
    for package in PACKAGES.split():
        (folder / package.replace(".", "/")).mkdir()
        (folder / package.replace(".", "/") / "__init__.py").touch()
    for module, text in source.items():
        (folder / (module.replace("__", "/") + ".py")).write_text(text)
    return folder


def test_imports_obey_the_contracts(root: Path) -> None:
    result = lint_imports(root)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "text", "contract"),
    [
        ("worldmodel__scene__lane", "import worldmodel.nn", "A layer imports only lower"),
        ("worldmodel__types__obs", "import worldmodel.scene", "A layer imports only lower"),
        ("worldmodel__data__store", "import worldmodel.training", "A layer imports only lower"),
        ("worldmodel__costs__lane", "import worldmodel.models", "A layer imports only lower"),
        ("worldmodel__models__loss", "import worldmodel.costs", "A layer imports only lower"),
        ("worldmodel__viz__draw", "import worldmodel.evaluation", "A layer imports only lower"),
        ("planners__cem", "import envs", "A layer imports only lower"),
        ("envs__highway", "import planners", "A layer imports only lower"),
        ("worldmodel__app__cli", "import planners", "worldmodel never imports envs, planners"),
        ("configs__search", "import worldmodel", "configs imports nothing of ours"),
        ("worldmodel__models__loss", "import lightning", "lightning only in"),
        ("planners__policy__mpur", "import lightning.pytorch", "lightning only in"),
        ("worldmodel__training__setup", "import hydra", "hydra only in the app"),
        ("worldmodel__training__log", "import wandb", "wandb nowhere"),
        ("worldmodel__data__readers__ngsim", "import cv2", "cv2 only in"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(
    module: str, text: str, contract: str, root: Path, tmp_path: Path
) -> None:
    result = lint_imports(make_house(tmp_path, root, **{module: text}))
    broken = [line for line in result.stdout.splitlines() if line.endswith("BROKEN")]
    assert result.returncode == 1, result.stdout + result.stderr
    assert any(line.startswith(contract) for line in broken), result.stdout


def test_an_allowed_import_breaks_none(root: Path, tmp_path: Path) -> None:
    house = make_house(
        tmp_path,
        root,
        worldmodel__protocols__planner="import worldmodel.types",
        worldmodel__training__forward_module="import lightning, worldmodel.models, worldmodel.data",
        worldmodel__data__datamodule="import lightning.pytorch",
        worldmodel__data__readers__video="import cv2",
        worldmodel__viz__draw="import cv2",
        worldmodel__app__cli="import hydra, omegaconf, lightning, worldmodel.evaluation, worldmodel.viz",
        planners__policy__module="import lightning",
        envs__world_model="import worldmodel.data.datamodule",
    )
    result = lint_imports(house)
    assert result.returncode == 0, result.stdout + result.stderr


def test_importing_worldmodel_imports_nothing_heavy(root: Path) -> None:
    code = f"import sys, worldmodel; print(*(set(sys.modules) & set({HEAVY!r})))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []
