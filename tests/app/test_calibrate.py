"""A population from recordings, from the command line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from tests.evaluation.test_realism import make_flow
from worldmodel.app.calibrate import as_yaml, read_population, tuned
from worldmodel.app.cli import main
from worldmodel.app.compose import build
from worldmodel.data import Span, Split, make_recording, save_store
from worldmodel.scene.traffic import MIXED, DriverType, Population, Spread

TINY = ["rounds=1", "scenes=1", "frames=100", "warm_up=1.0", "scenario.road.length=300.0", "name=made_up"]


@pytest.mark.slow
def test_recorded_drivers_become_a_population(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recordings = [make_recording(seed=seed, name=name) for seed, name in ((1, "first"), (2, "second"))]
    save_store(recordings, Split(train=(Span("first", 0, 100),)), tmp_path / "store")
    run = tmp_path / "run"
    wanted = ["data=store", f"data.path={tmp_path / 'store'}", *TINY, f"run={run}"]
    assert main(["calibrate", *wanted]) == 0
    population = read_population(str(run / "population.yaml"))
    found = json.loads((run / "calibration.json").read_text())
    assert found["drivers"] == 8  # of the training part
    headway = found["parameters"]["headway"]
    assert population.types[0].headway.mean == pytest.approx(
        headway["median"] * np.cosh(headway["log_std"]), abs=2e-3
    )
    assert [row["min_gain"] for row in found["rounds"]] == [0.2]
    assert found["mobil"]["changed"][1] == 1 and found["mobil"]["stayed"][1] > 20
    assert "identified" in capsys.readouterr().out


def test_a_population_is_read_as_it_was_written() -> None:
    assert build(OmegaConf.create(as_yaml(MIXED))) == MIXED


def test_lane_changes_are_made_rarer_and_slower_where_they_should_be() -> None:
    steady = replace(DriverType(), min_gain=Spread(0.2), lateral_time=Spread(2.0), heading_time=Spread(0.5))
    recorded = make_flow(lateral_speed=np.full(50, 1.0))
    simulated = make_flow(lateral_speed=np.full(200, 1.5))
    population, row = tuned(Population((steady,)), recorded, simulated)
    assert row["rate"] == pytest.approx(2.0) and row["wanted_rate"] == pytest.approx(0.5)
    assert population.types[0].min_gain == Spread(0.4)  # sqrt(4) times
    assert population.types[0].lateral_time == Spread(3.0)
    assert population.types[0].heading_time == Spread(0.75)


def test_a_population_that_is_as_recorded_stays() -> None:
    flow = make_flow(lateral_speed=np.full(50, 1.0))
    assert tuned(MIXED, flow, flow)[0] == MIXED
