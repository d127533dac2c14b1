"""What is usual for a trained model's uncertainty: measured on recorded driving, kept in the checkpoint.

The uncertainty cost compares the variance at the ego's pose with what it is on expert trajectories at the
same step of the horizon (Henaff et al. 2019, section 3.2).
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.costs import Uncertainty, footprint_variance
from worldmodel.models import ForwardModel, LearntContext
from worldmodel.scene import comoving_views, relative_pose
from worldmodel.types import Clip, Rollout


def calibrate_uncertainty(
    model: ForwardModel, clips: Iterable[Clip], *, num_masks: int = 5, num_latents: int = 1
) -> None:
    """Measures the usual footprint variance per step and stores it in the model's buffers.

    Args:
        model: trained; in place.
        clips: training windows; their recorded drivers are the experts.
        num_masks: members of the dropout ensemble, as at planning time.
        num_latents: as at planning time.

    Raises:
        ValueError: if there are no clips.
    """
    source = LearntContext(model, num_latents=num_latents, num_masks=num_masks)
    found = [_expert_variance(model, source, clip) for clip in clips]
    if not found:
        raise ValueError(
            "no clips to measure the uncertainty on; pass at least one batch of training windows"
        )
    variance = torch.cat(found)
    model.variance_mean = variance.mean(0)
    model.variance_std = variance.std(0).clamp_min(1e-8)


def uncertainty_of(model: ForwardModel, *, hinge: float = 1.0) -> Uncertainty:
    """Returns the uncertainty cost with the statistics of a calibrated model.

    Raises:
        ValueError: if the model was never calibrated.
    """
    if not len(model.variance_mean):
        raise ValueError(
            "this model lacks uncertainty statistics; train it with `worldmodel train`, which measures them, "
            "or call calibrate_uncertainty"
        )
    mean, std = model.variance_mean.tolist(), model.variance_std.tolist()
    return Uncertainty(mean=mean, std=std, spec=model.spec, hinge=hinge)


@torch.no_grad()
def _expert_variance(model: ForwardModel, source: LearntContext, clip: Clip) -> Float[Tensor, "B T"]:
    now = clip.state[:, model.history - 1]
    future = clip.state[:, model.history :]
    context = source(clip.obs(model.history), future.shape[1])
    rollout = Rollout(
        image=context.image,
        ego=relative_pose(future, now.unsqueeze(1)),
        view=relative_pose(comoving_views(now, future.shape[1], model.dt), now.unsqueeze(1)),
        action=clip.action[:, model.history - 1 :],
        previous_action=clip.action[:, model.history - 2],
        size=clip.size,
        road=clip.road,
        variance=context.variance,
    )
    return footprint_variance(rollout, model.spec)
