"""What optimisers share, and chains of them."""

import math
from functools import partial

import torch
from torch import Tensor

from planners import Minimum, Optimizer, adam, cem, chain, icem, lbfgs, mppi, random_shooting
from planners.optimizer import cheapest, improved, never, nothing_yet

LOW, HIGH = torch.tensor(-1.0), torch.tensor(1.0)


def bowl(point: Tensor) -> Tensor:
    return (point - 0.4).square().sum(2)


def test_all_of_them_are_optimizers() -> None:
    for one in (adam, cem, icem, lbfgs, mppi, random_shooting):
        assert isinstance(partial(one, num_iterations=3), Optimizer)
    assert isinstance(partial(chain, stages=[cem, adam]), Optimizer)


def test_the_cheapest_candidate_is_chosen_and_nan_is_not() -> None:
    point = torch.arange(6.0).reshape(2, 3, 1)
    found = cheapest(point, torch.tensor([[math.nan, 2.0, 1.0], [math.nan, math.nan, math.inf]]))
    assert found.argument.tolist() == [[2.0], [3.0]] and found.cost.tolist() == [1.0, math.inf]


def test_only_what_is_better_replaces_what_was_found() -> None:
    found = Minimum(torch.tensor([[1.0], [1.0], [1.0]]), torch.tensor([5.0, 5.0, math.inf]))
    after = improved(found, torch.tensor([[2.0], [2.0], [2.0]]), torch.tensor([4.0, math.nan, 5.0]))
    assert after.argument.tolist() == [[2.0], [1.0], [2.0]] and after.cost.tolist() == [4.0, 5.0, 5.0]
    assert nothing_yet(after.argument).cost.tolist() == [math.inf] * 3


def test_a_stage_starts_where_the_one_before_ended() -> None:
    starts = []

    def stage(objective, start, **kwargs) -> Minimum:
        starts.append(start)
        return adam(objective, start, low=LOW, high=HIGH, num_iterations=3, learning_rate=0.05)

    first = partial(random_shooting, num_iterations=1)
    found = chain(
        bowl, torch.zeros(1, 2, 3), low=LOW, high=HIGH, generator=torch.Generator().manual_seed(0),
        stages=[first, stage, stage],
    )  # fmt: skip
    alone = first(bowl, torch.zeros(1, 2, 3), low=LOW, high=HIGH, generator=torch.Generator().manual_seed(0))
    assert starts[0].shape == (1, 1, 3) and torch.equal(starts[0][:, 0], alone.argument)
    assert bowl(starts[1]) < bowl(starts[0]) and found.cost <= bowl(starts[1]).squeeze(1)


def test_a_worse_stage_is_not_believed() -> None:
    def liar(objective, start, **kwargs) -> Minimum:
        return Minimum(torch.ones(1, 3), torch.tensor([9.0]))

    found = chain(bowl, torch.zeros(1, 1, 3), low=LOW, high=HIGH, stages=[adam, liar])
    assert found.cost.item() < 1e-2 and (found.argument < 1.0).all()


def test_no_stage_begins_when_the_time_is_up() -> None:
    found = chain(bowl, torch.zeros(1, 1, 3), low=LOW, high=HIGH, is_over=lambda: True, stages=[adam, adam])
    assert torch.equal(found.argument, torch.zeros(1, 3)) and not never()
