"""Proofs of the sparse systems: energies against scikit-learn, filters of photographs, pools of units."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import sparse_encode

from tests.ssl.patch_training import PatchEncoder, learn
from tests.ssl.photos import patches
from worldmodel.nn import sparse
from worldmodel.nn.lista import LISTA
from worldmodel.nn.sparse_conv import conv_decode
from worldmodel.ssl import (
    FISTA,
    ISTA,
    L1,
    ConvDictionary,
    Group,
    Guess,
    Latent,
    NonNegative,
    NonNegativeUnit,
    PatchDictionary,
    Problem,
    Topographic,
)
from worldmodel.ssl.filter import neighbour_alignment, orientation, participation

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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.proof("B4")
def test_an_encoder_predicts_the_codes_of_photographs(result: Say) -> None:
    """docs/images/psd.png shows such atoms (tests/ssl/pictures.py)."""
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


@pytest.mark.slow
@pytest.mark.proof("B5")
def test_a_learnt_encoder_of_three_steps_is_worth_many_of_ista(result: Say) -> None:
    dictionary = sparse.unit_columns(patches(128, 8, seed=2).flatten(1).T)
    known, new = patches(2000, 8).flatten(1), patches(200, 8, seed=1).flatten(1)
    codes = sparse.fista(known, dictionary, 0.5, num_steps=100)
    best = sparse.fista(new, dictionary, 0.5, num_steps=300)
    net = LISTA(64, 128, num_steps=2)
    net.unroll(dictionary, 0.5)

    def wrong(code: torch.Tensor) -> float:
        return float((code - best).detach().square().sum(1).mean())

    torch.testing.assert_close(net(new), sparse.ista(new, dictionary, 0.5, num_steps=3), atol=1e-5, rtol=0)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(300):
        chosen = torch.randint(len(known), (100,))
        optimizer.zero_grad()
        (net(known[chosen]) - codes[chosen]).square().sum(1).mean().backward()
        optimizer.step()
    learnt = wrong(net(new))
    ista = {steps: wrong(sparse.ista(new, dictionary, 0.5, num_steps=steps)) for steps in (3, 20)}
    assert learnt < 0.65 * ista[3] and learnt < ista[20]
    result(f"code error of 3 learnt steps {learnt:.1f}, of ISTA's 3 {ista[3]:.1f}, of its 20 {ista[20]:.1f}")


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    pixels, label = load_digits(return_X_y=True)
    return torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(label)


@pytest.mark.slow
@pytest.mark.proof("B6")
def test_digits_are_made_of_strokes(result: Say) -> None:
    images, _ = digits()
    objective = Latent(
        PatchDictionary(64, columns=NonNegativeUnit()), penalty=NonNegative(0.05), infer=Guess()
    )
    model = learn(objective, images[:1500], encoder=PatchEncoder(1, 8, 64), steps=300, lr=0.02, batch=200)
    with torch.no_grad():
        held_out = objective.problem(model.encoder, images[1500:])
        code = objective.infer(held_out)
        lost = float(
            (objective.dictionary(code) - held_out.target).square().sum() / held_out.target.square().sum()
        )
    atoms = objective.dictionary.weight.detach().T.unflatten(1, (8, 8))
    spread = float(participation(atoms).median())
    whole = float(participation(principal(images - images.mean(0), 30).T.unflatten(1, (8, 8))).median())
    assert spread < 0.5 * whole and lost < 0.1
    assert float(atoms.min()) >= 0 and float(code.min()) >= 0
    result(f"atoms spread over {spread:.0%} of the pixels (PCA {whole:.0%}), {lost:.0%} of new digits lost")


def conv_matrix(kernels: torch.Tensor, cells: tuple[int, int]) -> torch.Tensor:
    """The convolution as a matrix, column by column."""
    units = torch.eye(len(kernels) * cells[0] * cells[1], dtype=kernels.dtype)
    codes = units.unflatten(1, (len(kernels), *cells))
    return conv_decode(codes, kernels, stride=(1, 1), padding=(2, 2)).flatten(1).T


@pytest.mark.proof("B7")
def test_convolutional_codes_have_the_energy_of_scikit_learn(result: Say) -> None:
    dictionary = ConvDictionary(6, reach=(2, 2))
    dictionary.attach(1, (1, 1), (9, 9))
    dictionary.double()
    target = patches(3, 9).double()
    problem = Problem(target, torch.zeros(3, 6, 9, 9, dtype=torch.float64), dictionary, L1(0.3))
    with torch.no_grad():
        energies = [float(problem.energy(ISTA(steps)(problem))) for steps in range(20)]
        assert all(after < before for before, after in pairwise(energies))
        found = float(problem.energy(FISTA(600)(problem)))
        matrix = conv_matrix(dictionary.kernels, (9, 9))
    code = sparse_encode(
        target.flatten(1).numpy(), matrix.T.numpy(), algorithm="lasso_cd", alpha=0.3, max_iter=100_000
    )
    least = lasso(torch.from_numpy(code), target.flatten(1), matrix, 0.3) / 81
    assert abs(found / least - 1) < 1e-5
    result(f"energy within {abs(found / least - 1):.0e} of scikit-learn's on the explicit matrix")


@pytest.mark.slow
@pytest.mark.proof("B7")
def test_kernels_of_photographs_become_oriented(result: Say) -> None:
    objective = Latent(ConvDictionary(24, reach=(4, 4)), penalty=L1(1.5), infer=FISTA(8))
    found = patches(1000, 28)
    learn(objective, found, encoder=PatchEncoder(1, 1, 4), steps=120, lr=0.05, batch=8)
    share = oriented(objective.dictionary.kernels[:, 0].detach())
    assert share > 0.4
    result(f"{share:.0%} of 24 kernels of photographs are oriented (random ones: none)")


def by_a_pixel(objective: Latent) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of patches, and of the same one pixel further."""
    wide = patches(400, 13, seed=1)
    shifted = (wide[..., :12, :12], wide[..., :12, 1:])
    targets = [objective.dictionary.targets(one.contiguous()) for one in shifted]
    with torch.no_grad():
        blank = torch.zeros(400, objective.dictionary.atoms)
        first, second = (
            FISTA(40)(Problem(one, blank, objective.dictionary, objective.penalty)) for one in targets
        )
    return first, second


def kept(first: torch.Tensor, second: torch.Tensor) -> float:
    """The median correlation of units."""
    return float(torch.cosine_similarity(first - first.mean(0), second - second.mean(0), dim=0).median())


def within_groups(angle: torch.Tensor) -> float:
    """Mean `cos 2 (theta - theta')` of two units of a group; angles are (groups, size)."""
    size = angle.shape[1]
    pairs = (2 * (angle[:, :, None] - angle[:, None])).cos().sum((1, 2)) - size
    return float(pairs.mean() / (size * (size - 1)))


@pytest.mark.slow
@pytest.mark.proof("B13")
def test_units_of_a_group_see_the_same_orientation(result: Say) -> None:
    objective = Latent(PatchDictionary(144), penalty=Group(1.5, size=4), infer=FISTA(10))
    learn(objective, patches(5000, 12), encoder=PatchEncoder(1, 12, 16), steps=120, lr=0.05, batch=200)
    _, angle = orientation(pictures(objective.dictionary.weight))
    alike = within_groups(angle.unflatten(0, (-1, 4)))
    chance = within_groups(angle[torch.randperm(144)].unflatten(0, (-1, 4)))
    first, second = by_a_pixel(objective)
    pools = kept(*(one.unflatten(1, (-1, 4)).norm(dim=2) for one in (first, second)))
    units = kept(first.abs(), second.abs())
    assert alike > 0.6 and abs(chance) < 0.25
    assert pools > units + 0.05
    result(
        f"cos 2 dtheta within groups {alike:.2f} (shuffled {chance:.2f}); correlation over a shift "
        f"by a pixel: groups {pools:.2f}, units {units:.2f}"
    )


@pytest.mark.slow
@pytest.mark.proof("B14")
def test_neighbours_on_the_sheet_see_alike(result: Say) -> None:
    penalty = Topographic(12, 12, weight=0.3, side=3, floor=0.1)
    objective = Latent(PatchDictionary(144), penalty=penalty, infer=FISTA(15))
    learn(objective, patches(5000, 12), encoder=PatchEncoder(1, 12, 16), steps=120, lr=0.05, batch=200)
    filters = pictures(objective.dictionary.weight)
    _, angle = orientation(filters)
    alike = float(neighbour_alignment(angle.unflatten(0, (12, 12))))
    chance = float(neighbour_alignment(angle[torch.randperm(144)].unflatten(0, (12, 12))))
    first, second = by_a_pixel(objective)
    pools = kept(*(sparse.pool_norms(one, penalty.pools) for one in (first, second)))
    units, signed = kept(first.abs(), second.abs()), kept(first, second)
    assert alike > 0.45 and abs(chance) < 0.25
    assert oriented(filters) > 0.6
    assert pools > units + 0.1 and units > signed
    result(
        f"cos 2 dtheta of neighbours {alike:.2f} (shuffled {chance:.2f}); correlation over a shift "
        f"by a pixel: pools {pools:.2f}, units {units:.2f}, with their sign {signed:.2f}"
    )
