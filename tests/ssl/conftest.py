"""Proofs: tests that show a system of docs/ssl.md at work, and the table made of those that passed.

A proof is a test marked `proof("B2")`, by the system's number in `systems.csv`; what it measured, it says
through the fixture `result`. `pytest tests/ssl -m proof --ssl-table docs/ssl.md` writes the table anew; where
only some of the proofs are run, only the rows of their systems.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ssl.table import Proof, write_table

RAN = pytest.StashKey[dict[str, list[Proof]]]()
SAID = pytest.StashKey[list[str]]()


@pytest.fixture
def result(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Call it with what was measured, in a few words; it goes into the table."""
    request.node.stash[SAID] = []
    return request.node.stash[SAID].append


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    if report.when == "call":
        for mark in item.iter_markers("proof"):
            for number in mark.args:
                proofs = item.config.stash.setdefault(RAN, {}).setdefault(number, [])
                if report.passed:
                    proofs.append(Proof(item.nodeid.split("[")[0], tuple(item.stash.get(SAID, []))))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--ssl-table")
    if path is not None:
        write_table(Path(path), session.config.stash.get(RAN, {}))
