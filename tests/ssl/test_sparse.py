"""Proofs of the sparse systems: energies against scikit-learn, filters of photographs, pools of units."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from sklearn.decomposition import sparse_encode

from tests.ssl.photos import patches
from worldmodel.nn import sparse

Say = Callable[[str], None]


def lasso(code: torch.Tensor, target: torch.Tensor, dictionary: torch.Tensor, weight: float) -> float:
    return float(sparse.lasso_energy(target, dictionary, code, weight=weight).mean())


def photo_problem() -> tuple[torch.Tensor, torch.Tensor, float, float]:
    """Patches of photographs, a dictionary made of others, a weight, and scikit-learn's energy."""
    found = patches(300, 8).flatten(1).double()
    target, dictionary, weight = found[:20], sparse.unit_columns(found[20:148].T), 0.5
    code = sparse_encode(
        target.numpy(), dictionary.T.numpy(), algorithm="lasso_cd", alpha=weight, max_iter=100_000
    )
    return target, dictionary, weight, lasso(torch.from_numpy(code), target, dictionary, weight)


@pytest.mark.proof("B2")
def test_ista_reaches_the_energy_of_scikit_learn_and_never_climbs(result: Say) -> None:
    target, dictionary, weight, least = photo_problem()
    code, energies = torch.zeros(20, 128, dtype=torch.float64), []
    for _ in range(60):
        energies.append(lasso(code, target, dictionary, weight))
        code = sparse.ista(target, dictionary, weight, num_steps=1, start=code)
    assert all(after <= before + 1e-12 for before, after in pairwise(energies))
    found = lasso(sparse.ista(target, dictionary, weight, num_steps=12_000), target, dictionary, weight)
    assert abs(found / least - 1) < 1e-6
    result(f"falls at each step; energy within {abs(found / least - 1):.0e} of scikit-learn's")


@pytest.mark.proof("B3")
def test_fista_is_there_before_ista(result: Say) -> None:
    target, dictionary, weight, least = photo_problem()
    above = {
        (solver.__name__, steps): lasso(
            solver(target, dictionary, weight, num_steps=steps), target, dictionary, weight
        )
        / least
        - 1
        for solver in (sparse.ista, sparse.fista)
        for steps in (10, 30, 600)
    }
    assert above["fista", 10] < 0.8 * above["ista", 10]
    assert above["fista", 30] < 0.3 * above["ista", 30]
    assert abs(above["fista", 600]) < 1e-6
    result(
        f"above the least energy after 30 steps: {above['fista', 30]:.1%}, ISTA {above['ista', 30]:.1%}; "
        f"600 steps: {abs(above['fista', 600]):.0e}"
    )
