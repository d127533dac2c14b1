"""Scores of a checkpoint from the command line."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.app.factories import save_small_store
from worldmodel.app.cli import main
from worldmodel.app.predict import as_table
from worldmodel.models import CoupledModel, ForwardModel, GaussianLatent, save_model


def test_the_table_shows_every_name_and_number_in_a_terminal_of_80_columns() -> None:
    numbers = {"0.5": 0.256, "1.0": 1.0, "2.0": 1.0, "3.0": 1.0}
    metrics = {"mse_over_copy": numbers, "iou": numbers | {"1.0": 0.5}, "sharpness": numbers}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(as_table({"constant_velocity": metrics}, 512))
    text = console.export_text()
    assert "512 windows, after 0.5 1 2 3 s" in text
    assert all(
        part in text for part in ("constant_velocity", ".26 1.00 1.00 1.00", ".26 .50", ".3 1.0 1.0 1.0")
    )
    assert "…" not in text


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
