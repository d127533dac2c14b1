"""Disagreement: hand-computed variances, the published penalty, its gradients, the law of total variance."""

from pathlib import Path

import pytest
import torch

from worldmodel.costs import (
    Disagreement,
    DisagreementPenalty,
    disagreement,
    excess,
    split_crossed_variance,
    split_variance,
)
from worldmodel.types import CostTerms, Rollout


def make_rollout(image: torch.Tensor, ego: torch.Tensor) -> Rollout:
    """A rollout of the rows given, every pixel of a frame the same: `image` (R, T), `ego` (R, T, 4)."""
    rows, steps = image.shape
    return Rollout(
        image=image[:, :, None, None, None].expand(rows, steps, 1, 3, 2),
        ego=ego,
        view=ego[..., :3],
        action=torch.zeros(rows, steps, 2, dtype=image.dtype),
        previous_action=torch.zeros(rows, 2, dtype=image.dtype),
        size=torch.ones(rows, 2, dtype=image.dtype),
        road=torch.zeros(rows, 3, 2, 2, dtype=image.dtype),
    )


def speed_cost(rollout: Rollout) -> CostTerms:
    return CostTerms({"speed": rollout.ego[..., 3]}, {"speed": 3.0})


def test_variances_by_hand() -> None:
    """Two scenes, two members: unbiased variance of (0, 2) is 2, of (1, 1) is 0."""
    image = torch.tensor([[0.0], [2.0], [1.0], [1.0]])
    ego = torch.zeros(4, 1, 4)
    ego[:, 0, 2] = torch.tensor(
        [0.0, 0.0, 0.0, 0.2]
    )  # 2 units of 0.1 rad apart: variance 2, mean of four 0.5
    ego[:, 0, 3] = torch.tensor([4.0, 2.0, 7.0, 7.0])  # 2 m/s apart: variance 2, mean of four 0.5
    found = disagreement(make_rollout(image, ego), 2, speed_cost)
    torch.testing.assert_close(found.image, torch.tensor([[2.0], [0.0]]))
    torch.testing.assert_close(found.state, torch.tensor([[0.5], [0.5]]))
    torch.testing.assert_close(found.cost, torch.tensor([[9 * 2.0], [0.0]]))


@pytest.mark.parametrize(("rows", "num"), [(4, 1), (4, 3)])
def test_members_must_divide_the_rows(rows: int, num: int) -> None:
    with pytest.raises(ValueError, match=f"{rows} rows of {num} members"):
        disagreement(make_rollout(torch.zeros(rows, 1), torch.zeros(rows, 1, 4)), num, speed_cost)


def make_usual() -> Disagreement:
    """Three scenes, two steps; image: mean (2, 20), std (1, 10); cost: mean 0, std 0."""
    image = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    return Disagreement(image, image / 10, torch.zeros(3, 2))


def test_penalty_by_hand() -> None:
    penalty = DisagreementPenalty(horizon=2, hinge=0.5)
    penalty.fit(make_usual())
    found = Disagreement(
        image=torch.tensor([[4.0, 24.0], [2.4, -5.0]]),  # 2 and 0.4 std above; 0.4 above and below
        state=torch.tensor([[0.2, 5.0], [0.2, 2.0]]),  # as usual, but once 3 std above
        cost=torch.zeros(2, 2),
    )
    torch.testing.assert_close(penalty(found), torch.tensor([[1.5, 2.5], [0.0, 0.0]]))
    torch.testing.assert_close(penalty(found[:1]), penalty(found)[:1])
    only_image = DisagreementPenalty(horizon=2, hinge=0.5, kinds=("image",))
    only_image.fit(make_usual())
    torch.testing.assert_close(only_image(found), torch.tensor([[1.5, 0.0], [0.0, 0.0]]))


def test_what_is_usual_is_free_and_a_kind_that_never_varied_costs_nothing_until_it_does() -> None:
    penalty = DisagreementPenalty(horizon=2, hinge=1.0)
    penalty.fit(make_usual())
    assert float(penalty(make_usual()).max()) == 0.0
    odd = Disagreement(make_usual().image, make_usual().state, torch.full((3, 2), 1e-3))
    assert float(penalty(odd).min()) > 1.0


def test_statistics_are_buffers_and_shorter_horizons_use_the_first_of_them(tmp_path: Path) -> None:
    penalty = DisagreementPenalty(horizon=2)
    penalty.fit(make_usual())
    torch.save(penalty.state_dict(), tmp_path / "penalty.pt")
    config = {key: value for key, value in penalty.config.items() if key != "_target_"}
    again = DisagreementPenalty(**config)
    again.load_state_dict(torch.load(tmp_path / "penalty.pt", weights_only=True))
    first = Disagreement(*(torch.full((1, 1), 50.0) for _ in range(3)))
    torch.testing.assert_close(again(first), penalty(first))
    assert float(first.image) > 0 and again(first).shape == (1, 1)


def test_penalties_that_cannot_be_are_refused() -> None:
    usual = make_usual()
    with pytest.raises(ValueError, match="no statistics yet"):
        DisagreementPenalty(horizon=2)(usual)
    with pytest.raises(ValueError, match="a rollout of 2 steps, but disagreement statistics for 1"):
        DisagreementPenalty(horizon=1)(usual)
    with pytest.raises(ValueError, match="expected two or more of 3"):
        DisagreementPenalty(horizon=3).fit(usual)
    with pytest.raises(ValueError, match="unknown kinds"):
        DisagreementPenalty(horizon=3, kinds=("images",))


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(6, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    ego = torch.rand(6, 2, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    mean, std = torch.zeros(3, 1, 2, dtype=torch.float64), torch.ones(3, 1, 2, dtype=torch.float64)

    def penalty(image: torch.Tensor, ego: torch.Tensor) -> torch.Tensor:
        found = disagreement(make_rollout(image, ego), 3, speed_cost)
        return excess(found.stacked(), mean, std, hinge=0.01).sum()

    assert torch.autograd.gradcheck(penalty, (image, ego))


def test_members_that_agree_have_a_gradient_of_zero_not_nan() -> None:
    image = torch.full((4, 1), 0.5, requires_grad=True)
    ego = torch.zeros(4, 1, 4, requires_grad=True)
    found = disagreement(make_rollout(image, ego), 2, speed_cost)
    found.stacked().sum().backward()
    assert image.grad is not None and ego.grad is not None
    assert float(image.grad.abs().max()) == float(ego.grad.abs().max()) == 0.0


def test_total_variance_is_split_as_it_was_made() -> None:
    """Members N(0, 2^2), draws N(member, 3^2): epistemic 4, aleatoric 9."""
    generator = torch.Generator().manual_seed(0)
    members = 2.0 * torch.randn(5, 1, 20_000, generator=generator)
    samples = members + 3.0 * torch.randn(5, 4, 20_000, generator=generator)
    parts = split_variance(samples)
    assert float(parts.aleatoric.mean()) == pytest.approx(9.0, rel=0.02)
    assert float(parts.epistemic.mean()) == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("num_samples", [2, 3, 8])
def test_draws_that_members_share_are_no_disagreement(num_samples: int) -> None:
    """Members N(0, 0.3^2), common draws N(0, 1), interaction N(0, 0.5^2): epistemic .09, aleatoric 1.25."""
    generator = torch.Generator().manual_seed(0)
    members = 0.3 * torch.randn(4, 1, 40_000, generator=generator)
    draws = torch.randn(1, num_samples, 40_000, generator=generator)
    both = 0.5 * torch.randn(4, num_samples, 40_000, generator=generator)
    parts = split_crossed_variance(members + draws + both)
    assert float(parts.aleatoric.mean()) == pytest.approx(1.25, rel=0.03)
    assert float(parts.epistemic.mean()) == pytest.approx(0.09, rel=0.03)


def test_crossed_variances_by_hand() -> None:
    """Rows (0, 2) and (2, 8): means 1 and 5 differ by 8, of which the interaction 4 takes 4 / 2 off."""
    samples = torch.tensor([[0.0, 2.0], [2.0, 8.0]]).unsqueeze(-1)
    parts = split_crossed_variance(samples)
    assert (float(parts.aleatoric), float(parts.epistemic)) == (10.0, 6.0)  # (2 + 18) / 2, 8 - 2
    apart = split_variance(samples)
    assert (float(apart.aleatoric), float(apart.epistemic)) == (10.0, 3.0)  # 8 - 10 / 2
    twins = torch.tensor([[0.1, 0.7, 0.3]] * 3).unsqueeze(-1)
    assert float(split_crossed_variance(twins).epistemic) == 0.0
    deterministic = split_crossed_variance(samples[:, :1])
    assert (float(deterministic.aleatoric), float(deterministic.epistemic)) == (0.0, 2.0)
    with pytest.raises(ValueError, match="got 1 members"):
        split_crossed_variance(samples[:1])


def test_one_kind_of_variance_at_a_time() -> None:
    only_members = torch.tensor([0.0, 2.0])[:, None, None].expand(2, 3, 1)
    parts = split_variance(only_members)
    assert (float(parts.aleatoric), float(parts.epistemic)) == (0.0, 2.0)
    deterministic = split_variance(only_members[:, :1])
    assert (float(deterministic.aleatoric), float(deterministic.epistemic)) == (0.0, 2.0)
    only_draws = torch.tensor([0.0, 2.0])[None, :, None].expand(3, 2, 1)
    assert float(split_variance(only_draws).aleatoric) == 2.0
    with pytest.raises(ValueError, match="got 1 members"):
        split_variance(only_members[:1])
