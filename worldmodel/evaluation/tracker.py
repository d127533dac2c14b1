"""What a perfect tracker with the simplest of forecasts sees: every car keeps the velocity it has now.

It knows what no model of rasters is given, the exact place, size and velocity of everybody there is, also
beyond the raster. What it misses is what drivers decide. So it says how much of a horizon can be predicted
without guessing at decisions, and how well one can drive by that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldmodel.evaluation.truth import OthersSource
from worldmodel.models import Context
from worldmodel.protocols import Knowledge
from worldmodel.scene import RasterSpec, Recording, comoving_views, relative_pose, render_boxes
from worldmodel.types import Clip, Obs


@dataclass(frozen=True)
class ConstantVelocity:
    """Carries every recorded car on along its heading, at the speed of the newest frame: a `Predictor`.

    It leaks: speeds of smoothed recordings have seen half a window of the future (1 s as they come).

    Attributes:
        recordings: those that `Clip.origin` numbers.
        history: frames up to the present, `K`.
        spec: of the rasters.
    """

    recordings: Sequence[Recording]
    history: int
    spec: RasterSpec

    def __call__(self, clip: Clip) -> Float[Tensor, "1 B T 1 H W"]:
        """Returns the vehicles, drawn from where the windows are."""
        views = clip.view[:, self.history :].double().cpu()  # where the recordings are
        drawn = [self._draw(*one) for one in zip(clip.origin.tolist(), views, strict=True)]
        return torch.stack(drawn)[None, :, :, None].to(clip.view)

    def _draw(self, origin: Sequence[int], views: Float[Tensor, "T 3"]) -> Float[Tensor, "T H W"]:
        number, row, frame = origin
        recording = self.recordings[number]
        others = recording.tracks.valid[:, frame].copy()
        others[row] = False
        state, size = (
            torch.from_numpy(part)
            for part in (recording.tracks.state[others, frame], recording.tracks.size[others])
        )
        there = torch.ones(len(state), dtype=torch.bool)
        return draw_carried_on(state, size, there, views=views, dt=recording.dt, spec=self.spec)


class ConstantVelocityContext:
    """Everybody around keeps the velocity he has at the decision: a `ContextSource`.

    What it is told ends with the newest frame, wherever there are vehicles to tell of: in recorded, in
    simulated and in highway-env's traffic. It leaks as `ConstantVelocity` does, in recorded traffic only.

    Args:
        source: knows who is around.
        spec: of the rasters.
        dt: [s]
    """

    needs = frozenset({Knowledge.OTHERS})

    def __init__(self, source: OthersSource, *, spec: RasterSpec | None = None, dt: float = 0.1) -> None:
        self.source, self.spec, self.dt = source, spec or RasterSpec(), dt

    def __call__(self, obs: Obs, num_steps: int) -> Context:
        """Returns the vehicles at each step, seen from the co-moving frame."""
        others = self.source.others(obs)
        box, speed, there = (torch.from_numpy(part) for part in (others.box, others.speed, others.valid))
        state = torch.cat([box[..., :3], speed[..., None]], dim=-1)
        views = comoving_views(obs.state[:, -1].double().cpu(), num_steps, self.dt)
        image = draw_carried_on(state, box[..., 3:], there, views=views, dt=self.dt, spec=self.spec)
        return Context(image.unsqueeze(2).to(obs.state))


def draw_carried_on(
    state: Float[Tensor, "*B V 4"],
    size: Float[Tensor, "*B V 2"],
    valid: Bool[Tensor, "*B V"],
    *,
    views: Float[Tensor, "*B T 3"],
    dt: float,
    spec: RasterSpec,
) -> Float[Tensor, "*B T H W"]:
    """Returns vehicles that keep speed and heading, 1 .. `T` steps later.

    Args:
        state: in the world; in float64 where coordinates are large.
        size: length and width [m].
        valid: whether there is such a vehicle.
        views: from where each step is seen.
        dt: of a step [s].
        spec: of the rasters.
    """
    poses = comoving_views(state, views.shape[-2], dt).transpose(-3, -2)  # (*B, T, V, 3)
    seen = relative_pose(poses, views.unsqueeze(-2)).float()
    boxes = torch.cat([seen, size.float().unsqueeze(-3).expand(*seen.shape[:-1], 2)], dim=-1)
    return render_boxes(boxes, valid.unsqueeze(-2).expand(boxes.shape[:-1]), spec)
