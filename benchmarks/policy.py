"""How long a step of policy learning takes per sample, ours against PPUU's own, and a policy's decision.

A step of MPUR: 30 imagined steps, costs, uncertainty over dropout copies, gradient to the policy. PPUU's
(`_ppuu.py` and the policy below) takes batches of 6, 10 copies whose masks are drawn anew at every step, and
computes gradients of the model's weights that nobody uses. Milliseconds of CPU on one thread, median; rasters
are drawn before; the weights are random. Our model is what `worldmodel train` ends with, latent and all.
The practice of `policy=mpur` (driving, which PPUU has not) is not part of a step.

  ppuu_ms             per sample of PPUU's step
  mpur_ms             of `policy=mpur` (fixed context, 3 copies)
  mpur_ten_ms         the same with 10 copies
  mpur_split_ms       of `policy=mpur_split` (gradient through every raster, 10 copies)
  speedup_*           PPUU's over these
  decision_ms         a decision of the policy planner, one scene
  hybrid_ms           a decision of the hybrid: the policy drives in the model, the planner improves on it
  peak_gb             most memory held during our steps, libraries included; PPUU's step: `ppuu_gb`
"""

from collections.abc import Callable
from itertools import pairwise

import _ppuu
import _report
import torch
from _default import default_model
from planner import decision_ms, make_obs
from torch import Tensor, nn

from planners import GradientPlanner
from planners.policy import (
    ContextStart,
    Disagreement,
    ImaginedCost,
    PolicyLossFn,
    PolicyNetwork,
    PolicyPlanner,
    PolicyProposal,
    WorldStart,
)
from worldmodel.app.run import peak_memory
from worldmodel.costs import DisagreementPenalty, Uncertainty, motorway_cost, ppuu_proximity_cost
from worldmodel.models import EgoSplit, FixedContext, ForwardModel, LearntContext, dropout_members
from worldmodel.scene import RasterSpec
from worldmodel.types import Clip, Obs

HORIZON, BATCH, COPIES = 30, 6, 10
HINGE, DISCOUNT = 0.5, 0.99


class PPUUPolicy(nn.Module):
    """PPUU's deterministic policy: 20 frames with the ego's own, states -> action; 6.5 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = _ppuu.encoder(_ppuu.HISTORY * (_ppuu.CHANNELS + 1))
        self.states = _ppuu.mlp(_ppuu.HISTORY * _ppuu.STATE, _ppuu.SIZE)
        sizes = [_ppuu.SIZE, 256, 256, 256, 256]
        parts = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
        self.head = nn.Sequential(*parts, nn.Linear(256, 2))

    def forward(self, image: Tensor, state: Tensor, ego: Tensor) -> Tensor:
        framed = torch.cat([image, ego.expand(-1, image.shape[1], -1, -1, -1)], dim=2)
        code = self.frames(framed.flatten(1, 2)).flatten(1) + self.states(state.flatten(1))
        return self.head(code)


class PPUUStep:
    """One step of MPUR as published."""

    def __init__(self) -> None:
        self.model, self.policy = _ppuu.PPUU(), PPUUPolicy()
        self.image = torch.rand(BATCH, _ppuu.HISTORY, _ppuu.CHANNELS, 117, 24)
        self.state = torch.randn(BATCH, _ppuu.HISTORY, _ppuu.STATE)
        self.ego = torch.rand(BATCH, 1, 1, 117, 24)

    def __call__(self) -> None:
        self.policy.zero_grad()
        cost, action = self.drive()
        (cost.mean() + 0.05 * self.uncertainty(action)).backward()

    def drive(self) -> tuple[Tensor, Tensor]:
        """Cost and actions of the policy in closed loop, the model without dropout."""
        self.model.eval()
        image, state, costs, actions = self.image, self.state, [], []
        for tick in range(HORIZON):
            action = self.policy(image, state, self.ego)
            seen = self.model(image, state, action.unsqueeze(1))
            image = torch.cat([image[:, 1:], seen.image], dim=1)
            state = torch.cat([state[:, 1:], seen.state], dim=1)
            costs.append(DISCOUNT**tick * self.cost(seen.image, seen.state))
            actions.append(action)
        return torch.cat(costs, dim=1), torch.stack(actions, dim=1)

    def uncertainty(self, action: Tensor) -> Tensor:
        """Variances over copies with dropout, normalised and hinged."""
        self.model.train()
        parts = (part.repeat_interleave(COPIES, 0) for part in (self.image, self.state, action))
        seen = self.model(*parts)
        cost = self.cost(seen.image, seen.state)
        spread = [part.unflatten(0, (-1, COPIES)).var(1) for part in (seen.image, seen.state, cost)]
        means = [part.flatten(2).mean(-1) if part.ndim > 2 else part for part in spread]
        return sum(((part - 0.1) / 0.1 - HINGE).relu().mean() for part in means)  # type: ignore[return-value]

    def cost(self, image: Tensor, state: Tensor) -> Tensor:
        size = torch.tensor([[4.8, 1.9]]).expand(len(image), 2)
        speed = state[..., 2] * 5 + 10
        return ppuu_proximity_cost(image[:, :, 1], size, speed, spec=RasterSpec())


def make_clip(obs: Obs) -> Clip:
    """A window of an observation and nothing after it."""
    num = obs.state.shape[1]
    return Clip(
        image=obs.image,
        state=obs.state,
        action=torch.zeros(len(obs.state), num - 1, 2),
        view=obs.state[..., :3],
        covered=torch.ones(*obs.image.shape[:2], obs.image.shape[3], dtype=torch.bool),
        size=obs.size,
        road=obs.road,
        origin=obs.origin,
    )


def make_context_loss(model: ForwardModel, num_masks: int) -> PolicyLossFn:
    usual = Uncertainty(mean=[0.0] * HORIZON, std=[1e-3] * HORIZON, hinge=HINGE)
    cost = motorway_cost(extra=(usual,), weights={"uncertainty": 0.5})
    return ImaginedCost(ContextStart(model, num_masks=num_masks), cost)


def make_split_loss(model: ForwardModel) -> PolicyLossFn:
    penalty = DisagreementPenalty(HORIZON, hinge=HINGE)
    penalty.mean.zero_()
    penalty.std.fill_(1e-3)

    def members(*, generator: torch.Generator):
        return dropout_members(model, num=COPIES, generator=generator)

    extra = Disagreement(members, motorway_cost(), penalty)
    return ImaginedCost(WorldStart(EgoSplit(model)), motorway_cost(), extras=(extra,))


def make_step(loss_fn: PolicyLossFn, clip: Clip) -> Callable[[], None]:
    policy, generator = PolicyNetwork(), torch.Generator().manual_seed(0)

    def step() -> None:
        policy.zero_grad()
        loss_fn(policy, clip, generator=generator).total.backward()

    return step


def milliseconds(work: Callable[[], object], *, repeats: int = 5) -> float:
    """CPU time, median after a warm-up."""
    return 1e3 / _report.rate(work, count=1, repeats=repeats)


def main() -> None:
    path = _report.parse(__doc__ or "")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = default_model().eval().requires_grad_(False)
    one = make_obs(model.history, model.spec)
    clip = make_clip(make_obs(model.history, model.spec, num_scenes=BATCH))
    losses = {
        "mpur": make_context_loss(model, 3),
        "mpur_ten": make_context_loss(model, COPIES),
        "mpur_split": make_split_loss(model),
    }
    rows = {f"{name}_ms": milliseconds(make_step(fn, clip)) / BATCH for name, fn in losses.items()}
    policy, world = PolicyNetwork(), FixedContext(LearntContext(model))
    rows["decision_ms"] = decision_ms(PolicyPlanner(policy), one, num_decisions=100)
    hybrid = PolicyProposal(policy, GradientPlanner(world, motorway_cost()))
    rows["hybrid_ms"] = decision_ms(hybrid, one, num_decisions=30)
    rows["peak_gb"] = peak_memory()
    rows["ppuu_ms"] = milliseconds(PPUUStep(), repeats=1) / BATCH
    rows["ppuu_gb"] = peak_memory()
    rows |= {f"speedup_{name}": rows["ppuu_ms"] / rows[f"{name}_ms"] for name in losses}
    _report.report("policy", rows, path)


if __name__ == "__main__":
    main()
