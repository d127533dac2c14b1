"""Proofs of the sparse systems that take more than a penalty: labels, mixed sources, maps, places."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tests.ssl.patch_training import PatchEncoder, learn
from tests.ssl.photos import patches
from worldmodel.ssl import (
    FISTA,
    ISTA,
    L1,
    ConvDictionary,
    ConvLISTAHead,
    Guess,
    Labels,
    Latent,
    LocalDictionary,
    LogEnergy,
    Multilayer,
    Neighbourhood,
    NonNegative,
    Orthonormal,
    PatchDictionary,
    Project,
    RectifiedHead,
    Whiten,
)
from worldmodel.ssl.filter import neighbour_alignment, orientation

Say = Callable[[str], None]


def recurrent(labels: Labels | None) -> Latent:
    return Latent(
        PatchDictionary(20),
        penalty=NonNegative(0.05),
        infer=Guess(),
        head=RectifiedHead(3),
        labels=labels,
        samples=None,
    )


@pytest.mark.slow
@pytest.mark.proof("B12")
def test_labels_shape_the_codes_of_digits(result: Say) -> None:
    pixels, label = load_digits(return_X_y=True)
    images, label = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(label)
    wrong = {}
    for name, labels in (("joint", Labels(10, weight=5.0)), ("alone", None)):
        objective = recurrent(labels)
        encoder = PatchEncoder(1, 8, 20)
        told = {"steps": 250, "lr": 0.01, "batch": 150}
        learn(objective, images[:1200], encoder=encoder, label=label[:1200], **told)
        with torch.no_grad():
            problem = objective.problem(encoder, images)
            code = objective.infer(problem)
        probe = LogisticRegression(max_iter=2000).fit(code[:1200], label[:1200])
        wrong[name] = 1 - probe.score(code[1200:], label[1200:])
        lost = (objective.dictionary(code) - problem.target).square().sum() / problem.target.square().sum()
        assert float(lost.detach()) < 0.2
        if labels is not None:
            said = labels.logits(code[1200:], len(code) - 1200).argmax(1)
            wrong["own"] = float((said != label[1200:]).float().mean())
    assert max(wrong["joint"], wrong["own"]) < 0.92 * wrong["alone"]
    result(
        f"errors on new digits {wrong['own']:.1%} with 20 units that learnt labels, too; a probe of units "
        f"that did not: {wrong['alone']:.1%}"
    )


@pytest.mark.slow
@pytest.mark.proof("B15")
def test_independent_sources_are_unmixed(result: Say) -> None:
    source = torch.distributions.Laplace(0.0, 1.0).sample((4000, 2))
    mixing = torch.tensor([[1.0, 0.6], [0.4, 1.0]])
    rows = (source @ mixing.T)[..., None, None]
    dictionary = PatchDictionary(2, columns=Orthonormal(), prepare=Whiten(1e-6))
    objective = Latent(dictionary, penalty=LogEnergy(1, 2, side=1), infer=Project())
    learn(objective, rows, encoder=PatchEncoder(2, 1, 4), steps=300, lr=0.01, batch=1000)
    whole = (dictionary.weight.T @ dictionary.prepare.whitener @ mixing).detach().abs()
    before = (dictionary.prepare.whitener @ mixing).abs()
    index, of_whitening = amari(whole), amari(before)
    assert index < 0.05 < of_whitening
    result(f"Amari index of two mixed sources {index:.3f}, only whitened {of_whitening:.2f}")


def amari(gain: torch.Tensor) -> float:
    """How far `|unmixing @ mixing|` is from a scaled permutation (Amari et al. 1996), between 0 and 1."""
    rows = (gain / gain.max(1, keepdim=True).values).sum(1) - 1
    columns = (gain / gain.max(0, keepdim=True).values).sum(0) - 1
    return float((rows.sum() + columns.sum()) / (2 * len(gain) * (len(gain) - 1)))


@pytest.mark.slow
@pytest.mark.proof("B9")
def test_kernels_that_share_an_image_are_less_redundant(result: Say) -> None:
    alone = Latent(PatchDictionary(16), penalty=L1(1.5), infer=FISTA(8))
    learn(alone, patches(4000, 9), encoder=PatchEncoder(1, 9, 4), steps=120, lr=0.05, batch=400)
    shared = Latent(ConvDictionary(16, reach=(4, 4)), penalty=L1(1.5), infer=FISTA(8), pull=0.1)
    encoder = PatchEncoder(1, 1, 32, reach=4)
    learn(shared, patches(800, 24), encoder=encoder, steps=100, lr=0.05, batch=8)
    of_patches = redundancy(alone.dictionary.weight.detach().T.unflatten(1, (9, 9)))
    of_maps = redundancy(shared.dictionary.kernels[:, 0].detach())
    assert of_maps < of_patches - 0.03
    result(
        f"greatest correlation of a kernel with another, at any shift: {of_maps:.2f}; of filters that coded "
        f"patches alone {of_patches:.2f}"
    )


def redundancy(filters: torch.Tensor) -> float:
    """The median over filters of the greatest correlation with another one, at any shift."""
    wide = filters.shape[1] - 1
    found = torch.nn.functional.conv2d(filters[:, None], filters[:, None], padding=wide).abs().amax((2, 3))
    return float(found.fill_diagonal_(0).max(1).values.median())


@pytest.mark.slow
@pytest.mark.proof("B10")
def test_a_recurrent_encoder_of_maps_is_ahead_of_as_many_steps_of_ista(result: Say) -> None:
    objective = Latent(
        ConvDictionary(24, reach=(2, 2)), penalty=L1(0.5), infer=FISTA(15), head=ConvLISTAHead(2, side=3)
    )
    encoder = PatchEncoder(3, 2, 24, reach=2)
    grey = patches(400, 16)  # three channels that have half in common
    crops = 0.5 * grey + 0.5 * torch.cat([grey, grey.roll(1, 0), grey.roll(2, 0)], 1)
    learn(objective, crops[:300], encoder=encoder, steps=100, lr=0.002, batch=8)
    with torch.no_grad():
        new = objective.problem(encoder, crops[300:])
        learnt = float(new.energy(new.guess))
        ista = {steps: float(new.energy(ISTA(steps)(new))) for steps in (3, 100)}
    assert ista[100] < learnt < 0.96 * ista[3]
    result(
        f"energy of three learnt steps {learnt:.2f}, of ISTA's three {ista[3]:.2f}, at least {ista[100]:.2f}"
    )


@pytest.mark.slow
@pytest.mark.proof("B11")
def test_layers_of_codes_say_less_the_higher_they_are(result: Say) -> None:
    objective = Multilayer((16, 16, 16), weights=(0.3, 0.1, 0.05), reach=(2, 2), num_steps=8)
    crops = patches(300, 16)
    encoder = PatchEncoder(1, 2, 8)
    learn(objective, crops[:200], encoder=encoder, steps=50, lr=0.02, batch=16)
    new = crops[200:220]
    with torch.no_grad():
        energies = [
            float(torch.stack(objective.energies(new, objective.infer(new, num_steps=steps))).sum())
            for steps in range(0, 40, 4)
        ]
        codes = objective.infer(new, num_steps=60)
        lost = [
            float((objective.decode(code, layer=layer) - new).square().sum() / new.square().sum())
            for layer, code in enumerate(codes)
        ]
    assert all(after < before for before, after in pairwise(energies))
    assert lost[0] < lost[1] < lost[2] < 0.97
    assert all(float(code.std()) > 1e-3 for code in codes)
    result(
        "energy falls with each sweep; lost of the picture by the codes of layer 0, 1, 2: "
        + ", ".join(f"{one:.0%}" for one in lost)
    )


@pytest.mark.slow
@pytest.mark.proof("B16")
def test_neighbouring_places_come_to_see_alike(result: Say) -> None:
    dictionary = LocalDictionary(1, reach=(3, 3))
    objective = Latent(dictionary, penalty=Neighbourhood(0.6, floor=0.1), infer=FISTA(8))
    learn(objective, patches(3000, 14), encoder=PatchEncoder(1, 1, 2), steps=120, lr=0.05, batch=64)
    _, angle = orientation(dictionary.weight.detach().T.unflatten(1, (7, 7)))
    alike = float(neighbour_alignment(angle.unflatten(0, (14, 14))))
    chance = float(neighbour_alignment(angle[torch.randperm(196)].unflatten(0, (14, 14))))
    assert alike > 0.25 and abs(chance) < 0.15
    unit = torch.zeros(1, 1, 14, 14)
    unit[0, 0, 5, 8] = 1
    reached = dictionary(unit)[0, 0].detach().nonzero()
    assert reached.amin(0).tolist() == [2, 5] and reached.amax(0).tolist() == [8, 11]
    result(
        f"cos 2 dtheta of neighbouring places {alike:.2f} (shuffled {chance:.2f}); no weight beyond its field"
    )
