"""docs/ssl.md says nothing that no proof stands for."""

import re
from importlib.resources import files
from pathlib import Path

from tests.ssl.table import Proof, said_to_work, systems, table


def proofs_written(root: Path) -> dict[str, set[str]]:
    """Numbers of systems -> the tests that are marked as their proofs."""
    found: dict[str, set[str]] = {}
    pattern = re.compile(r"@pytest\.mark\.proof\(([^)]*)\)\n(?:@[^\n]*\n(?:[ )][^\n]*\n)*)*def (\w+)")
    for path in (root / "tests" / "ssl").rglob("test_*.py"):
        for numbers, test in pattern.findall(path.read_text(encoding="utf-8")):
            for number in re.findall(r'"([^"]+)"', numbers):
                found.setdefault(number, set()).add(test)
    return found


def test_what_the_page_says_works_has_its_proof(root: Path) -> None:
    written = proofs_written(root)
    for number, tests in said_to_work(root / "docs" / "ssl.md").items():
        assert tests and set(tests) <= written[number], f"{number}: run `make ssl`"


def test_every_proof_is_on_the_page(root: Path) -> None:
    assert proofs_written(root).keys() <= said_to_work(root / "docs" / "ssl.md").keys(), "run `make ssl`"


def test_numbers_and_configurations_exist(root: Path) -> None:
    numbers = [one.number for one in systems()]
    assert len(set(numbers)) == len(numbers)
    assert proofs_written(root).keys() <= set(numbers)
    known = {path.name.removesuffix(".yaml") for path in files("configs").joinpath("ssl").iterdir()}
    named = {config for one in systems() for config in one.configs}
    assert named == known


def test_a_row_works_only_with_a_proof() -> None:
    written = table({"B2": [Proof("tests/ssl/test_x.py::test_ista", ("1e-7 from scikit-learn",))]})
    assert "| B2 | ISTA |  | works | `test_ista` | 1e-7 from scikit-learn |" in written
    assert "| B3 | FISTA |  |  |  |  |" in written
    assert written.startswith("1 of ")


def test_rows_of_what_was_not_run_stay_and_failures_lose_theirs() -> None:
    before = {
        "B2": "| B2 | ISTA |  | works | `test_ista` | ok |",
        "B3": "| B3 | FISTA |  | works | `x` | ok |",
    }
    written = table({"B3": []}, before)
    assert before["B2"] in written and "| B3 | FISTA |  |  |  |  |" in written
