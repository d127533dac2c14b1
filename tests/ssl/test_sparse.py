"""Proofs of the sparse systems: energies against scikit-learn, filters of photographs, pools of units."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from sklearn.decomposition import sparse_encode

from tests.ssl.patch_training import PatchEncoder, learn
from tests.ssl.photos import patches
from worldmodel.nn import sparse
from worldmodel.ssl import FISTA, L1, Latent, PatchDictionary
from worldmodel.ssl.filter import orientation

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


def oriented(filters: torch.Tensor) -> float:
    """Share of the filters that see an orientation."""
    return float((orientation(filters)[0] > 0.5).float().mean())


def pictures(dictionary: torch.Tensor) -> torch.Tensor:
    """Columns as pictures of 12 x 12."""
    return dictionary.detach().T.unflatten(1, (12, 12))


def principal(found: torch.Tensor, number: int) -> torch.Tensor:
    """The first principal components of patches, for comparison."""
    return torch.linalg.svd(found.flatten(1), full_matrices=False).Vh[:number].T


@pytest.mark.proof("B1")
def test_photographs_have_a_code_of_oriented_edges(result: Say) -> None:
    found = patches(10_000, 12)
    objective = Latent(PatchDictionary(128), penalty=L1(1.5), infer=FISTA(10))
    learn(objective, found, encoder=PatchEncoder(1, 12, 16), steps=100, lr=0.05)
    atoms = objective.dictionary.weight.detach()
    share, of_components = oriented(pictures(atoms)), oriented(pictures(principal(found, 128)))
    assert share > 0.8 and of_components < 0.6
    assert oriented(torch.randn(128, 12, 12)) < 0.05
    new = patches(500, 12, seed=1).flatten(1)
    energy, of_pca = (
        lasso(sparse.fista(new, one, 1.5, num_steps=100), new, one, 1.5)
        / float(0.5 * new.square().sum(1).mean())
        for one in (atoms, principal(found, 128))
    )
    assert energy < 0.9 * of_pca < 0.9
    result(
        f"{share:.0%} of 128 atoms of photographs are oriented (PCA {of_components:.0%}); energy of new "
        f"patches {energy:.2f} of that without a code (PCA {of_pca:.2f})"
    )


@pytest.mark.proof("B4")
def test_an_encoder_predicts_the_codes_of_photographs(result: Say) -> None:
    found = patches(10_000, 12)
    objective = Latent(PatchDictionary(128), penalty=L1(1.0), infer=FISTA(10), pull=0.3)
    model = learn(objective, found, encoder=PatchEncoder(1, 12, 128), steps=150, lr=0.03)
    filters = objective.head.layer.weight.detach() @ model.encoder.linear.weight.detach().flatten(1)
    atoms = objective.dictionary.weight.detach()
    alike = float(torch.cosine_similarity(filters, atoms.T).median())
    share = oriented(pictures(atoms))
    assert share > 0.8
    assert alike > 0.5 and float(torch.cosine_similarity(filters, atoms.T.roll(1, 0)).abs().median()) < 0.2
    with torch.no_grad():
        new = objective.problem(model.encoder, patches(500, 12, seed=1))
        early, late = (float(new.energy(FISTA(steps)(new))) for steps in (2, 200))
        other = replace(new, guess=torch.zeros_like(new.guess))
        blind = float(new.energy(FISTA(2)(other)))
    assert early - late < 0.5 * (blind - late)
    gap = (early - late) / (blind - late)
    result(
        f"{share:.0%} of 128 atoms oriented, the encoder's filters like them (cosine {alike:.2f}); two "
        f"steps from its guess leave {gap:.2f} of the energy that two from zero do"
    )
