"""What a cost would say anywhere: one instant evaluated at a grid of ego poses, as heat on the raster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import matplotlib
import numpy as np
import torch
from jaxtyping import Float

from worldmodel.protocols import Cost
from worldmodel.scene import RasterSpec, compose_pose, relative_pose
from worldmodel.types import Rollout
from worldmodel.viz.draw import draw_ego, paint_raster
from worldmodel.viz.layout import Picture, grid

CHUNK = 512
"""Poses evaluated together; bounds the memory."""


@dataclass(frozen=True)
class CostField:
    """Weighted cost terms, and their `total`, over the raster's extent, turned as its picture is.

    Attributes:
        raster: the frame the cost was evaluated on.
        ego: box of the ego in the raster's view frame.
    """

    terms: Mapping[str, Float[np.ndarray, "Y X"]]
    raster: Float[np.ndarray, "C H W"]
    ego: Float[np.ndarray, " 5"]


@torch.no_grad()
def evaluate_field(
    cost: Cost, rollout: Rollout, step: int, *, spec: RasterSpec, spacing: float = 0.6
) -> CostField:
    """Returns what `cost` says where the ego, with its speed and heading of that frame, could be.

    Args:
        rollout: the first scene's frame `step` (0 = the first predicted) is looked at.
        spacing: between positions [m].
    """
    ahead = torch.arange(-spec.length_ahead + spacing / 2, spec.length_ahead, spacing)
    left = torch.arange(spec.length_aside - spacing / 2, -spec.length_aside, -spacing)
    local = torch.stack(torch.meshgrid(ahead, left, indexing="xy"), dim=-1).flatten(0, 1)  # (Y X, 2)
    ego, view = rollout.ego[0, step], rollout.view[0, step]
    local = torch.cat([local, (ego[2] - view[2]).expand(len(local), 1)], dim=1)
    poses = compose_pose(local, view.expand(len(local), 3))
    poses = torch.cat([poses, ego[3].expand(len(local), 1)], dim=1)
    parts: dict[str, list[torch.Tensor]] = {}
    for chunk in poses.split(CHUNK):
        found = cost(_frame_at(rollout, step, chunk))
        for name, term in found.terms.items():
            parts.setdefault(name, []).append(found.weights[name] * term[:, 0])
        parts.setdefault("total", []).append(found.total[:, 0])
    shape = (len(left), len(ahead))
    terms = {name: torch.cat(part).reshape(shape).numpy() for name, part in parts.items()}
    box = torch.cat([relative_pose(ego[:3], view), rollout.size[0]])
    return CostField(terms, rollout.image[0, step].numpy(), box.numpy().astype(float))


def draw_field(
    field: CostField,
    spec: RasterSpec,
    *,
    terms: Sequence[str] = ("total",),
    scale: int = 5,
    top: float = 0.98,
) -> Picture:
    """Returns the raster and, below it, one heat map per term; colours run to the `top` quantile of each."""
    plain = draw_ego(paint_raster(field.raster, spec, scale=scale), field.ego, spec, scale=scale)
    pictures, names = [plain], ["what the model sees"]
    for name in terms:
        values = field.terms[name]
        low, high = float(values.min()), float(np.quantile(values, top))
        share = np.clip((values - low) / max(high - low, 1e-9), 0.0, 1.0)
        smooth = cv2.resize(share, plain.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        heat = np.asarray(matplotlib.colormaps["inferno"](smooth))[..., :3] * 255
        mixed = (0.8 * heat + 0.2 * plain).round().astype(np.uint8)
        pictures.append(draw_ego(mixed, field.ego, spec, scale=scale))
        names.append(f"{name}  {low:.1f} to {high:.1f}")
    return grid([[one] for one in pictures], rows=names)


def _frame_at(rollout: Rollout, step: int, poses: torch.Tensor) -> Rollout:
    """One frame seen by many egos: views of the same tensors, no copies."""
    num = len(poses)

    def repeat(part: torch.Tensor) -> torch.Tensor:
        return part[0:1, step : step + 1].expand(num, *part[0:1, step : step + 1].shape[1:])

    return Rollout(
        image=repeat(rollout.image),
        ego=poses[:, None],
        view=repeat(rollout.view),
        action=repeat(rollout.action),
        previous_action=rollout.action[0:1, max(step - 1, 0)].expand(num, 2),
        size=rollout.size[0:1].expand(num, 2),
        road=rollout.road[0:1].expand(num, *rollout.road.shape[1:]),
        variance=None if rollout.variance is None else repeat(rollout.variance),
    )
