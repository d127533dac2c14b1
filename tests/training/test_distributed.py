"""Two processes with half of the batch each have the loss and the gradient of one with all of it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.models.factories import HISTORY, SPEC, make_clip
from worldmodel.models import CoupledModel, masked_bce
from worldmodel.models.latent import (
    CodeBank,
    EmaCodebook,
    SpikeAndSlab,
    VectorQuantisedLatent,
    WinnerTakeAllLatent,
)
from worldmodel.models.loss import occupancy_loss
from worldmodel.training import CoupledModule
from worldmodel.training.distributed import mean_over_processes
from worldmodel.types import Clip

ROWS, FRAMES, HEIGHT, WIDTH = 4, 3, 8, 5


def problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns features, targets and a mask that covers little of the first half and all of the second."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(ROWS, FRAMES, 1, HEIGHT, WIDTH, generator=generator)
    features[: ROWS // 2] *= 3
    target = torch.rand(ROWS, FRAMES, 1, HEIGHT, WIDTH, generator=generator)
    covered = torch.ones(ROWS, FRAMES, HEIGHT, dtype=torch.bool)
    covered[: ROWS // 2, :, 2:] = False
    return features, target, covered


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    rows = slice(rank * ROWS // 2, (rank + 1) * ROWS // 2)
    features, target, covered = (part[rows] for part in problem())
    for name, loss_fn in (("bce", masked_bce), ("occupancy", occupancy_loss)):
        for count_fn in (mean_over_processes, lambda count: count):
            weight = torch.ones((), requires_grad=True)
            loss = loss_fn(weight * features, target, covered, count_fn=count_fn)
            loss.backward()
            found = torch.stack([loss.detach(), weight.grad])
            dist.all_reduce(found)
            if not rank:
                kind = "exact" if count_fn is mean_over_processes else "naive"
                torch.save(found / 2, Path(folder) / f"{name}_{kind}.pt")
    dist.destroy_process_group()


def test_masked_means_add_up_over_processes(tmp_path: Path) -> None:
    mp.start_processes(work, args=(str(tmp_path),), nprocs=2, start_method="fork")
    features, target, covered = problem()
    for name, loss_fn in (("bce", masked_bce), ("occupancy", occupancy_loss)):
        weight = torch.ones((), requires_grad=True)
        loss = loss_fn(weight * features, target, covered)
        loss.backward()
        expected = torch.stack([loss.detach(), weight.grad])
        torch.testing.assert_close(torch.load(tmp_path / f"{name}_exact.pt", weights_only=True), expected)
        naive = torch.load(tmp_path / f"{name}_naive.pt", weights_only=True)
        assert (naive - expected).abs().min() > 1e-3


def coupled_problem() -> tuple[CoupledModule, Clip]:
    """Returns a coupled model without dropout, and clips of which the first half covers little."""
    torch.manual_seed(0)
    model = CoupledModel(spec=SPEC, history=HISTORY, features=(4, 4, 4), width=8).eval()
    torch.nn.init.normal_(model.image_decoder.layers[-1].weight, std=0.3)
    clip = make_clip(ROWS, relative_speed=8.0)
    covered = clip.covered.clone()
    covered[: ROWS // 2, :, 2:] = False
    module = CoupledModule(model, optimizer=torch.optim.Adam, num_steps=1)
    return module, replace(clip, covered=covered)


def loss_and_gradient(module: CoupledModule, clip: Clip) -> torch.Tensor:
    loss = module.loss(clip)[0]
    loss.backward()
    return torch.cat([loss.detach().view(1), module.model.image_decoder.layers[-1].weight.grad.flatten()])


def work_coupled(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    module, clip = coupled_problem()
    found = loss_and_gradient(module, clip[rank * ROWS // 2 : (rank + 1) * ROWS // 2])
    dist.all_reduce(found)
    if not rank:
        torch.save(found / 2, Path(folder) / "found.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_coupled_models_exact_loss(tmp_path: Path) -> None:
    mp.start_processes(work_coupled, args=(str(tmp_path),), nprocs=2, start_method="fork")
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    module, clip = coupled_problem()
    torch.testing.assert_close(found, loss_and_gradient(module, clip))
    halves = [module.loss(clip[rows])[0].item() for rows in (slice(0, 2), slice(2, 4))]
    assert abs(sum(halves) / 2 - found[0].item()) > 1e-3  # the mean of the two means is another number


def remember(rows: slice) -> list[dict[str, torch.Tensor]]:
    """Returns what each part that remembers does of two batches of four, given these rows of them."""
    torch.manual_seed(0)
    slab, bank, codebook = SpikeAndSlab(3, decay=0.5), CodeBank(3, size=6), EmaCodebook(2, 3, decay=0.5)
    quantised = VectorQuantisedLatent(2, 2, codebook=EmaCodebook(4, 3), decay=0.5)
    winners = WinnerTakeAllLatent(2, 2, dim=6, winners=2, decay=0.5)
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        z, maps = (
            torch.randn(ROWS, 3, generator=generator),
            torch.randn(2, ROWS, 2, 8, 8, generator=generator),
        )
        bank.observe(z[rows])
        slab.observe(z[rows])
        codebook.observe(z[rows], torch.tensor([0, 0, 1, 0])[rows])  # no code is dead
        quantised.posterior(maps[0, rows], maps[1, rows])
        logits = winners.head.bias.data.copy_(torch.tensor([0.0, 500.0, 0.0, 0.0, 0.0, 0.0]))
        logits[2 if rows.start else 3] = 400.0  # the first rows and the others have winners of their own
        winners.posterior(maps[0, rows], maps[1, rows])
    return [dict(one.named_buffers()) for one in (slab, bank, codebook, quantised, winners)]


def work_memory(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(remember(slice(rank * ROWS // 2, (rank + 1) * ROWS // 2)), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_what_latents_remember_is_of_all_processes(tmp_path: Path) -> None:
    """Whole batches in one process, halves in each of two: the same memories in all of them."""
    mp.start_processes(work_memory, args=(str(tmp_path),), nprocs=2, start_method="fork")
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    *expected, _ = remember(slice(0, ROWS))
    for found in (one, other):
        torch.testing.assert_close(found[:-1], expected)
        won = torch.tensor([0.0, 1.0, 0.5, 0.5, 0.0, 0.0])
        torch.testing.assert_close(found[-1]["usage"], won + (1 / 3 - won) / 4)  # two steps of decay 1/2


def test_a_single_process_counts_alone() -> None:
    assert float(mean_over_processes(torch.tensor(7.0))) == pytest.approx(7.0)
