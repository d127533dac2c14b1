"""The one place where a world model, a cost and an observation become a function of action sequences.

An online planner sees nothing else: `objective(actions (B, N, T, 2)) -> cost (B, N)`.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.protocols import Cost, Hidden, Objective, WorldModel
from worldmodel.scene import inverse
from worldmodel.types import Obs


@runtime_checkable
class ObjectiveFn(Protocol):
    """Makes the objective of a decision, as `make_objective` does."""

    def __call__(self, model: WorldModel, cost: Cost, obs: Obs, *, discount: float) -> Objective:
        """Returns what action sequences cost."""
        ...


def make_objective(
    model: WorldModel,
    cost: Cost,
    obs: Obs,
    *,
    hidden: Hidden | None = None,
    latent: Float[Tensor, "B T Z"] | None = None,
    previous_action: Float[Tensor, "B 2"] | None = None,
    discount: float = 0.99,
) -> Objective:
    """Returns what an action sequence costs: the discounted cost, averaged over the horizon.

    The history is read once; the candidates of a scene share its latent, so they differ by their actions
    only. The model's hidden state must give the rows of scenes when indexed, as `worldmodel.types.Indexed`
    does.

    Args:
        model: predicts the rollouts; differentiable in the actions if it is to be used with gradients.
        cost: judges them.
        obs: the scenes.
        hidden: what `model.init(obs)` returns, where it is known already.
        latent: of the model, over the whole horizon; drawn from the prior with a fixed seed when left out.
        previous_action: what was executed last; read from the newest two states when left out.
        discount: of a step.
    """
    hidden = model.init(obs) if hidden is None else hidden
    previous_action = last_action(obs, model.dt) if previous_action is None else previous_action
    rows = torch.arange(obs.batch_size, device=obs.state.device)

    @lru_cache(maxsize=2)  # candidates come in chunks of one size, and what is left over
    def fold(num_candidates: int, horizon: int) -> tuple[Hidden, Tensor, Tensor, Tensor]:
        index = rows.repeat_interleave(num_candidates)
        z = latent
        if z is None:
            z = model.sample_latent(hidden, horizon, torch.Generator(rows.device).manual_seed(0))
        weight = discount ** torch.arange(horizon, dtype=z.dtype, device=z.device) / horizon
        return hidden[index], z[index], previous_action[index], weight

    def objective(actions: Float[Tensor, "B N T 2"]) -> Float[Tensor, "B N"]:
        num_candidates, horizon = actions.shape[1:3]
        start, z, before, weight = fold(num_candidates, horizon)
        rollout = model.unroll(start, actions.flatten(0, 1), z)
        total = cost(replace(rollout, previous_action=before)).total  # (B N, T)
        mean: Tensor = (total @ weight).unflatten(0, (-1, num_candidates))
        return mean

    return objective


def last_action(obs: Obs, dt: float) -> Float[Tensor, "B 2"]:
    """Returns the action that led to the newest state; zero where the history has one frame only."""
    if obs.state.shape[1] < 2:
        return torch.zeros_like(obs.state[:, 0, :2])
    return inverse(obs.state[:, -2:], dt)[:, 0]
