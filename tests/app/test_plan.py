"""One decision: drawn, explained, and refused where there is none to make."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.app.factories import save_small_store
from worldmodel.app.cli import main


def arguments(folder: Path, *more: str) -> list[str]:
    save_small_store(folder / "store")
    small = ["data=store", f"data.path={folder / 'store'}", "threads=1", "agent=[mpc_copy]"]
    return ["plan", *small, f"run={folder / 'run'}", *more]


@pytest.mark.slow
def test_a_decision_is_drawn_and_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path, "recording=second", "frame=20")) == 0
    found = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert (found["recording"], found["frame"], len(found["action"])) == ("second", 20, 30)
    terms = dict(found["terms"])
    assert terms.pop("total") == pytest.approx(sum(terms.values()))
    out = capsys.readouterr().out
    assert all(name in out for name in terms) and "plan.png" in out
    picture = Image.open(io.BytesIO((tmp_path / "run" / "plan.png").read_bytes()))
    assert picture.width > 117 * 6 and picture.height > 5 * 24 * 6


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["vehicle=999"], "no such vehicle can be driven; there are 4, such as recording=second vehicle="),
        (["recording=third"], "recording=third"),
        (["frame=9999"], "frame=9999: nobody asked for is there"),
        (["agent=[human]"], "agent 'human' plans without a world model"),
        (["agent=[mpc_copy,mpc_static]"], "draws the decision of one agent"),
    ],
)
def test_a_moment_that_does_not_exist_is_one_line(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tmp_path, *more)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
