"""What a policy is trained on: losses of a policy and a batch of training windows.

- `ImaginedCost`: drive in imagination, pay the cost. VG in a deterministic world, SVG in a stochastic one;
  with an uncertainty penalty it is MPUR, with a value at the horizon's end it looks further.
- `ExpertDistance`: drive in imagination, pay the distance to what the expert did: MPER.
- `Imitation`: make the recorded action likely.
- `Distillation` (`planners.policy.distillation`): do what the planner would have done.

(Henaff et al. 2019, sections 3 and 4; `docs/choosing-a-planner.md` says when to use which.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from planners.policy.imagine import Imagination, ImagineFn, Start, imagine, noise_for
from planners.policy.network import PolicyNetwork
from planners.policy.start import ContextStart, StartFn
from planners.policy.view import VEHICLES, view_of
from worldmodel import costs
from worldmodel.costs import DisagreementPenalty, disagreement
from worldmodel.models.members import Members
from worldmodel.models.view import move_view
from worldmodel.protocols import Cost, Knowledge
from worldmodel.scene import Channel, RasterSpec, relative_pose
from worldmodel.types import Clip, CostTerms


@dataclass(frozen=True)
class PolicyLoss:
    """What to minimise, and what it is made of, for the log."""

    total: Float[Tensor, ""]
    terms: Mapping[str, Float[Tensor, ""]]


@runtime_checkable
class PolicyLossFn(Protocol):
    """Policy, training windows, random numbers -> loss."""

    @property
    def modules(self) -> Sequence[nn.Module]:
        """What is trained beside the policy."""
        ...

    def prepare(self, clips: Sequence[Clip], *, generator: Generator) -> None:
        """Measures on recorded driving what has to be known beforehand."""
        ...

    def __call__(self, policy: PolicyNetwork, clip: Clip, *, generator: Generator) -> PolicyLoss:
        """Returns the loss, differentiable in the policy's parameters."""
        ...


@dataclass(frozen=True)
class Drive:
    """An imagined drive and what it cost, for what is added to the cost."""

    start: Start
    dream: Imagination
    cost: CostTerms
    discount: float


@runtime_checkable
class Extra(Protocol):
    """Something that is added to the imagined cost."""

    @property
    def modules(self) -> Sequence[nn.Module]:
        """What is trained beside the policy."""
        ...

    def prepare(self, clips: Sequence[Clip], *, history: int, generator: Generator) -> None:
        """Measures on recorded driving what has to be known beforehand."""
        ...

    def __call__(self, policy: PolicyNetwork, drive: Drive, *, generator: Generator) -> PolicyLoss:
        """Returns a loss, weighted as it is to be added."""
        ...


@dataclass(frozen=True)
class ImaginedCost:
    """The discounted cost of driving in imagination, averaged over the horizon.

    `mean_b 1/T sum_t gamma^t C(s_t)`, the gradient through the frozen world model to the policy.

    Attributes:
        start_fn: where imagination starts; decides world model and latents.
        cost: of a rollout.
        horizon: imagined steps.
        discount: of a step.
        extras: further losses of the same drive: `Disagreement`, `Value`.
        imagine_fn: which way the gradient takes.

    Raises:
        ValueError: on use, the policy draws its actions, and the model knows no chance.
    """

    start_fn: StartFn
    cost: Cost
    horizon: int = 30
    discount: float = 0.99
    extras: Sequence[Extra] = ()
    imagine_fn: ImagineFn = field(default=imagine)

    @property
    def modules(self) -> Sequence[nn.Module]:
        """Those of the extras."""
        return [module for extra in self.extras for module in extra.modules]

    def prepare(self, clips: Sequence[Clip], *, generator: Generator) -> None:
        """Prepares the extras."""
        for extra in self.extras:
            extra.prepare(clips, history=self.start_fn.history, generator=generator)

    def __call__(self, policy: PolicyNetwork, clip: Clip, *, generator: Generator) -> PolicyLoss:
        if policy.num_noise and isinstance(self.start_fn, ContextStart):
            self.start_fn.check_latent()
        start = self.start_fn(policy, clip, horizon=self.horizon, generator=generator)
        dream = self.imagine_fn(policy, start, noise=noise_for(policy, start, generator))
        cost = self.cost(dream.rollout)
        weight = discounts(self.horizon, self.discount, like=cost.total)
        total = (cost.total @ weight).mean()
        terms = {
            f"cost/{name}": cost.weights[name] * (term @ weight).mean().detach()
            for name, term in cost.terms.items()
        }
        terms["cost"] = total.detach()
        drive = Drive(start, dream, cost, self.discount)
        for extra in self.extras:
            added = extra(policy, drive, generator=generator)
            total, terms = total + added.total, {**terms, **added.terms}
        return PolicyLoss(total, terms)


@runtime_checkable
class MembersFn(Protocol):
    """Random numbers -> members (`worldmodel.models.members`)."""

    def __call__(self, *, generator: Generator) -> Members:
        """Returns dropout copies with masks of their own, or an ensemble."""
        ...


@dataclass(frozen=True)
class Disagreement:
    """MPUR's regulariser: how much dropout copies, or an ensemble, disagree about what the policy does.

    The copies unroll the policy's actions and latents in one call, the gradient passing through them.

    Attributes:
        members_fn: random numbers -> members, with masks of their own for every batch.
        cost: whose variance is taken, too.
        penalty: normalised by what is usual for recorded driving, and hinged.
        weight: `u_reg`.
    """

    members_fn: MembersFn
    cost: Cost
    penalty: DisagreementPenalty
    weight: float = 0.5

    @property
    def modules(self) -> Sequence[nn.Module]:
        """None: the statistics are measured, not trained."""
        return ()

    @torch.no_grad()
    def prepare(self, clips: Sequence[Clip], *, history: int, generator: Generator) -> None:
        """Measures what is usual: how much members disagree about the recorded drivers' own actions."""
        found = []
        for clip in clips:
            members = self.members_fn(generator=generator)
            action = clip.action[:, history - 1 : history - 1 + self.penalty.horizon]
            hidden = members.init(clip.obs(history))
            latent = members.sample_latent(hidden, action.shape[1], generator)
            rollout = members.unroll(hidden, action.repeat_interleave(members.num, 0), latent)
            found.append(disagreement(rollout, members.num, self.cost).stacked())
        self.penalty.fit(costs.Disagreement(*torch.cat(found, dim=1)))

    def __call__(self, policy: PolicyNetwork, drive: Drive, *, generator: Generator) -> PolicyLoss:
        start, action = drive.start, drive.dream.rollout.action
        members = self.members_fn(generator=generator)
        with torch.no_grad():
            hidden = members.init(start.obs)
        repeated = (part.repeat_interleave(members.num, 0) for part in (action, start.latent))
        found = disagreement(members.unroll(hidden, *repeated), members.num, self.cost)
        value = self.penalty(found).mean()
        return PolicyLoss(self.weight * value, {"uncertainty": value.detach()})


@dataclass(frozen=True)
class Imitation:
    """One-step imitation: the negative log-likelihood of the recorded action.

    Attributes:
        history: frames up to the present.
    """

    needs = frozenset({Knowledge.LOG})
    history: int = 10

    @property
    def modules(self) -> Sequence[nn.Module]:
        """None."""
        return ()

    def prepare(self, clips: Sequence[Clip], *, generator: Generator) -> None:
        """Does nothing."""

    def __call__(self, policy: PolicyNetwork, clip: Clip, *, generator: Generator) -> PolicyLoss:
        view = view_of(clip.obs(self.history), policy.view_spec)
        nll = -policy.log_prob(view, clip.action[:, self.history - 1]).mean()
        return PolicyLoss(nll, {"nll": nll.detach()})


@dataclass(frozen=True)
class ExpertDistance:
    """MPER: the squared distance of imagined rasters and states to the recorded ones.

    `mean_t |image_t - image*_t|^2 + |state_t - state*_t|^2`, each image as seen by its own ego, latents from
    the posterior where the world model has any.

    Attributes:
        start_fn: where imagination starts.
        spec: of the rasters.
        horizon: imagined steps; no more than are recorded.
        state_scale: what counts as a unit of x, y [m], heading [rad], speed [m/s].
        imagine_fn: which way the gradient takes.
    """

    needs = frozenset({Knowledge.LOG, Knowledge.FUTURE})
    start_fn: StartFn
    spec: RasterSpec
    horizon: int = 20
    state_scale: Sequence[float] = (2.0, 0.5, 0.02, 1.5)
    imagine_fn: ImagineFn = field(default=imagine)

    @property
    def modules(self) -> Sequence[nn.Module]:
        """None."""
        return ()

    def prepare(self, clips: Sequence[Clip], *, generator: Generator) -> None:
        """Does nothing."""

    def __call__(self, policy: PolicyNetwork, clip: Clip, *, generator: Generator) -> PolicyLoss:
        history = self.start_fn.history
        start = self.start_fn(policy, clip, horizon=self.horizon, generator=generator)
        rollout = self.imagine_fn(policy, start, noise=noise_for(policy, start, generator)).rollout
        now, frames = clip.state[:, history - 1 : history], slice(history, history + self.horizon)
        recorded = relative_pose(clip.state[:, frames], now)
        view = relative_pose(clip.view[:, frames], now)
        channel = self.spec.channels.index(Channel.VEHICLES)
        image = clip.image[:, frames, channel : channel + 1].to(recorded.dtype) / 255
        known = clip.covered[:, frames, None, :, None].expand_as(image).to(image)
        truth = self._seen(torch.cat([image, known], dim=2), view, recorded)
        guess = self._seen(rollout.image[:, :, VEHICLES : VEHICLES + 1], rollout.view, rollout.ego)
        error = ((guess - truth[:, :, :1]).square() * truth[:, :, 1:]).mean()
        away = ((rollout.ego - recorded) / rollout.ego.new_tensor(list(self.state_scale))).square().mean()
        return PolicyLoss(error + away, {"image": error.detach(), "state": away.detach()})

    def _seen(
        self, image: Float[Tensor, "B T C H W"], view: Float[Tensor, "B T 3"], ego: Float[Tensor, "B T 4"]
    ) -> Float[Tensor, "B T C H W"]:
        """Returns images drawn at `view` as the ego sees them."""
        pose = relative_pose(ego[..., :3], view)
        seen: Tensor = move_view(image.flatten(0, 1), pose.flatten(0, 1), self.spec)
        return seen.unflatten(0, pose.shape[:2])  # type: ignore[no-any-return]


def discounts(horizon: int, discount: float, *, like: Tensor) -> Float[Tensor, " T"]:
    """Returns the weight of each step: `gamma^t / T`."""
    steps = torch.arange(horizon, dtype=like.dtype, device=like.device)
    return discount**steps / horizon
