"""The order of the training windows: by the step's number alone, and shared out among processes."""

import pytest
import torch

from worldmodel.data.sampler import MirrorSampler, StepSampler, balanced


def batches(sampler: StepSampler) -> list[list[int]]:
    items, size = list(sampler), sampler.batch_size
    assert len(items) == len(sampler)
    return [items[first : first + size] for first in range(0, len(items), size)]


def test_steps_go_through_whole_epochs_and_begin_anywhere() -> None:
    sampler = MirrorSampler(11, mirror=0.5, seed=3)
    whole = batches(StepSampler(sampler, 4, steps=range(7)))
    assert [item for batch in whole[:2] for item in batch] == sampler.order(0)[:8]
    assert [item for batch in whole[2:4] for item in batch] == sampler.order(1)[:8]
    for first in range(8):
        assert batches(StepSampler(sampler, 4, steps=range(first, 7))) == whole[first:]


@pytest.mark.parametrize("num_windows", [12, 13])
def test_processes_together_take_the_batches_of_one(num_windows: int) -> None:
    one = batches(StepSampler(MirrorSampler(num_windows, mirror=0.5, seed=1), 6, steps=range(5)))
    parts = [MirrorSampler(num_windows, mirror=0.5, seed=1, rank=rank, num_ranks=2) for rank in range(2)]
    assert len(parts[0]) == len(parts[1]) == 6
    left, right = (batches(StepSampler(part, 3, steps=range(5))) for part in parts)
    for whole, a, b in zip(one, left, right, strict=True):
        assert not set(a) & set(b)
        assert set(a) | set(b) == set(whole)


def test_what_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ValueError, match="1 windows for 2 processes"):
        MirrorSampler(1, mirror=0.0, seed=0, num_ranks=2)
    with pytest.raises(ValueError, match="batch_size=9 exceeds the 8 windows"):
        StepSampler(MirrorSampler(8, mirror=0.0, seed=0), 9, steps=range(2))


@pytest.mark.parametrize(("balance", "share"), [(0.0, 0.1), (0.5, 0.25), (1.0, 0.5)])
def test_balance_shares_the_draws_out_between_groups(balance: float, share: float) -> None:
    """900 windows against 100: by windows a tenth, by their roots a quarter, alike a half."""
    group = torch.arange(1000).ge(900).long()
    sampler = MirrorSampler(1000, mirror=0.0, seed=0, weights=balanced(group, balance))
    drawn = torch.tensor([item for epoch in range(10) for item in sampler.order(epoch)])
    assert (drawn >= 900).float().mean().item() == pytest.approx(share, abs=0.02)
    assert sampler.order(3) == MirrorSampler(1000, mirror=0.0, seed=0, weights=sampler.weights).order(3)
