"""Sparse coding: agrees with scikit-learn, falls at every step, and passes gradients."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import sparse_encode
from sklearn.linear_model import Lasso

from worldmodel.nn import sparse


def problem(rows: int = 3, size: int = 8, atoms: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    dictionary = sparse.unit_columns(torch.randn(size, atoms, generator=generator, dtype=torch.float64))
    return torch.randn(rows, size, generator=generator, dtype=torch.float64), dictionary


@pytest.mark.parametrize(("solver", "num_steps"), [(sparse.ista, 1000), (sparse.fista, 400)])
@pytest.mark.parametrize("weight", [0.1, 0.5])
def test_codes_are_those_of_scikit_learn(solver, num_steps: int, weight: float) -> None:  # type: ignore[no-untyped-def]
    target, dictionary = problem()
    code = solver(target, dictionary, weight, num_steps=num_steps).numpy()
    expected = sparse_encode(target.numpy(), dictionary.numpy().T, algorithm="lasso_lars", alpha=weight)
    np.testing.assert_allclose(code, expected, atol=1e-5)
    assert 0 < np.count_nonzero(code) < code.size
    lasso = Lasso(alpha=weight / target.shape[1], fit_intercept=False, tol=1e-10, max_iter=10_000)
    lasso.fit(dictionary.numpy(), target[0].numpy())  # its energy is divided by the size of the target
    np.testing.assert_allclose(code[0], lasso.coef_, atol=1e-5)


def test_the_energy_falls_at_every_step_of_ista() -> None:
    target, dictionary = problem()
    code, before = torch.zeros(3, 12, dtype=torch.float64), torch.full((3,), torch.inf)
    for _ in range(20):
        energy = sparse.lasso_energy(target, dictionary, code, weight=0.3)
        assert bool((energy <= before + 1e-12).all())
        code, before = sparse.ista(target, dictionary, 0.3, num_steps=1, start=code), energy


def test_fista_is_closer_than_ista_after_as_many_steps() -> None:
    target, dictionary = problem()
    energies = [
        sparse.lasso_energy(target, dictionary, solver(target, dictionary, 0.1, num_steps=30), weight=0.1)
        for solver in (sparse.fista, sparse.ista)
    ]
    assert bool((energies[0] < energies[1]).all())


def test_a_large_weight_leaves_nothing() -> None:
    target, dictionary = problem()
    weight = float((target @ dictionary).abs().max())
    assert int(sparse.fista(target, dictionary, weight).count_nonzero()) == 0
    assert int(sparse.fista(target, dictionary, 0.9 * weight).count_nonzero()) > 0


def test_the_energy_by_hand() -> None:
    code, target = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 1.0]])
    assert float(sparse.lasso_energy(target, torch.eye(2), code, weight=0.5)) == 0.5 * (1 + 4) + 0.5 * 3


def test_soft_threshold_at_its_edges() -> None:
    value = torch.tensor([-2.0, -0.5, 0.0, 0.5, 0.75])
    assert sparse.soft_threshold(value, 0.5).tolist() == [-1.5, 0.0, 0.0, 0.0, 0.25]


def test_gradients_pass_through_the_iterations() -> None:
    target, dictionary = problem(rows=1, size=3, atoms=4)
    target, dictionary = target.requires_grad_(), dictionary.requires_grad_()

    def solve(x: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        return sparse.fista(x, d, 0.1, num_steps=5)

    assert torch.autograd.gradcheck(lambda x: solve(x, dictionary), target)
    gradient = torch.autograd.grad(solve(target, dictionary).sum(), dictionary)[0]
    assert float(gradient.abs().max()) > 0


def test_group_shrinkage_is_the_proximal_map_of_the_norms() -> None:
    value, threshold = torch.randn(20, 6, dtype=torch.float64), torch.tensor(1.2, dtype=torch.float64)
    found = sparse.group_shrink(value, 3, threshold).requires_grad_()
    energy = 0.5 * (found - value).square().sum() + threshold * found.unflatten(1, (2, 3)).norm(dim=2).sum()
    active = found.detach().unflatten(1, (2, 3)).norm(dim=2, keepdim=True) > 0
    gradient = torch.autograd.grad(energy, found)[0].unflatten(1, (2, 3))
    assert bool(active.any()) and not bool(active.all())
    assert float((gradient * active).nan_to_num().abs().max()) < 1e-12
    assert bool((value.unflatten(1, (2, 3)).norm(dim=2)[~active[..., 0]] <= threshold).all())


def test_the_energy_of_overlapping_pools_falls_at_every_step() -> None:
    target, dictionary = problem(atoms=16)
    pools = sparse.torus_pools(4, 4, side=2).double()
    code, before = torch.randn(3, 16, dtype=torch.float64), torch.inf
    for _ in range(30):
        wrong = 0.5 * (target - code @ dictionary.T).square().sum()
        energy = float(wrong + 0.3 * sparse.pool_norms(code, pools, floor=0.1).sum())
        assert energy < before
        before = energy
        code = sparse.descend(
            sparse.quadratic(target, dictionary),
            lambda value, now, step: sparse.pool_shrink(value, now, pools, threshold=0.3 * step, floor=0.1),
            start=code,
            bound=sparse.lipschitz(dictionary),
            num_steps=1,
        )


def test_a_torus_has_no_edge() -> None:
    pools = sparse.torus_pools(4, 5, side=3)
    assert pools.sum(0).tolist() == pools.sum(1).tolist() == [9.0] * 20
    assert pools[0].nonzero().flatten().tolist() == [0, 1, 4, 5, 6, 9, 15, 16, 19]
