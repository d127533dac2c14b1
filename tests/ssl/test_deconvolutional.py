"""Layers of codes with switches: energies against scikit-learn, and what switches are good for."""

from collections.abc import Callable

import pytest
import torch
from sklearn.decomposition import sparse_encode

from tests.ssl.patch_training import PatchEncoder, learn
from tests.ssl.photos import patches
from worldmodel.ssl import Deconvolutional, Switches, blank

Say = Callable[[str], None]


def test_switches_remember_the_greatest_of_each_square() -> None:
    code = torch.tensor([[[[1.0, -3.0, 0.5], [2.0, 0.0, 0.0], [0.0, 0.25, -0.5]]]])
    switches = Switches.of(code)
    pooled = switches.pool(code)
    assert pooled.tolist() == [[[[-3.0, 0.5], [0.25, -0.5]]]]
    assert switches.unpool(pooled).tolist() == [[[[0.0, -3.0, 0.5], [0.0, 0.0, 0.0], [0.0, 0.25, -0.5]]]]


def network(size: int, *atoms: int) -> Deconvolutional:
    torch.manual_seed(0)
    objective = Deconvolutional(atoms, weights=[0.3] * len(atoms), reach=(2, 2))
    objective.attach(PatchEncoder(1, 1, 4), blank((1, 1, size, size)))
    return objective.double()


@pytest.mark.slow
@pytest.mark.proof("B8")
def test_codes_of_the_second_layer_have_the_energy_of_scikit_learn(result: Say) -> None:
    """Given the switches, all that is below the second layer is one matrix."""
    objective, target = network(8, 4, 5), patches(3, 8).double()
    with torch.no_grad():
        codes, switches = objective.infer(target, num_steps=600)
        found = sum(
            energy(*three)
            for three in zip(target, objective.decode(codes[1], switches), codes[1], strict=True)
        )
        units = torch.eye(codes[1][0].numel(), dtype=torch.float64).unflatten(1, codes[1].shape[1:])
        least = 0.0
        for row, place in zip(target, switches[0].place, strict=True):
            atoms = objective.decode(units, [Switches(place.expand(len(units), -1, -1, -1), (8, 8))]).flatten(
                1
            )
            code = torch.from_numpy(
                sparse_encode(row.reshape(1, -1), atoms, algorithm="lasso_cd", alpha=0.3, max_iter=100_000)
            )
            least += energy(row, code @ atoms, code)
    assert abs(found / least - 1) < 1e-5
    result(
        f"second layer's energy within {abs(found / least - 1):.0e} of scikit-learn's on the explicit matrix"
    )


def energy(target: torch.Tensor, decoded: torch.Tensor, code: torch.Tensor) -> float:
    return float(0.5 * (decoded.flatten() - target.flatten()).square().sum() + 0.3 * code.abs().sum())


def test_decode_and_adjoint_are_transposed_and_energies_fall() -> None:
    objective, target = network(10, 3, 4, 4), patches(2, 10).double()
    with torch.no_grad():
        codes, switches = objective.infer(target)
        for layer, code in enumerate(codes):
            some, below = torch.randn_like(code), switches[:layer]
            one = (objective.decode(some, below) * target).sum()
            torch.testing.assert_close(one, (some * objective.adjoint(target, below)).sum())
        energies = [
            torch.stack(objective.energies(target, *objective.infer(target, num_steps=steps)))
            for steps in (0, 200)
        ]
    assert bool((energies[1] < 0.9 * energies[0]).all())


@pytest.mark.slow
@pytest.mark.proof("B8")
def test_without_its_switches_a_layer_does_not_know_where_things_are(result: Say) -> None:
    crops, energies = patches(220, 16), []
    new = crops[200:]
    for steps in (0, 80):
        torch.manual_seed(0)
        objective = Deconvolutional((12, 24), weights=(0.3, 0.3), reach=(2, 2), num_steps=8)
        learn(objective, crops[:200], encoder=PatchEncoder(1, 2, 8), steps=steps, lr=0.02, batch=16)
        with torch.no_grad():
            codes, switches = objective.infer(new, num_steps=40)
            energies.append(torch.stack(objective.energies(new, codes, switches)))
    strange = Switches(switches[0].place.roll(1, 0), switches[0].size)

    def lost(code: torch.Tensor, *below: Switches) -> float:
        with torch.no_grad():
            return float((objective.decode(code, below) - new).square().sum() / new.square().sum())

    first, second = lost(codes[0]), lost(codes[1], *switches)
    elsewhere = lost(codes[1], strange)
    share = (energies[1] / energies[0]).tolist()
    assert share[0] < 0.75 and share[1] < 0.95
    assert first < second < 0.6 * elsewhere
    result(
        f"learning leaves {share[0]:.2f} and {share[1]:.2f} of the layers' energies of new photographs; lost "
        f"by layer 1 {first:.0%}, by layer 2 {second:.0%}, with another picture's switches {elsewhere:.0%}"
    )
