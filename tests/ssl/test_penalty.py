"""Penalties: the energy falls with every step of inference, whatever the penalty and the dictionary."""

from itertools import pairwise

import pytest
import torch

from worldmodel.ssl import (
    ISTA,
    L1,
    Ball,
    ConvDictionary,
    Dictionary,
    Group,
    LocalDictionary,
    Neighbourhood,
    NonNegative,
    Penalty,
    Problem,
    Topographic,
)

CASES = [
    (ConvDictionary(16, reach=(2, 2)), one)
    for one in (
        L1(0.3),
        NonNegative(0.3),
        Group(0.3, size=4),
        Topographic(4, 4, weight=0.1, floor=0.1),
        Ball(),
    )
] + [(LocalDictionary(2, reach=(1, 2)), Neighbourhood(0.2, floor=0.1))]


@pytest.mark.parametrize(("dictionary", "penalty"), CASES, ids=lambda one: type(one).__name__)
def test_the_energy_falls_at_every_step(dictionary: Dictionary, penalty: Penalty) -> None:
    dictionary.attach(2, (2, 2), (4, 5))
    target = torch.randn(3, 2, 8, 10)
    with torch.no_grad():
        problem = Problem(target, torch.randn(3, dictionary.atoms, 4, 5) * 0.1, dictionary, penalty, pull=0.2)
        energies = [float(problem.energy(ISTA(steps)(problem))) for steps in range(1, 12)]
        image = torch.randn_like(target)
        code = ISTA(5)(problem)
        decoded, back = dictionary(code), dictionary.adjoint(image)
    assert all(after < before + 1e-6 for before, after in pairwise(energies))
    torch.testing.assert_close((decoded * image).sum(), (code * back).sum(), rtol=1e-4, atol=1e-4)


def test_a_ball_holds_what_is_in_it_and_shortens_the_rest() -> None:
    code = torch.tensor([[0.3, 0.4], [3.0, 4.0]])
    kept = Ball(1.0).shrink(code, code, torch.tensor(0.1))
    torch.testing.assert_close(kept, torch.tensor([[0.3, 0.4], [0.6, 0.8]]))
