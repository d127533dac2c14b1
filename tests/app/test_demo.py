"""The whole way, as small as it goes; and its resumption."""

import json
from pathlib import Path

import pytest
import wandb

from worldmodel.app.cli import main
from worldmodel.app.compose import compose
from worldmodel.app.report import load_inputs

AGENTS = ["human", "no_action", "lane_keeping", "mpc_copy", "mpc_learnt", "mpc_true_future"]


@pytest.mark.slow
def test_the_demo_goes_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["seconds=3", "max_episodes=2", "num_decisions=2", "threads=1", f"run={tmp_path}"]
    small += ["prediction.max_batches=1", "prediction.num_samples=2", "prediction.batch_size=4"]
    small += ["pictures.num_rollouts=1", "pictures.num_episodes=1", "pictures.num_failures=1"]
    assert main(["demo", *small]) == 0
    assert "report.html" in capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary["agents"]) == AGENTS
    assert summary["agents"]["human"]["safe"] == 1.0
    assert all(row["n"] == 2 and row["latency_ms"] > 0 for row in summary["agents"].values())
    assert summary["prediction"]["copy"]["mse_over_copy"] == {"0.5": 1.0, "1.0": 1.0, "2.0": 1.0, "3.0": 1.0}
    assert set(summary["prediction"]) == {"deterministic", "latent", "copy", "static", "empty"}
    assert summary["peak_memory_gb"] < 3.0
    inputs = load_inputs((tmp_path / "report.json").read_text())
    assert inputs.rollouts and inputs.cost_fields and inputs.prediction_charts
    assert inputs.episodes or inputs.failures

    written = (tmp_path / "model.pt").stat().st_mtime_ns
    assert main(["demo", *small]) == 0
    assert "train: done before" in capsys.readouterr().err
    assert (tmp_path / "model.pt").stat().st_mtime_ns == written


@pytest.mark.parametrize(("told", "mode"), [(None, "offline"), ("online", "online")])
def test_wandb_is_offline_unless_told_otherwise(
    told: str | None, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if told:
        monkeypatch.setenv("WANDB_MODE", told)
    assert compose("train", ["logger=wandb"]).logger.wandb.mode == mode


@pytest.mark.slow
def test_wandb_writes_its_files_without_a_network(tmp_path: Path) -> None:
    small = ["seconds=4", "threads=1", "logger=wandb", "loader.batch_size=2", f"run={tmp_path}"]
    assert main(["train", *small]) == 0
    wandb.teardown()  # writes the rest, as the end of the process does
    logs = [path.read_bytes() for path in (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")]
    assert len(logs) == 2  # a run for each phase, with the configuration
    assert all(b"train/error" in log and b"weight_decay" in log for log in logs)
    assert (tmp_path / "metrics" / "deterministic" / "metrics.csv").exists()
