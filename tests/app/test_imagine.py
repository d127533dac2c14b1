"""Imagined futures: what is in the grid, what stays equal where it must, and mistakes in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.app.test_check import make_coupled, save_inputs
from tests.models.factories import HISTORY, HORIZON, SPEC, make_clip
from worldmodel.app.cli import main
from worldmodel.app.compose import UsageError, compose
from worldmodel.app.imagine import futures, imagine, strongest_dimension, sweep
from worldmodel.evaluation.probe import Probe, probe_of
from worldmodel.models import ForwardModel, GaussianLatent
from worldmodel.models.latent import CategoricalLatent, LocalLatent
from worldmodel.viz import decode_video, future_frames, future_grid

CONFIG = ["checkpoint=model.pt", "samples=2", "sweep=[-2,2]"]


def make_probe(dim: int = 3) -> Probe:
    torch.manual_seed(0)
    latent = GaussianLatent(8, 16, dim=dim) if dim else None
    model = ForwardModel(spec=SPEC, history=HISTORY, channels=8, latent=latent)
    for name, part in model.named_parameters():
        if name.startswith(("core", "decoder", "expander")) and part.ndim > 1:
            torch.nn.init.normal_(part, std=0.3)
    return probe_of(model.requires_grad_(False))


def test_the_grid_holds_every_future_and_differs_where_it_should() -> None:
    probe, clip = make_probe(), make_clip(2, relative_speed=-3.0)
    rollouts = imagine(compose("imagine", CONFIG), probe, clip)
    drawn = futures(probe, clip, rollouts, row=1)
    recorded, sweep, other = drawn.values()
    assert list(recorded) == ["recorded", "z = 0", "z sample 1", "z sample 2"]
    assert list(sweep) == ["z = -2", "z = +2"]
    assert list(other) == ["keep", "brake", "accelerate", "left", "right"]
    every = [one for rows in drawn.values() for one in rows.values()]
    assert all(one.raster.shape == (HORIZON + 1, 3, SPEC.height, SPEC.width) for one in every)
    for one in every:  # all begin with what was seen
        np.testing.assert_allclose(one.raster[0], clip.image[1, HISTORY - 1].numpy() / 255, atol=1e-6)
        np.testing.assert_allclose(one.ego[:, :3], 0.0, atol=1e-4)  # seen from the ego
    # The recorded ego of these clips keeps its speed.
    np.testing.assert_allclose(other["keep"].raster, recorded["z = 0"].raster, atol=1e-5)
    for a, b in ((recorded["z sample 1"], recorded["z sample 2"]), (sweep["z = -2"], sweep["z = +2"])):
        assert np.abs(a.raster - b.raster).max() > 0.01
    assert np.abs(other["left"].raster - other["right"].raster).max() > 0.1
    picture = future_grid(drawn, [0, 5, 10], SPEC)
    assert picture.shape[1] > 3 * SPEC.height * 3 and picture.shape[0] > 11 * SPEC.width * 3
    frames = list(future_frames(drawn, SPEC))
    assert len(frames) == HORIZON + 1 and (frames[0] != frames[-1]).any()


def test_a_model_without_a_latent_has_no_sweep() -> None:
    probe, clip = make_probe(dim=0), make_clip(2)
    rollouts = imagine(compose("imagine", CONFIG), probe, clip)
    assert list(rollouts) == ["recorded actions", "other actions"]
    assert list(rollouts["recorded actions"]) == ["recorded", "predicted"]


def test_a_coupled_model_imagines_the_same_rows() -> None:
    model = make_coupled()
    for part in model.parameters():  # its heads begin at zero
        torch.nn.init.normal_(part, std=0.1)
    rollouts = imagine(compose("imagine", CONFIG), probe_of(model), make_clip(2))
    assert [len(rows) for rows in rollouts.values()] == [4, 2, 5]
    keep, left = (rollouts["other actions"][name] for name in ("keep", "left"))
    assert keep is not None and left is not None and not keep.ego.equal(left.ego)


def test_a_discrete_latent_is_swept_by_values_that_it_takes() -> None:
    torch.manual_seed(0)
    latent = LocalLatent(CategoricalLatent(8, 16, groups=2, classes=3), grid=(4, 2))
    probe = probe_of(ForwardModel(spec=SPEC, history=HISTORY, channels=8, latent=latent))
    heading, values = sweep(compose("imagine", CONFIG), probe, make_clip(2))
    assert heading == "2 values of the latent, held" and list(values) == ["value 1", "value 2"]
    for z in values.values():
        choices = z.unflatten(-1, (4 * 2, 2, 3))
        assert z.shape[:2] == (2, HORIZON) and (choices.sum(-1) == 1).all() and choices.amax(-1).eq(1).all()
        assert z.equal(z[:, :1].expand_as(z))
    with pytest.raises(UsageError, match="this latent is discrete"):
        sweep(compose("imagine", [*CONFIG, "dimension=0"]), probe, make_clip(2))


def test_the_dimension_that_changes_most_is_found() -> None:
    probe = make_probe()
    weight = probe.model.expander.linear.weight
    weight.data[:, [0, 2]] *= 0.01
    assert strongest_dimension(probe, make_clip(2), value=2.0) == 1


@pytest.mark.slow
def test_the_command_draws_pictures_and_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ("threads=1", "windows=1", "candidates=4", "horizon=10", "samples=1", "seconds=[0.5,1,3]")
    arguments = [*save_inputs(tmp_path), *small, f"run={tmp_path / 'run'}"]
    assert main(["imagine", str(tmp_path / "model.pt"), *arguments]) == 0
    assert "window_1.png" in capsys.readouterr().out
    assert len(decode_video((tmp_path / "run" / "window_1.mp4").read_bytes())) == 1 + 10 + 10
    page = (tmp_path / "run" / "report.html").read_text()
    assert "data:image/png" in page and "data:video/mp4" in page


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "checkpoint is missing"),
        (["{model}", "dimension=2", "candidates=3"], 2, "dimension=2, but this latent has 2: 0 to 1"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(model=tmp_path / "model.pt") for word in arguments]
    assert main(["imagine", *words, *save_inputs(tmp_path), "windows=1", "horizon=5", "threads=1"]) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
