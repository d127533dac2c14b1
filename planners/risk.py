"""Objectives that look at several futures at once, and what they make of them: the mean, the worst, the tail.

The futures of a scene are the same for all candidates (common random numbers), so that candidates differ by
their actions only. They come from a model's latents (`make_latent_objective`), or from members that disagree
(`make_member_objective`). Either goes into `OnlinePlanner(objective_fn=partial(...))`.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from planners.objective import make_objective
from worldmodel.models import Members
from worldmodel.protocols import Cost, Hidden, Objective, WorldModel
from worldmodel.types import Obs

Risk = Callable[[Float[Tensor, "B N L"]], Float[Tensor, "B N"]]
"""Costs in each of `L` futures -> one cost; NaN in any of them is NaN."""


def mean(cost: Float[Tensor, "B N L"]) -> Float[Tensor, "B N"]:
    """Returns what is to be expected."""
    return cost.mean(dim=2)


def worst(cost: Float[Tensor, "B N L"]) -> Float[Tensor, "B N"]:
    """Returns the highest cost of all futures."""
    return cost.amax(dim=2)


def cvar(cost: Float[Tensor, "B N L"], *, share: float = 0.25) -> Float[Tensor, "B N"]:
    """Returns the mean of the worst `share` of the futures: conditional value at risk (Rockafellar 2000).

    A share of 1 is the mean; one that holds a single future is the worst.
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share={share} of the futures, expected more than 0 and at most 1")
    return cost.topk(math.ceil(share * cost.shape[2]), dim=2).values.mean(dim=2)


def make_latent_objective(
    model: WorldModel,
    cost: Cost,
    obs: Obs,
    *,
    discount: float = 0.99,
    num_latents: int = 8,
    risk: Risk = mean,
    seed: int = 0,
) -> Objective:
    """Returns what an action sequence costs in the futures of `num_latents` draws from the prior.

    Args:
        model: stochastic; a deterministic one gives the same future again and again.
        cost: judges each future.
        obs: the scenes.
        discount: of a step.
        num_latents: futures; so many rows are evaluated for each candidate.
        risk: what they come to.
        seed: of the latents, the same for every scene.
    """
    hidden = model.init(obs)
    rows = torch.arange(obs.batch_size, device=obs.state.device).repeat_interleave(num_latents)

    def draw(hidden: Hidden, horizon: int) -> Tensor:
        """Scene by scene, so that a scene's latents do not depend on what it is batched with."""
        parts = []
        for row in range(obs.batch_size):
            generator = Generator(rows.device).manual_seed(seed)
            mine = hidden[rows.new_full((num_latents,), row)]
            parts.append(model.sample_latent(mine, horizon, generator))
        return torch.cat(parts)

    return _over_futures(
        lambda horizon: make_objective(
            model, cost, obs[rows], hidden=hidden[rows], latent=draw(hidden, horizon), discount=discount
        ),
        num_futures=num_latents,
        risk=risk,
    )


def make_member_objective(
    model: Members, cost: Cost, obs: Obs, *, discount: float = 0.99, risk: Risk = mean, seed: int = 0
) -> Objective:
    """Returns what an action sequence costs by each member of a model, as in `make_latent_objective`."""
    hidden = model.init(obs)
    rows = torch.arange(obs.batch_size, device=obs.state.device).repeat_interleave(model.num)

    def whole(horizon: int) -> Objective:
        latent = model.sample_latent(hidden, horizon, Generator(rows.device).manual_seed(seed))
        return make_objective(model, cost, obs[rows], hidden=hidden, latent=latent, discount=discount)

    return _over_futures(whole, num_futures=model.num, risk=risk)


def _over_futures(make: Callable[[int], Objective], *, num_futures: int, risk: Risk) -> Objective:
    """Asks the objective of a horizon, whose rows are scenes times futures, and sums the futures up."""
    whole = lru_cache(maxsize=1)(make)

    def objective(actions: Float[Tensor, "B N T 2"]) -> Float[Tensor, "B N"]:
        cost = whole(actions.shape[2])(actions.repeat_interleave(num_futures, dim=0))
        return risk(cost.unflatten(0, (-1, num_futures)).transpose(1, 2))

    return objective
