"""Simulated beside recorded traffic, from the command line."""

import json
from pathlib import Path

import pytest

from tests.app.factories import save_small_store
from worldmodel.app.cli import main

TINY = [
    "scenes=1",
    "frames=60",
    "warm_up=1.0",
    "~traffic@simulated.dense",
    "simulated.motorway.road.length=300.0",
]


@pytest.mark.slow
def test_what_flows_is_measured_compared_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = save_small_store(tmp_path / "store")
    recorded = ["data@recorded.us101=store", f"recorded.us101.path={store}"]
    assert main(["realism", *recorded, *TINY, f"run={tmp_path / 'run'}"]) == 0
    found = json.loads((tmp_path / "run" / "realism.json").read_text())
    assert list(found["measured"]) == ["us101 train", "us101 test", "motorway (simulated)"]
    assert found["reference"] == "us101 train"
    assert found["measured"]["us101 train"]["lane_changes"] == 1  # as made up
    assert set(found["distances"]) == {"us101 train", "us101 test"}
    apart = found["distances"]["us101 train"]["motorway (simulated)"]
    rows = (tmp_path / "run" / "distances.csv").read_text().splitlines()
    assert f"motorway (simulated),us101 train,speed_ks,{apart['speed_ks']:.6g}" in rows
    assert (tmp_path / "run" / "realism.png").read_bytes().startswith(b"\x89PNG")
    assert "from us101 train" in capsys.readouterr().out


def test_an_unknown_reference_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = save_small_store(tmp_path / "store")
    recorded = ["data@recorded.us101=store", f"recorded.us101.path={store}"]
    assert main(["realism", *recorded, *TINY, f"run={tmp_path / 'run'}", "reference=mona"]) == 2
    assert "reference='mona', expected one of ['us101 train'" in capsys.readouterr().err
