"""Scores of a checkpoint from the command line."""

import json
from pathlib import Path

import pytest

from tests.app.factories import save_small_store
from worldmodel.app.cli import main
from worldmodel.models import CoupledModel, ForwardModel, GaussianLatent, save_model


@pytest.mark.parametrize("kind", ["split", "coupled"])
def test_a_checkpoint_is_scored_beside_copying(kind: str, tmp_path: Path) -> None:
    store = save_small_store(tmp_path / "store")
    if kind == "split":
        save_model(ForwardModel(channels=8, latent=GaussianLatent(8, 16, dim=4)), tmp_path / "model.pt")
    else:
        save_model(CoupledModel(history=10, features=(8, 8, 8)), tmp_path / "model.pt")
    wanted = ["data=store", f"data.path={store}", "threads=1", "windows=4", "samples=2", "batch_size=4"]
    assert main(["predict", str(tmp_path / "model.pt"), *wanted, f"run={tmp_path / 'run'}"]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["windows"] == 4
    found = summary["predictors"]
    others = {"posterior", "copy", "constant_velocity"} if kind == "split" else {"copy", "constant_velocity"}
    assert set(found) == {"model"} | others
    assert found["copy"]["mse_over_copy"] == {"0.5": 1, "1.0": 1, "2.0": 1, "3.0": 1}
    # Untrained, the split model is a copy, and the coupled one nearly.
    assert found["model"]["mse_over_copy"]["0.5"] == pytest.approx(1, rel=0.3)
    lines = (tmp_path / "run" / "prediction.csv").read_text().splitlines()
    assert len(lines) == 1 + len(found) * 4 * 30
