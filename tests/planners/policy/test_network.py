"""Policies within their bounds, their densities, and their checkpoints."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from planners.policy import GaussianHead, MixtureHead, PointHead, Policy, PolicyNetwork, ValueNetwork, view_of
from planners.policy.network import draw_noise
from tests.models.factories import make_obs
from tests.planners.policy.factories import TINY, make_policy
from worldmodel.models.checkpoint import CheckpointError, load_model, save_model
from worldmodel.nn import Configured, FrameEncoder, Frozen
from worldmodel.scene import RasterSpec

HEADS = [PointHead(8), GaussianHead(8), MixtureHead(8, num=3)]


def make_view(policy: PolicyNetwork, batch: int = 2, **kwargs):
    return view_of(make_obs(batch, **kwargs), policy.view_spec)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_a_new_policy_keeps_speed_and_heading(head) -> None:
    policy = PolicyNetwork(type(head)(8), **TINY)
    assert isinstance(policy, Policy)
    action = policy(make_view(policy))
    torch.testing.assert_close(action[:, 1], torch.zeros(2))
    assert action[:, 0].abs().max() < 1.0 and (not isinstance(head, PointHead) or action.abs().max() == 0)


def test_the_default_is_small() -> None:
    for head in (PointHead(), GaussianHead(), MixtureHead()):
        assert 50_000 < PolicyNetwork(head).num_parameters < 200_000


def test_a_policy_sees_through_a_frozen_encoder_of_frames(tmp_path: Path) -> None:
    encoder = Frozen(FrameEncoder(in_channels=1, features=5))
    policy = make_policy(frame_encoder=encoder, pool=(1, 1))
    view = make_view(policy)
    # By hand: each raster through the encoder alone, the older one's map behind the newer one's.
    maps = [encoder(view.vehicles[:, age : age + 1]) for age in (0, 1)]
    torch.testing.assert_close(policy.encoder.embed(view.vehicles), torch.cat(maps, dim=1))
    action = policy(view)
    action.sum().backward()
    assert policy.encoder.reduce.weight.grad.abs().sum() > 0
    assert all(one.grad is None for one in encoder.parameters())
    save_model(policy, tmp_path / "policy.pt")
    torch.testing.assert_close(load_model(tmp_path / "policy.pt")(view), action)


class Halves(Configured):
    """An encoder that has nothing to learn."""

    features, stride = 1, (2, 2)

    def forward(self, frame: Tensor) -> Tensor:
        return F.avg_pool2d(frame, 2)


def test_an_encoder_may_have_no_parameters() -> None:
    policy = make_policy(frame_encoder=Halves())
    view = make_view(policy)
    torch.testing.assert_close(policy.encoder.embed(view.vehicles), F.avg_pool2d(view.vehicles, 2))
    action = policy(view)
    action.sum().backward()
    assert action.shape == (2, 2) and policy.encoder.reduce.weight.grad.abs().sum() > 0


def test_an_encoder_of_other_rasters_is_refused() -> None:
    with pytest.raises(ValueError, match=r"encoder\.in_channels=1"):
        make_policy(frame_encoder=FrameEncoder(in_channels=3))


def test_actions_stay_within_the_bounds() -> None:
    policy, speed = PolicyNetwork(**TINY), torch.tensor([20.0, 20.0, 5.0])
    raw = torch.tensor([[100.0, 100.0], [-100.0, -100.0], [-100.0, 100.0]])
    expected = torch.tensor([[3.0, 3 / 400], [-6.0, -3 / 400], [-6.0, 0.1]])
    torch.testing.assert_close(policy.to_action(raw, speed), expected)


def test_it_brakes_to_standstill_and_not_into_reverse() -> None:
    policy = PolicyNetwork(**TINY)
    raw = torch.full((3, 2), -100.0)
    accel = policy.to_action(raw, torch.tensor([0.2, 0.0, -0.5]))[:, 0]
    torch.testing.assert_close(accel, torch.tensor([-2.0, 0.0, 5.0]))


def test_raw_actions_are_recovered_and_small_ones_are_just_scaled() -> None:
    policy, speed = PolicyNetwork(**TINY), torch.tensor([10.0]).expand(64)
    raw = torch.randn(64, 2) * torch.tensor([0.2, 0.5])
    torch.testing.assert_close(policy.to_raw(policy.to_action(raw, speed), speed), raw, atol=1e-4, rtol=1e-3)
    small = torch.full((1, 2), 1e-3)
    torch.testing.assert_close(
        policy.to_action(small, speed[:1]), small * torch.tensor([6.0, 0.03]), rtol=1e-4, atol=0
    )


def test_mixture_density_is_torchs() -> None:
    head, features, raw = MixtureHead(8, num=4), torch.randn(5, 8), torch.randn(5, 2) * 0.3
    torch.nn.init.normal_(head.linear.weight)
    logit, mean, log_std = head.parameters_of(features)
    torchs = MixtureSameFamily(Categorical(logits=logit), Independent(Normal(mean, log_std.exp()), 1))
    torch.testing.assert_close(head.log_prob(features, raw), torchs.log_prob(raw))
    heaviest = mean[torch.arange(5), logit.argmax(-1)]
    torch.testing.assert_close(head(features), heaviest)


def test_gaussian_density_and_noise_are_torchs() -> None:
    head, features = GaussianHead(8), torch.randn(4000, 8)
    torch.nn.init.normal_(head.linear.weight)
    mean, log_std = head.parameters_of(features)
    assert log_std.min() >= -5.0 and log_std.max() <= -1.0
    noise = torch.randn(4000, 2)
    raw = head(features, noise)
    torchs = Independent(Normal(mean, log_std.exp()), 1)
    torch.testing.assert_close(head.log_prob(features, raw), torchs.log_prob(raw), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close((raw - mean) / log_std.exp(), noise, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(head(features), mean)


def test_noise_is_an_argument() -> None:
    policy = make_policy(GaussianHead(8))
    view, like = make_view(policy), torch.zeros(1)
    noise = draw_noise(policy, 2, like=like, generator=torch.Generator().manual_seed(1))
    assert torch.equal(policy(view, noise), policy(view, noise))
    assert not torch.equal(policy(view, noise), policy(view))
    assert draw_noise(make_policy(), 2, like=like).shape == (2, 0)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_checkpoints_are_self_contained(head, tmp_path: Path) -> None:
    policy = make_policy(type(head)(8), ahead=(0.0, 5.0), accel=(-4.0, 2.0))
    save_model(policy, tmp_path / "policy.pt")
    again = load_model(tmp_path / "policy.pt", spec=policy.spec)
    assert isinstance(again, PolicyNetwork) and again.view_spec == policy.view_spec
    view = make_view(policy)
    assert torch.equal(again(view), policy(view))
    with pytest.raises(CheckpointError, match="was trained on rasters"):
        load_model(tmp_path / "policy.pt", spec=RasterSpec())


def test_scenes_do_not_influence_one_another() -> None:
    policy = make_policy()
    view = make_view(policy, 3)
    torch.testing.assert_close(policy(view)[1:2], policy(view[1:2]))


def test_values_start_at_zero() -> None:
    policy = make_policy()
    value = ValueNetwork(policy.view_spec, channels=4, features=8)
    assert value(make_view(policy)).tolist() == [0.0, 0.0]
