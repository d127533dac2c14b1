"""What a perfect tracker with the simplest of forecasts sees: every car keeps the velocity it has now.

It knows what no model of rasters is given, the exact place, size and velocity of everybody who is being
recorded, also beyond the raster. What it misses is what drivers decide. So it says how much of a horizon can
be predicted without guessing at decisions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.scene import RasterSpec, Recording, comoving_views, relative_pose, render_boxes
from worldmodel.types import Clip


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
        poses = relative_pose(comoving_views(state, len(views), recording.dt), views)  # (M, T, 3)
        boxes = torch.cat([poses, size[:, None].expand(-1, len(views), -1)], dim=-1).transpose(0, 1)
        return render_boxes(boxes, torch.ones(boxes.shape[:2], dtype=torch.bool), self.spec)
