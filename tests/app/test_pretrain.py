"""From recordings to an encoder, to what it sees, and into a forward model; on the recording that ships."""

import json
from pathlib import Path

import pytest
import torch

from tests.app.factories import KilledError, kill_at
from worldmodel.app.cli import main
from worldmodel.models import load_encoder, load_forward_model, load_model
from worldmodel.nn import Frozen
from worldmodel.training.csv_logger import read_metrics

TINY = [
    "seconds=null",
    "loader.batch_size=4",
    "loader.val_batches=1",
    "log_every=1",
    "threads=1",
]


SECTIONS = ("Labels", "Filters", "Frames given back", "Similar scenes", "Map of scenes")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("pretrain") / "run"
    assert main(["pretrain", f"run={run}", "phases.0.num_steps=3", "encoder.features=8", *TINY]) == 0
    return run


@pytest.mark.slow
def test_an_encoder_is_kept_with_its_log(pretrained: Path) -> None:
    encoder = load_encoder(pretrained / "ssl.pt")
    assert encoder.features == 8
    rows = (pretrained / "metrics" / "pretrain" / "metrics.csv").read_text().splitlines()
    assert "train/loss" in rows[0] and len(rows) >= 4


def test_what_is_seen_is_logged_while_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["phases.0.num_steps=2", "validation.every=1", "probe.windows=40", "probe.alarm=1000.0"]
    assert main(["pretrain", f"run={tmp_path}", *overrides, *TINY]) == 0
    columns = read_metrics(tmp_path / "metrics" / "pretrain" / "metrics.csv")
    for name in ("val/probe_r2", "val/effective_rank"):
        assert len(columns[name]) == 2
    assert capsys.readouterr().err.count("collapsed at step") == 1


def test_a_finished_pretraining_is_not_done_again(
    pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (pretrained / "ssl.pt").stat().st_mtime_ns
    assert main(["pretrain", f"run={pretrained}", "phases.0.num_steps=3", "encoder.features=8", *TINY]) == 0
    assert (pretrained / "ssl.pt").stat().st_mtime_ns == before
    assert "done before" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_before_a_refit_it_takes_the_same_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DeepCluster refits at step 2 to the clips of the first steps, also where it carries on from there."""

    def pretrain(name: str) -> int:
        overrides = ["ssl=deep_cluster", "phases.0.num_steps=3", "module.refit_every=2", "probe=null"]
        overrides += [
            "module.refit_batches=2",
            "resume_every=1",
            "validation.every=null",
            "encoder.features=8",
        ]
        return main(["pretrain", f"run={tmp_path / name}", *overrides, *TINY])

    assert pretrain("whole") == 0
    with monkeypatch.context() as patch:
        kill_at(patch, 2)
        with pytest.raises(KilledError):
            pretrain("killed")
    assert pretrain("killed") == 0
    whole, killed = (
        read_metrics(tmp_path / name / "metrics" / "pretrain" / "metrics.csv")["train/loss"]
        for name in ("whole", "killed")
    )
    assert len(whole) == 3 and killed == whole


@pytest.mark.slow
def test_a_probe_says_what_is_seen(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(pretrained / "ssl.pt"), f"run={tmp_path}", "windows=60", "threads=1"]
    assert main(["probe", *words]) == 0
    found = json.loads((tmp_path / "probe.json").read_text())
    assert found["windows"] == 60 and set(found["encoder"]["ridge_r2"]) == set(found["pixels"]["ridge_r2"])
    assert found["encoder"]["mean_r2"] < 1 and found["encoder"]["effective_rank"] > 1
    assert "gap_ahead" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert all(f"<h2>{one}</h2>" in page for one in SECTIONS)


@pytest.mark.slow
def test_a_collapsed_encoder_is_named(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(pretrained / "ssl.pt"), f"run={tmp_path}", "windows=60", "alarm=1000.0"]
    assert main(["probe", *words, "threads=1"]) == 0
    assert "collapsed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_forward_model_takes_the_encoder(pretrained: Path, tmp_path: Path) -> None:
    overrides = ["+encoder@model.encoder=frozen", f"model.encoder.path={pretrained / 'ssl.pt'}"]
    steps = ["phases.0.num_steps=2", "phases.1.num_steps=2", "uncertainty=null", "latent.latent.features=8"]
    assert main(["train", f"run={tmp_path}", *overrides, *steps, *TINY]) == 0
    model = load_forward_model(tmp_path / "model.pt")
    assert isinstance(model.encoder, Frozen)
    original = load_encoder(pretrained / "ssl.pt")
    for one, other in zip(model.encoder.parameters(), original.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_a_policy_sees_through_an_encoder_of_vehicles(tmp_path: Path) -> None:
    vehicles = ["channels=[vehicles]", "encoder.in_channels=1", "encoder.features=4", "phases.0.num_steps=2"]
    assert main(["pretrain", f"run={tmp_path / 'ssl'}", *vehicles, *TINY]) == 0
    kept = tmp_path / "ssl" / "ssl.pt"
    assert main(["probe", str(kept), f"run={tmp_path / 'probe'}", "windows=40", "threads=1"]) == 0
    seen = ["+encoder@model.frame_encoder=frozen", f"model.frame_encoder.path={kept}", "+model.pool=[1,1]"]
    steps = ["phases.0.num_steps=2", "policy.drive.num_episodes=0", "validation.monitor=val/loss"]
    assert main(["train", "policy=il", f"run={tmp_path / 'il'}", *seen, *steps, *TINY]) == 0
    policy = load_model(tmp_path / "il" / "policy.pt")
    learnt = load_encoder(kept).state_dict()
    assert all(
        torch.equal(one, learnt[name])
        for name, one in policy.encoder.embed.encoder.encoder.state_dict().items()
    )


def test_an_unknown_channel_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", f"run={tmp_path}", "channels=[cars]", *TINY]) == 2
    assert "expected some of lane, vehicles, off_road" in capsys.readouterr().err


def test_a_probe_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe"]) == 2
    assert "checkpoint is missing" in capsys.readouterr().err
