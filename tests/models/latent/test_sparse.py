"""Sparse latents: gates, winners, the dictionary's scale, and the priors that remember."""

import pytest
import torch

from worldmodel.models.latent import (
    CodeBank,
    InnerInference,
    SparseLatent,
    SpikeAndSlab,
    WinnerTakeAllLatent,
    hard_concrete,
    open_probability,
)
from worldmodel.nn.sparse import fista, ista, unit_columns

HIDDEN = torch.zeros(2000, 1, 1, 1)


@pytest.mark.parametrize("logit", [-3.0, 0.0, 2.0])
def test_gates_are_open_as_often_as_expected(logit: float) -> None:
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    gates = hard_concrete(torch.full((20_000,), logit), uniform)
    expected = float(open_probability(torch.tensor(logit)))
    assert float((gates > 0).float().mean()) == pytest.approx(expected, abs=0.015)
    assert float(gates.min()) == 0.0 and float(gates.max()) <= 1.0


def test_gates_reach_both_ends() -> None:
    gates = hard_concrete(torch.zeros(3), torch.tensor([0.01, 0.5, 0.99]))
    torch.testing.assert_close(gates, torch.tensor([0.0, 0.5, 1.0]))


@pytest.mark.parametrize("inference", [InnerInference(300), InnerInference(1000, ista)])
@torch.no_grad()
def test_z_is_the_code_of_least_energy_and_the_penalty_its_energy(inference: InnerInference) -> None:
    latent = SparseLatent(4, 4, dim=6, code=3, sparsity=0.4, weight=2.0, inference=inference)
    hidden, target = torch.randn(2, 5, 4, 8, 8)
    sample = latent.posterior(hidden, target)
    code = latent.head(latent.body(torch.cat([hidden, target], dim=1)))
    code = (code - code.mean(-1, keepdim=True)) / (code.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    dictionary = unit_columns(latent.dictionary)
    torch.testing.assert_close(sample.z, fista(code, dictionary, 0.4, num_steps=1000), atol=1e-3, rtol=0)
    energy = 0.5 * (code - sample.z @ dictionary.T).square().sum(-1) + 0.4 * sample.z.abs().sum(-1)
    torch.testing.assert_close(sample.penalty, 2.0 * energy)


@torch.no_grad()
def test_the_scale_of_the_dictionary_is_no_way_around_the_penalty() -> None:
    latent = SparseLatent(4, 4, dim=6, code=3, inference=InnerInference(10))
    hidden, target = torch.randn(2, 5, 4, 8, 8)
    before = latent.posterior(hidden, target)
    latent.dictionary.mul_(100.0)
    after = latent.posterior(hidden, target)
    torch.testing.assert_close(after.z, before.z)
    torch.testing.assert_close(after.penalty, before.penalty)


@torch.no_grad()
def test_exactly_the_winners_are_one() -> None:
    latent = WinnerTakeAllLatent(4, 4, dim=9, winners=3)
    hidden, target = torch.randn(2, 5, 4, 8, 8)
    for z in (latent.posterior(hidden, target).z, latent.prior(hidden)):
        torch.testing.assert_close(z.sort(dim=-1).values, torch.tensor([0.0] * 6 + [1.0] * 3).expand(5, -1))
    with pytest.raises(ValueError, match="got 9 winners among 9 units"):
        WinnerTakeAllLatent(4, 4, dim=9, winners=9)


@torch.no_grad()
def test_units_win_in_the_prior_as_often_as_they_have_won() -> None:
    """One that always won always wins; drawing by `log usage` it would win seven times in ten."""
    latent = WinnerTakeAllLatent(1, 1, dim=6, winners=2)
    usage = torch.tensor([1.0, 0.4, 0.3, 0.2, 0.1, 0.0])
    latent.usage.copy_(usage)
    z = latent.prior(torch.zeros(20_000, 1, 1, 1), torch.Generator().manual_seed(0))
    assert bool((z.sum(-1) == 2).all()) and set(z.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(z.mean(0), usage, atol=0.015, rtol=0)  # 4 standard deviations
    assert bool((z[:, 0] == 1).all()) and bool((z[:, 5] == 0).all())


def test_a_spike_and_slab_remembers_rate_mean_and_spread() -> None:
    prior = SpikeAndSlab(2, decay=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        slab = 3.0 + 0.5 * torch.randn(64, generator=generator)
        prior.observe(
            torch.stack([slab * (torch.rand(64, generator=generator) < 0.25), torch.zeros(64)], dim=-1)
        )
    drawn = prior(HIDDEN, generator)
    active = drawn[:, 0][drawn[:, 0] != 0]
    assert len(active) / len(drawn) == pytest.approx(0.25, abs=0.06)
    assert float(active.mean()) == pytest.approx(3.0, abs=0.15)
    assert float(active.std()) == pytest.approx(0.5, abs=0.1)
    assert int(drawn[:, 1].count_nonzero()) == 0


def test_a_code_bank_draws_the_latest_of_what_it_saw() -> None:
    bank = CodeBank(1, size=4)
    assert bank(HIDDEN[:3]).tolist() == [[0.0]] * 3  # nothing seen
    bank.observe(torch.tensor([[1.0], [2.0]]))
    assert set(bank(HIDDEN).flatten().tolist()) == {1.0, 2.0}
    bank.observe(torch.tensor([[3.0], [4.0], [5.0]]))  # forgets 1
    assert set(bank(HIDDEN).flatten().tolist()) == {2.0, 3.0, 4.0, 5.0}
    bank.observe(torch.arange(10.0, 17.0).unsqueeze(-1))  # more than it holds
    assert set(bank(HIDDEN).flatten().tolist()) == {13.0, 14.0, 15.0, 16.0}
