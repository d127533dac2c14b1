"""Slow and sparse codes: pools of units whose members take turns while the pool stays active."""

from collections.abc import Callable
from itertools import permutations

import pytest
import torch
from torch import Tensor

from tests.ssl.patch_training import PatchEncoder
from worldmodel.ssl import FrameClip, Group, Guess, Latent, PatchDictionary, PoolSlowness, Pretraining

POOLS = 3


def test_steps_of_pools_by_hand() -> None:
    code = torch.tensor([[[[3.0, 4.0, 0.0, 1.0]], [[-5.0, 0.0, 0.0, 3.0]]]])  # norms 5, 1 and 5, 3
    assert PoolSlowness(0.5, size=2)(code).item() == 1.0
    # overlapping pools of 2: norms 5, 4, 1 and 5, 0, 3
    assert PoolSlowness(0.5, size=2, stride=1)(code).item() == 3.0
    with pytest.raises(ValueError, match="set samples to None"):
        Latent(PatchDictionary(4), path=PoolSlowness(), samples=8)


def subspaces(rows: int, *, num_frames: int = 4, keep: float = 0.95, seed: int) -> tuple[Tensor, Tensor]:
    """Mixtures of planes, and how far from the origin each is: that changes slowly, the direction at random.

    At any instant this is white normal noise: no code is sparser than another.
    """
    generator = torch.Generator().manual_seed(seed)
    place = [torch.randn(rows, POOLS, 2, generator=generator)]
    for _ in range(num_frames - 1):
        noise = torch.randn(rows, POOLS, 2, generator=generator)
        place.append(keep * place[-1] + (1 - keep**2) ** 0.5 * noise)
    far = torch.stack(place, 1).norm(dim=-1)  # (B, T, P)
    angle = 2 * torch.pi * torch.rand(far.shape, generator=generator)
    sources = torch.stack([far * angle.cos(), far * angle.sin()], -1).flatten(2)
    mixing = torch.linalg.qr(torch.randn(2 * POOLS, 2 * POOLS, generator=generator.manual_seed(7))).Q
    return (sources @ mixing.T)[..., None, None], far


def found(slow: float) -> tuple[float, float]:
    """Correlation of pools with the planes' distances, in the best order; share of frames that is lost."""
    torch.manual_seed(0)
    encoder, path = PatchEncoder(2 * POOLS, 1, 2 * POOLS), PoolSlowness(slow, size=2)
    objective = Latent(
        PatchDictionary(2 * POOLS), penalty=Group(0.02, size=2), infer=Guess(), path=path, samples=None
    )
    model = Pretraining(encoder, objective, (4, 2 * POOLS, 1, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    frames, _ = subspaces(4000, seed=1)
    for _ in range(250):
        loss = model(FrameClip(frames=frames[torch.randint(len(frames), (128,))]))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step(encoder)
    new, far = subspaces(400, seed=2)
    with torch.no_grad():
        problem = objective.problem(encoder, new.flatten(0, 1))
        norm = problem.guess.unflatten(1, (POOLS, 2)).norm(dim=-1)
        lost = (objective.dictionary(problem.guess) - problem.target).square().sum()
    alike = torch.corrcoef(torch.cat([norm, far.flatten(0, 1)], 1).T)[:POOLS, POOLS:]
    best = max(alike[list(order), range(POOLS)].mean().item() for order in permutations(range(POOLS)))
    return best, (lost / problem.target.square().sum()).item()


@pytest.mark.slow
@pytest.mark.proof("H2")
def test_pools_find_what_stays_while_their_units_take_turns(result: Callable[[str], None]) -> None:
    (slow, lost), (sparse, _) = found(1.0), found(0.0)
    assert slow > 0.97 and lost < 0.05 and sparse < 0.7
    result(
        f"pools follow the slow distances in three planes by {slow:.3f} (correlation; sparse alone "
        f"{sparse:.2f}); {lost:.0%} of the frames lost"
    )
