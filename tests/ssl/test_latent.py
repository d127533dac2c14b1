"""Proofs of systems with a small code: components, clusters, mixtures, a code for each sample."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture as Reference

from tests.ssl.patch_training import PatchEncoder, clip_of, learn
from worldmodel.nn.cluster import GaussianMixture, lloyd, maximise_expectation, spread_centres
from worldmodel.ssl import (
    Ball,
    Centre,
    Latent,
    Means,
    Mixture,
    Nearest,
    NetworkDictionary,
    Orthonormal,
    PatchDictionary,
    PerSample,
    Principal,
    Project,
)

Say = Callable[[str], None]


def digits() -> torch.Tensor:
    return torch.tensor(load_digits().data / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)


def spiral(number: int) -> torch.Tensor:
    """Points on a spiral, as frames of two channels and one pixel."""
    turn = 3 * math.pi * torch.rand(number).sqrt()
    return torch.stack([turn * turn.cos(), turn * turn.sin()], dim=1)[..., None, None] / (3 * math.pi)


@pytest.mark.slow
@pytest.mark.proof("D1")
def test_components_are_those_of_scikit_learn(result: Say) -> None:
    images = digits()
    reference = PCA(10).fit(images.flatten(1).double().numpy())
    left = images.flatten(1).double().numpy()
    left = left - reference.inverse_transform(reference.transform(left))
    expected = 0.5 * np.square(left).sum(1).mean()

    exact = Latent(PatchDictionary(10, columns=Principal(), prepare=Centre()), infer=Project(), samples=None)
    model = learn(exact, images, encoder=PatchEncoder(1, 8, 10), steps=0)
    energy = float(model(clip_of(images))["cost"].detach())
    assert energy == pytest.approx(expected, rel=1e-5)

    columns = PatchDictionary(10, columns=Orthonormal(), prepare=Centre())
    by_gradient = Latent(columns, infer=Project(), samples=None)
    model = learn(by_gradient, images, encoder=PatchEncoder(1, 8, 10), steps=300, lr=0.01)
    losses = model(clip_of(images))
    found = float(losses["cost"].detach())
    assert expected * 0.999 < found < 1.02 * expected
    assert float(losses["distance"].detach()) < 0.02 * expected
    result(
        f"energy {energy:.4f}, scikit-learn's {expected:.4f}, by gradient, not eigenvectors, {found:.4f}; "
        "a linear encoder learns the coordinates"
    )


@pytest.mark.proof("D2")
def test_clusters_of_a_spiral(result: Say) -> None:
    rows = spiral(1000).flatten(1)
    generator = torch.Generator().manual_seed(0)
    centres = spread_centres(rows, 20, generator)
    energies = []
    for _ in range(30):
        energies.append(float(torch.cdist(rows, centres).min(1).values.square().mean()))
        centres = lloyd(rows, centres)
    assert all(after <= before + 1e-7 for before, after in pairwise(energies))
    reference = KMeans(20, n_init=10, random_state=0).fit(rows.numpy()).inertia_ / len(rows)
    assert energies[-1] < 1.15 * reference

    objective = Latent(PatchDictionary(20, columns=Means()), infer=Nearest())
    model = learn(objective, rows[..., None, None], encoder=PatchEncoder(2, 1, 8), steps=0)
    centres = objective.dictionary.weight.detach().T
    assert float(model(clip_of(rows[..., None, None]))["cost"].detach()) < 0.6 * reference
    nudge = 0.01 * torch.tensor([0.6, 0.8])
    at, aside = (objective.problem(model.encoder, one[..., None, None]) for one in (centres, centres + nudge))
    assert float(at.cost(objective.infer(at)).detach()) < 1e-12
    assert float(aside.cost(objective.infer(aside)).detach()) == pytest.approx(0.5 * 0.01**2, rel=1e-3)
    result(
        f"the energy falls at each step, to {energies[-1]:.4f} (scikit-learn, best of 10: {reference:.4f}); "
        "zero at the centres, quadratic beside them"
    )


def blobs() -> torch.Tensor:
    stretch = torch.tensor([[[1.0, 0.0], [0.8, 0.3]], [[0.3, 0.0], [0.0, 1.0]], [[0.5, 0.0], [-0.4, 0.5]]])
    owner = torch.arange(900) % 3
    centre = torch.tensor([[0.0, 0.0], [3.0, 1.0], [-1.0, 3.0]])
    rows = centre[owner] + torch.einsum("bij,bj->bi", stretch[owner], torch.randn(900, 2))
    return rows.double()


@pytest.mark.slow
@pytest.mark.proof("D3")
def test_a_mixture_is_that_of_scikit_learn(result: Say) -> None:
    rows = blobs()
    start = rows[:3]
    share, ball = torch.full((3,), 1 / 3, dtype=torch.float64), torch.eye(2).double().repeat(3, 1, 1)
    mixture = GaussianMixture(share.log(), start, ball)
    energies = []
    for _ in range(200):
        energies.append(float(mixture.energy(rows).mean()))
        mixture = maximise_expectation(rows, mixture)
    assert all(after <= before + 1e-9 for before, after in pairwise(energies))
    reference = Reference(
        3, means_init=start, precisions_init=ball, weights_init=share, tol=1e-10, max_iter=500
    )
    reference.fit(rows.numpy())
    expected = -reference.score(rows.numpy())
    assert energies[-1] == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(mixture.responsibility(rows), reference.predict_proba(rows.numpy()), atol=1e-3)

    objective = Mixture(3, num_steps=50)
    frames = rows.float()[..., None, None]
    encoder = PatchEncoder(2, 1, 32, after=torch.nn.Tanh())
    model = learn(objective, frames, encoder=encoder, steps=200, lr=0.03)
    guess = objective.head(model.encoder(frames)[..., 0, 0]).argmax(1)
    with torch.no_grad():
        found = objective.mixture.responsibility(objective.patches.targets(frames)).argmax(1)
    agree = float((guess == found).float().mean())
    assert agree > 0.9
    result(
        f"EM never climbs; energy {energies[-1]:.4f}, scikit-learn's {expected:.4f}; an encoder tells the "
        f"components apart as it does in {agree:.0%}"
    )


@pytest.mark.slow
@pytest.mark.proof("D4")
def test_codes_of_single_samples_beat_components(result: Say) -> None:
    images = digits()
    known, new = images[:1200], images[1200:1400]
    objective = Latent(
        NetworkDictionary(6, width=64),
        penalty=Ball(2.0),
        infer=PerSample(15, lr=0.2),
        pull=1e-3,
        samples=None,
    )
    model = learn(
        objective, known, encoder=PatchEncoder(1, 8, 64, after=torch.nn.SiLU()), steps=300, lr=0.01, batch=200
    )
    problem = objective.problem(model.encoder, new)
    code = PerSample(60, lr=0.1)(problem)
    assert float(code.norm(dim=1).max()) <= 2 + 1e-5
    energy = float(problem.cost(code).detach())
    reference = PCA(6).fit(known.flatten(1).numpy())
    rows = new.flatten(1).numpy()
    of_pca = float(
        0.5 * np.square(rows - reference.inverse_transform(reference.transform(rows))).sum(1).mean()
    )
    with torch.no_grad():
        between = objective.dictionary((code[:-1] + code[1:]) / 2)
    mixed = (new[:-1] + new[1:]) / 2
    far, blurred = (
        float(torch.cdist(one.flatten(1), images.flatten(1)).min(1).values.mean()) for one in (between, mixed)
    )
    assert energy < 0.92 * of_pca
    assert far < blurred
    result(
        f"error of new digits {energy:.2f} with 6 numbers (PCA {of_pca:.2f}); halfway between two codes is "
        f"{far:.2f} from a digit (halfway between two pictures {blurred:.2f})"
    )
