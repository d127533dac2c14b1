"""How unsure the world model is of what it predicts where the ego will be."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from worldmodel.costs.placement import cells, place, unit_grid
from worldmodel.costs.weighted import Terms
from worldmodel.scene import RasterSpec, relative_pose, sample_image
from worldmodel.scene.constant import constant
from worldmodel.scene.raster import DEFAULT_SPEC
from worldmodel.types import Rollout

FOOTPRINT = unit_grid(tuple(2 * i - 1 for i in cells(7)), tuple(2 * i - 1 for i in cells(4)))
"""Where the ego's footprint is sampled: one point for about one pixel."""


def uncertainty_cost(
    variance: Float[Tensor, "*#B"],
    mean: Float[Tensor, "*#B"],
    std: Float[Tensor, "*#B"],
    *,
    hinge: float = 1.0,
) -> Float[Tensor, "*B"]:
    """Returns `log(1 + relu((variance - mean) / std - hinge))`: 0 for what is usual on expert trajectories.

    PPUU's penalty, of which it is the logarithm, is for policies that see recorded situations only. One that
    drives by itself gets to where the variance is hundreds of deviations above what is usual, and a penalty
    that grows so far drowns every other cost.
    """
    return ((variance - mean) / std - hinge).relu().log1p()


@dataclass(frozen=True)
class Uncertainty:
    """Term `uncertainty`: variance of the vehicle channel over the ego's footprint, normalised and hinged.

    Attributes:
        mean: of `footprint_variance` at each step of the horizon, measured on expert trajectories.
        std: its standard deviation at each step.
        spec: of the predicted rasters.
        hinge: deviations up to this many `std` above the mean are free.
        vehicles: index of the vehicle channel among those the model predicts.
    """

    mean: Sequence[float]
    std: Sequence[float]
    spec: RasterSpec = DEFAULT_SPEC
    hinge: float = 1.0
    vehicles: int = 0

    def __call__(self, rollout: Rollout) -> Terms:
        variance = footprint_variance(rollout, self.spec, vehicles=self.vehicles)
        horizon = variance.shape[1]
        if horizon > min(len(self.mean), len(self.std)):
            raise ValueError(
                f"a rollout of {horizon} steps, but uncertainty statistics for {len(self.mean)}; "
                "lower the horizon or measure the statistics over a longer one"
            )
        mean, std = (variance.new_tensor(list(one)[:horizon]) for one in (self.mean, self.std))
        return {"uncertainty": uncertainty_cost(variance, mean, std, hinge=self.hinge)}


def footprint_variance(rollout: Rollout, spec: RasterSpec, *, vehicles: int = 0) -> Float[Tensor, "B T"]:
    """Returns the mean variance of the vehicle channel over the ego's footprint.

    Raises:
        ValueError: when the world model does not estimate a variance.
    """
    if rollout.variance is None:
        raise ValueError(
            "the rollout has no variance; use a world model that estimates one (dropout at inference) "
            "or leave the uncertainty cost out"
        )
    pose = relative_pose(rollout.ego, rollout.view)
    footprint = constant(FOOTPRINT, pose) * (rollout.size / 2)[:, None, None]  # (B, 1, P, 2)
    return sample_image(rollout.variance[:, :, vehicles], place(footprint, pose), spec).mean(-1)
