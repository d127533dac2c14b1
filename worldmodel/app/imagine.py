"""`worldmodel imagine CKPT`: futures of a few held-out windows side by side.

What was recorded; what the model predicts without a latent, with latents from the prior, and along one
dimension of the latent (of a discrete one: with a few of its values), all under the recorded actions; and
under other actions of the ego. Every raster is
seen from where the ego is in that future.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from worldmodel.app.compose import Config, UsageError, show
from worldmodel.app.pictures import eventful_windows
from worldmodel.app.report import write_report
from worldmodel.app.run import Run, versions
from worldmodel.app.windows import held_out, load_probe
from worldmodel.data.dataset import WindowDataset, ego_future
from worldmodel.evaluation.probe import Probe, manoeuvres
from worldmodel.models import world_of
from worldmodel.models.latent import is_discrete
from worldmodel.scene import Channel, draw_road, relative_pose
from worldmodel.types import Clip, Rollout
from worldmodel.viz import (
    Future,
    Media,
    ReportInputs,
    Section,
    encode_png,
    encode_video,
    future_frames,
    future_grid,
)

Rollouts = Mapping[str, Mapping[str, Rollout | None]]
"""Heading -> label -> what the model imagines for all windows; None is what was recorded."""


def main(config: Config) -> None:
    """Draws `window_1.png`, `window_1.mp4` and so on, and `report.html`."""
    torch.set_num_threads(config.threads)
    probe = load_probe(config)
    clip = choose(config, probe)
    rollouts = imagine(config, probe, clip)
    clip = clip.to("cpu")
    run = Run.start(config, "imagine")
    steps = [
        0,
        *(round(one / probe.model.dt) for one in config.seconds if one / probe.model.dt <= config.horizon),
    ]
    sections = []
    with run.timed("draw"):
        for row in range(len(clip.size)):
            sections.append(draw(run, probe, clip, rollouts, row=row, steps=steps))
    write_report(page(config, sections), run.folder)
    run.close()


def choose(config: Config, probe: Probe) -> Clip:
    """Returns the windows, of different vehicles, in which most changes, drawn from the ego's poses."""
    dataset, clips = held_out(config, probe, num=config.candidates)
    chosen = eventful_windows(iter(clips), probe.model, num=config.windows)
    origin = chosen.origin.cpu().numpy()
    drawn = WindowDataset(
        dataset.recordings, origin, history=dataset.history, horizon=dataset.horizon,
        spec=dataset.spec, road_spec=dataset.road_spec, future_views=ego_future,
    )  # fmt: skip
    return drawn.collate(list(origin)).to(config.device)


@torch.no_grad()
def imagine(config: Config, probe: Probe, clip: Clip) -> Rollouts:
    """Returns the futures of all windows, on the CPU.

    Raises:
        UsageError: for a dimension that the latent does not have.
    """
    world, history = world_of(probe.model), probe.model.history
    hidden = world.init(clip.obs(history))
    action = clip.action[:, history - 1 :]
    num_steps, dim = action.shape[1], probe.model.latent.dim
    zero = action.new_zeros(*action.shape[:2], dim)
    rows: dict[str, dict[str, Rollout | None]] = {"recorded actions": {"recorded": None}}
    rows["recorded actions"]["z = 0" if dim else "predicted"] = world.unroll(hidden, action, zero)
    if dim:
        generator = Generator(action.device).manual_seed(config.seed)
        for i in range(config.samples):
            z = world.sample_latent(hidden, num_steps, generator)
            rows["recorded actions"][f"z sample {i + 1}"] = world.unroll(hidden, action, z)
        heading, values = sweep(config, probe, clip)
        rows[heading] = {label: world.unroll(hidden, action, z) for label, z in values.items()}
    ways = manoeuvres(clip.state[:, history - 1, 3], num_steps, world.dt)
    rows["other actions"] = {name: world.unroll(hidden, way, zero) for name, way in ways.items()}
    return {
        heading: {label: one and one.to("cpu") for label, one in futures.items()}
        for heading, futures in rows.items()
    }


def sweep(config: Config, probe: Probe, clip: Clip) -> tuple[str, Mapping[str, Float[Tensor, "B T Z"]]]:
    """Returns a heading, and latents that stay as they are from the first step to the last.

    Of a continuous latent one dimension takes the values `config.sweep`, the others are 0. A discrete one
    takes as many values drawn from its prior, since no number along a dimension of it is one.

    Raises:
        UsageError: for a dimension that the latent does not have.
    """
    num_steps, dim = clip.action.shape[1] - probe.model.history + 1, probe.model.latent.dim
    if is_discrete(probe.model.latent):
        if config.dimension is not None:
            raise UsageError(f"dimension={config.dimension}, but this latent is discrete; leave it out")
        world, generator = world_of(probe.model), Generator(clip.state.device).manual_seed(config.seed)
        hidden = world.init(clip.obs(probe.model.history))
        held = [world.sample_latent(hidden, 1, generator) for _ in config.sweep]
        values = {f"value {i + 1}": z.expand(-1, num_steps, -1) for i, z in enumerate(held)}
        return f"{len(held)} values of the latent, held", values
    axis, zero = _dimension(config, probe, clip), clip.action.new_zeros(len(clip.size), num_steps, dim)
    return (
        f"latent dimension {axis} of {dim}",
        {f"z = {value:+g}": _along(zero, axis, float(value)) for value in config.sweep},
    )


def strongest_dimension(probe: Probe, clip: Clip, *, value: float) -> int:
    """Returns the dimension of the latent that changes the prediction most when set to `value`."""
    world, history = world_of(probe.model), probe.model.history
    hidden, action = world.init(clip.obs(history)), clip.action[:, history - 1 :]
    zero = action.new_zeros(*action.shape[:2], probe.model.latent.dim)
    base = world.unroll(hidden, action, zero).image
    changes = [
        (world.unroll(hidden, action, _along(zero, axis, value)).image - base).square().mean()
        for axis in range(zero.shape[-1])
    ]
    return int(torch.stack(changes).argmax())


def futures(probe: Probe, clip: Clip, rollouts: Rollouts, row: int) -> dict[str, dict[str, Future]]:
    """Returns what is to be drawn for one window."""
    return {
        heading: {
            label: _recorded(probe, clip, row) if one is None else _imagined(probe, clip, one, row)
            for label, one in rows.items()
        }
        for heading, rows in rollouts.items()
    }


def draw(run: Run, probe: Probe, clip: Clip, rollouts: Rollouts, *, row: int, steps: list[int]) -> Section:
    """Writes picture and video of one window, and returns its section of the page."""
    drawn, spec, dt = futures(probe, clip, rollouts, row), probe.model.spec, probe.model.dt
    picture = encode_png(future_grid(drawn, steps, spec, dt=dt))
    video = encode_video(future_frames(drawn, spec, dt=dt), hold=10)
    run.folder.joinpath(f"window_{row + 1}.png").write_bytes(picture)
    run.folder.joinpath(f"window_{row + 1}.mp4").write_bytes(video)
    recording, vehicle, frame = clip.origin[row].tolist()
    where = f"Recording {recording}, vehicle row {vehicle}, frame {frame}."
    media = (Media(picture, where), Media(video, "The same, frame by frame."))
    return Section(f"Window {row + 1}", media=media)


def page(config: Config, sections: list[Section]) -> ReportInputs:
    """Returns what the page shows."""
    return ReportInputs(
        title="Imagined futures",
        question=(
            f"{config.checkpoint}. It drives to the right, our car in blue. Every picture is seen from where "
            "our car is in that future; the others are what the model makes of them."
        ),
        sections=tuple(sections),
        made={"command": "worldmodel imagine", "seed": str(config.seed), **versions()},
        config=show(config),
    )


def _dimension(config: Config, probe: Probe, clip: Clip) -> int:
    dim = probe.model.latent.dim
    if config.dimension is None:
        return strongest_dimension(probe, clip, value=float(max(config.sweep)))
    if not 0 <= config.dimension < dim:
        raise UsageError(f"dimension={config.dimension}, but this latent has {dim}: 0 to {dim - 1}")
    return int(config.dimension)


def _along(zero: Float[Tensor, "B T Z"], axis: int, value: float) -> Float[Tensor, "B T Z"]:
    z = zero.clone()
    z[..., axis] = value
    return z


def _recorded(probe: Probe, clip: Clip, row: int) -> Future:
    raster = clip.image[row, probe.model.history - 1 :].float() / 255
    return Future(raster.numpy(), _boxes(clip, row, len(raster)))


def _imagined(probe: Probe, clip: Clip, rollout: Rollout, row: int) -> Future:
    spec = probe.model.spec
    one = rollout[row : row + 1]
    layers = dict(
        zip((Channel.LANE, Channel.OFF_ROAD), draw_road(one.road, one.view, spec)[0].unbind(1), strict=True)
    )
    layers |= dict(zip(probe.model.predicts, one.image[0].unbind(1), strict=True))
    seen = clip.image[row, probe.model.history - 1].float() / 255
    raster = torch.stack([layers[channel] for channel in spec.channels], dim=1)
    boxes = _boxes(clip, row, len(raster) + 1)
    boxes[1:, :3] = relative_pose(one.ego[0, :, :3], one.view[0]).numpy()
    return Future(torch.cat([seen.unsqueeze(0), raster]).numpy(), boxes)


def _boxes(clip: Clip, row: int, num: int) -> np.ndarray:
    """The ego in its own view."""
    size = clip.size[row].numpy().astype(np.float32)
    return np.concatenate([np.zeros((num, 3), np.float32), np.tile(size, (num, 1))], axis=1)
