"""Checkpoints: self-contained, atomic, refused with a reason."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

import worldmodel
from tests.models.factories import HISTORY, SPEC, make_clip
from worldmodel.models import (
    CarTracker,
    CheckpointError,
    ForwardModel,
    GaussianLatent,
    load_forward_model,
    load_model,
    load_weights,
    save_forward_model,
    save_model,
)
from worldmodel.nn import LookAhead
from worldmodel.scene import RasterSpec


def saved(tmp_path: Path) -> tuple[ForwardModel, Path]:
    model = ForwardModel(spec=SPEC, history=HISTORY, channels=16, latent=GaussianLatent(16, 16, dim=4)).eval()
    model.speed_mean.fill_(7.5)
    path = tmp_path / "model.ckpt"
    save_forward_model(model, path, extra={"seed": 3})
    return model, path


def test_loads_without_any_other_file(tmp_path: Path) -> None:
    model, path = saved(tmp_path)
    loaded = worldmodel.load(path)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    frames = [
        one.unroll_clip(make_clip(), use_prior=True, generator=generator).logits
        for one, generator in zip((model, loaded), generators, strict=True)
    ]
    torch.testing.assert_close(*frames)
    assert float(loaded.speed_mean) == 7.5
    assert loaded.spec == SPEC
    assert [one.name for one in tmp_path.iterdir()] == ["model.ckpt"]  # no temporary left


def test_refuses_another_raster(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    with pytest.raises(CheckpointError, match="was trained on rasters"):
        load_forward_model(path, spec=RasterSpec())


def test_weights_go_on_with_a_longer_raster(tmp_path: Path) -> None:
    parts = {"channels": 8, "history": HISTORY, "history_stride": 1}
    short, long = (
        ForwardModel(
            tracker=CarTracker(8, lags=HISTORY - 1), interaction=LookAhead(8),
            spec=replace(SPEC, height=SPEC.height + more), **parts,
        )
        for more in (0, 12)
    )  # fmt: skip
    save_model(short, tmp_path / "short.pt")
    load_weights(long, tmp_path / "short.pt")
    for name, weight in short.named_parameters():
        torch.testing.assert_close(long.get_parameter(name), weight)
    assert long.spec.height == SPEC.height + 12


def test_any_module_with_a_config_is_saved_and_is_no_forward_model(tmp_path: Path) -> None:
    latent = GaussianLatent(8, 8, dim=3)
    save_model(latent, tmp_path / "latent.pt")
    loaded = load_model(tmp_path / "latent.pt", spec=RasterSpec())  # reads no rasters: accepts any
    assert isinstance(loaded, GaussianLatent)
    assert not loaded.training
    torch.testing.assert_close(loaded.state_dict(), latent.state_dict())
    with pytest.raises(CheckpointError, match="holds a GaussianLatent, expected a ForwardModel"):
        load_forward_model(tmp_path / "latent.pt")


def test_refuses_missing_truncated_and_foreign_files(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    with pytest.raises(CheckpointError, match="no such file"):
        load_forward_model(tmp_path / "other.ckpt")
    (tmp_path / "cut.ckpt").write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cut short"):
        load_forward_model(tmp_path / "cut.ckpt")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match="not a model of ours"):
        load_forward_model(tmp_path / "foreign.ckpt")


def test_names_a_class_that_is_not_there_and_the_file_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import torch\nclass Box(torch.nn.Module):\n    config = {'_target_': 'my_own_boxes.Box'}\n"
    (tmp_path / "my_own_boxes.py").write_text(code)
    (tmp_path / "run").mkdir()
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        save_model(importlib.import_module("my_own_boxes").Box(), tmp_path / "run" / "model.pt")
        assert type(load_model(tmp_path / "run" / "model.pt")).__name__ == "Box"
    monkeypatch.delitem(sys.modules, "my_own_boxes")
    with pytest.raises(CheckpointError, match=r"holds a my_own_boxes.Box, which cannot be .*PYTHONPATH"):
        load_model(tmp_path / "run" / "model.pt")
    with pytest.raises(CheckpointError, match=r"run: is a folder; did you mean .*run/model.pt\?"):
        load_model(tmp_path / "run")


def test_refuses_to_build_anything_but_modules(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    content = torch.load(path, weights_only=True)
    content["config"]["encoder"] = {"_target_": "os.getcwd"}
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="not a torch module"):
        load_forward_model(path)


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, path = saved(tmp_path)
    before = path.read_bytes()

    def full_disk(content: object, stream: BinaryIO) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_forward_model(model, path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["model.ckpt"]
