"""Two processes with half of a batch each learn what one with all of it does.

Every system does, or it is named here with the reason. What an objective draws by chance, it draws for row i
of the batch alike, in whichever process the row is; all else that is random differs between processes.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tests.ssl.test_conformance import CONFIGS, clips, make
from worldmodel.ssl import FrameClip

ROWS = 6
DIFFERENT = dict.fromkeys(
    ["langevin", "hamiltonian", "metropolis", "persistent_divergence"],
    "each process moves as many chains as one process alone would: twice as many samples of the model",
)
"""Systems whose two processes learn something else than one, and why."""

SHARED = {"sigreg": 64}
"""How many directions are drawn for all rows together; of each process's own the test makes the same."""

LIKE = {torch.rand_like: torch.rand, torch.randn_like: torch.randn}
SHAPED = (torch.rand, torch.randn, torch.randint)


class DrawsByRow(TorchFunctionMode):
    """Random tensors of `n` rows are rows `rank n` to `(rank + 1) n` of what one process draws.

    Args:
        rank: of the process.
        world: number of processes.
        shared: as many rows are no rows of the batch; each process draws the same.
    """

    def __init__(self, rank: int, world: int, *, shared: int = 0) -> None:
        super().__init__()
        self.rank, self.world, self.shared, self.calls = rank, world, shared, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.bernoulli:
            return (self._drawn(torch.rand, (), tuple(args[0].shape), {}) < args[0]).to(args[0])
        if func in LIKE:
            like = args[0]
            return self._drawn(LIKE[func], (), tuple(like.shape), {"dtype": like.dtype})
        if func in SHAPED and kwargs.get("generator") is None:
            kwargs.pop("generator", None)
            return self._shaped(func, args, kwargs)
        return func(*args, **kwargs)

    def _shaped(self, func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        bounds, size = ((), args) if func is not torch.randint else (args[:-1], args[-1])
        shape = tuple(kwargs.pop("size", size[0] if size and not isinstance(size[0], int) else size))
        return self._drawn(func, bounds, shape, kwargs)

    def _drawn(
        self, func: Callable[..., Tensor], bounds: tuple[int, ...], shape: tuple[int, ...], kwargs: Any
    ) -> Tensor:
        self.calls += 1
        generator = torch.Generator().manual_seed(self.calls)
        if not shape or shape[0] == self.shared:
            return func(*bounds, shape, generator=generator, **kwargs)
        whole = func(*bounds, (self.world * shape[0], *shape[1:]), generator=generator, **kwargs)
        return whole.chunk(self.world)[self.rank]


def in_double(clip: FrameClip) -> FrameClip:
    """The same with more digits: rounding is no reason for a difference."""
    frames, state, action, flow = (
        one if one is None else one.double() for one in (clip.frames, clip.state, clip.action, clip.flow)
    )
    return replace(clip, frames=frames, state=state, action=action, flow=flow)


def gradients(name: str, *, rank: int = 0, world: int = 1) -> dict[str, Tensor]:
    """What a process learns from its part of the batch."""
    model = make(name).double()
    clip = in_double(clips(0, ROWS))[torch.arange(ROWS).chunk(world)[rank]]
    torch.manual_seed(10 + rank)
    model.objective.refit(model.encoder, [clip])
    torch.manual_seed(20 + rank)
    with DrawsByRow(rank, world, shared=SHARED.get(name, 0)):
        model(clip)["loss"].backward()
    return {
        key: torch.zeros_like(one) if one.grad is None else one.grad for key, one in model.named_parameters()
    }


def work(rank: int, folder: str, names: list[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    for name in names:
        found = gradients(name, rank=rank, world=2)
        for one in found.values():
            dist.all_reduce(one)  # as DDP does
        if rank == 0:
            torch.save({key: one / 2 for key, one in found.items()}, Path(folder) / f"{name}.pt")
    dist.destroy_process_group()


def off_by(whole: dict[str, Tensor], halves: dict[str, Tensor]) -> float:
    """The greatest difference of a gradient, as a share of the greatest gradient of its parameter."""
    scale = max(one.abs().max().item() for one in whole.values())
    return max((one - halves[key]).abs().max().item() for key, one in whole.items()) / scale


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    mp.spawn(work, args=(str(tmp_path), CONFIGS), nprocs=2)
    found = {
        name: off_by(gradients(name), torch.load(tmp_path / f"{name}.pt", weights_only=True))
        for name in CONFIGS
    }
    # masks of whole cells hide fewer pixels at the border: there the mean is off by some 1e-4
    different = {name: value for name, value in found.items() if value > 1e-3}
    assert different.keys() == DIFFERENT.keys()
