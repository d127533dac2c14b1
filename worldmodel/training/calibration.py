"""What is usual for a trained model's uncertainty: measured on recorded driving, kept in the checkpoint.

The uncertainty costs compare the variance with what it is on expert trajectories at the same step of the
horizon (Henaff et al. 2019, section 3.2): that of a fixed context at the ego's pose, and that of members that
unroll the actions themselves.
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from worldmodel.costs import (
    KINDS,
    Disagreement,
    DisagreementPenalty,
    Uncertainty,
    disagreement,
    footprint_variance,
)
from worldmodel.models import ContextSource, ForwardModel, LearntContext, Members
from worldmodel.protocols import Cost
from worldmodel.scene import comoving_views, relative_pose
from worldmodel.types import Clip, Rollout


def calibrate_uncertainty(
    model: ForwardModel,
    clips: Iterable[Clip],
    *,
    num_masks: int = 5,
    num_latents: int = 1,
    source: ContextSource | None = None,
) -> None:
    """Measures the usual footprint variance per step and stores it in the model's buffers.

    Args:
        model: trained; in place.
        clips: training windows; their recorded drivers are the experts.
        num_masks: members of the dropout ensemble, as at planning time.
        num_latents: as at planning time.
        source: what estimates the variance instead of the model under dropout, such as an `EnsembleContext`
            of which `model` is a part.

    Raises:
        ValueError: if there are no clips.
    """
    source = source or LearntContext(model, num_latents=num_latents, num_masks=num_masks)
    found = [_expert_variance(model, source, clip) for clip in clips]
    if not found:
        raise ValueError(
            "no clips to measure the uncertainty on; pass at least one batch of training windows"
        )
    variance = torch.cat(found)
    model.variance_mean = variance.mean(0)
    model.variance_std = variance.std(0).clamp_min(1e-8)


def calibrate_disagreement(
    members: Members,
    clips: Iterable[Clip],
    cost: Cost,
    *,
    history: int,
    hinge: float = 0.5,
    kinds: Sequence[str] = KINDS,
    generator: Generator | None = None,
) -> DisagreementPenalty:
    """Returns the penalty on disagreement, its statistics those of the recorded drivers' own actions.

    Args:
        members: of trained models, as when the penalty is used.
        clips: training windows.
        cost: the one whose variance counts.
        history: frames that the models read.
        hinge: of the penalty.
        kinds: of disagreement that count.
        generator: of the latents, which come from the prior.

    Raises:
        ValueError: if there are fewer than two windows.
    """
    found = [expert_disagreement(members, clip, cost, history=history, generator=generator) for clip in clips]
    if not found:
        raise ValueError("no clips to measure the disagreement on; pass at least one batch of windows")
    usual = Disagreement(*(torch.cat([getattr(one, kind) for one in found]) for kind in KINDS))
    penalty = DisagreementPenalty(usual.image.shape[1], hinge=hinge, kinds=kinds)
    penalty.to(usual.image).fit(usual)
    return penalty


@torch.no_grad()
def expert_disagreement(
    members: Members, clip: Clip, cost: Cost, *, history: int, generator: Generator | None = None
) -> Disagreement:
    """Returns how much the members disagree about the future under the recorded actions."""
    action = clip.action[:, history - 1 :]
    hidden = members.init(clip.obs(history))
    latent = members.sample_latent(hidden, action.shape[1], generator)
    rollout = members.unroll(hidden, action.repeat_interleave(members.num, 0).to(latent), latent)
    return disagreement(rollout, members.num, cost)


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
def _expert_variance(model: ForwardModel, source: ContextSource, clip: Clip) -> Float[Tensor, "B T"]:
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
