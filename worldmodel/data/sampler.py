"""In which order training windows come: a function of the seed and the step, for every process its part."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Sampler


class MirrorSampler(Sampler[int]):
    """Goes through `num_windows` windows in random order, each with probability `mirror` as its mirror image.

    The mirror image of window `i` is item `i + num_windows` of the dataset. An epoch's order depends on
    `seed` and the epoch's number alone, so a resumed training sees what an uninterrupted one would have.
    Several processes share it out in turns, all the same number: the first items of all of them are the
    first of the whole order.

    Args:
        num_windows: of all processes together.
        mirror: probability.
        seed: of the order and the mirroring.
        rank: which process this is.
        num_ranks: how many there are.
        weights: how often each window is drawn, relatively; windows then come back at random instead of once
            an epoch.
    """

    def __init__(
        self,
        num_windows: int,
        *,
        mirror: float,
        seed: int,
        rank: int = 0,
        num_ranks: int = 1,
        weights: Float[Tensor, " N"] | None = None,
    ) -> None:
        if num_windows < num_ranks:
            raise ValueError(f"{num_windows} windows for {num_ranks} processes; expected at least one each")
        self.num_windows, self.mirror, self.seed = num_windows, mirror, seed
        self.rank, self.num_ranks, self.weights = rank, num_ranks, weights
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next pass is; Lightning calls it."""
        self.epoch = epoch

    def order(self, epoch: int) -> list[int]:
        """Returns this process's items of an epoch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        if self.weights is None:
            order = torch.randperm(self.num_windows, generator=generator)
        else:
            order = torch.multinomial(self.weights, self.num_windows, replacement=True, generator=generator)
        mirrored = torch.rand(self.num_windows, generator=generator) < self.mirror
        items = order + mirrored * self.num_windows
        return items[self.rank :: self.num_ranks][: len(self)].tolist()

    def __len__(self) -> int:
        return self.num_windows // self.num_ranks

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        yield from self.order(self.epoch - 1)


class StepSampler(Sampler[int]):
    """The items of the training steps `steps`, whole batches of them, epoch after epoch.

    What a step gets depends on its number alone, so a training that carries on at any step needs no memory
    of the data. What is left over at the end of an epoch, less than a batch, is dropped.

    Example:
        >>> sampler = MirrorSampler(10, mirror=0.5, seed=0)
        >>> whole, later = (StepSampler(sampler, 4, steps=range(first, 9)) for first in (0, 5))
        >>> list(whole)[5 * 4 :] == list(later)
        True
    """

    def __init__(self, sampler: MirrorSampler, batch_size: int, *, steps: range) -> None:
        if batch_size > len(sampler):
            raise ValueError(f"batch_size={batch_size} exceeds the {len(sampler)} windows; lower it")
        self.sampler, self.batch_size, self.steps = sampler, batch_size, steps

    def __len__(self) -> int:
        return len(self.steps) * self.batch_size

    def __iter__(self) -> Iterator[int]:
        last, items = -1, []
        for step in self.steps:
            epoch, batch = divmod(step, len(self.sampler) // self.batch_size)
            if epoch != last:
                last, items = epoch, self.sampler.order(epoch)
            yield from items[batch * self.batch_size : (batch + 1) * self.batch_size]


def balanced(group: Int[Tensor, " N"], balance: float) -> Float[Tensor, " N"]:
    """Returns weights under which a group of `n` windows is drawn in proportion to `n ** (1 - balance)`.

    0 leaves the windows alike, 1 the groups.

    Example:
        >>> balanced(torch.tensor([0, 0, 0, 0, 1]), 0.5).tolist()
        [0.5, 0.5, 0.5, 0.5, 1.0]
    """
    _, inverse, count = group.unique(return_inverse=True, return_counts=True)
    return count.to(torch.get_default_dtype())[inverse] ** -balance
