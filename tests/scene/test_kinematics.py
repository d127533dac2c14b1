import math

import pytest
import torch
from torch import Tensor

from worldmodel.scene import (
    comoving_views,
    compose_pose,
    inverse,
    relative_pose,
    rollout,
    step,
    track_states,
    wrap_angle,
)

DT = 0.1


def f64(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random_motion(num: int = 5, length: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Initial states, some in reverse, and actions that keep every car moving."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.randn(num, 4, generator=generator, dtype=torch.float64) * f64(50, 10, 2, 1) + f64(
        0, 0, 0, 12
    )
    state[0, 3] *= -1
    actions = torch.randn(num, length, 2, generator=generator, dtype=torch.float64) * f64(1.0, 0.02)
    return state, actions


# step and rollout -------------------------------------------------------------------------------------------


def test_step_accelerates_before_it_moves() -> None:
    got = step(f64(1.0, 2.0, 0.0, 10.0), f64(2.0, 0.0), DT)
    torch.testing.assert_close(got, f64(1.0 + 10.2 * 0.1, 2.0, 0.0, 10.2))


def test_step_turns_before_it_moves() -> None:
    # Half a metre of travel at 0.2 1/m turns by 0.1 rad, and the displacement points there.
    got = step(f64(0.0, 0.0, math.pi / 2, 5.0), f64(0.0, 0.2), DT)
    heading = math.pi / 2 + 0.1
    torch.testing.assert_close(got, f64(0.5 * math.cos(heading), 0.5 * math.sin(heading), heading, 5.0))


def test_reverse_turns_the_other_way() -> None:
    # Steering left while driving back swings the nose to the right.
    got = step(f64(0.0, 0.0, 0.0, -5.0), f64(0.0, 0.2), DT)
    torch.testing.assert_close(got, f64(-0.5 * math.cos(-0.1), -0.5 * math.sin(-0.1), -0.1, -5.0))


def test_standing_car_cannot_turn() -> None:
    state = f64(3.0, 4.0, 0.7, 0.0)
    torch.testing.assert_close(step(state, f64(0.0, 0.1), DT), state)


def test_brake_through_zero_is_reverse() -> None:
    assert step(f64(0.0, 0.0, 0.0, 0.2), f64(-4.0, 0.0), DT)[3].item() == pytest.approx(-0.2)


def test_rollout_repeats_step() -> None:
    state, actions = random_motion()
    expected, current = [], state
    for t in range(actions.shape[1]):
        current = step(current, actions[:, t], DT)
        expected.append(current)
    torch.testing.assert_close(rollout(state, actions, DT), torch.stack(expected, 1), rtol=0, atol=1e-9)


def test_leading_dimensions_are_batched() -> None:
    state, actions = random_motion(num=6)
    got = rollout(state.unflatten(0, (2, 3)), actions.unflatten(0, (2, 3)), DT)
    looped = torch.stack([rollout(state[i], actions[i], DT) for i in range(6)])
    torch.testing.assert_close(got.flatten(0, 1), looped)


def test_circle_converges_as_the_step_shrinks() -> None:
    speed, curvature, seconds = 8.0, 0.05, 4.0
    angle = speed * curvature * seconds
    exact = f64(math.sin(angle) / curvature, (1 - math.cos(angle)) / curvature)
    errors = []
    for num in (40, 80, 160):
        actions = f64(0.0, curvature).expand(num, 2)
        end = rollout(f64(0.0, 0.0, 0.0, speed), actions, seconds / num)[-1]
        errors.append((end[:2] - exact).norm().item())
        assert end[2].item() == pytest.approx(angle)
    # Turning before moving, the chord points half a step's turn too far.
    assert errors[0] == pytest.approx(exact.norm().item() * speed * curvature * DT / 2, rel=0.01)
    assert errors[1] / errors[0] == pytest.approx(0.5, abs=0.02)  # first order
    assert errors[2] / errors[1] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("speed", [12.0, -3.0])
def test_rotated_and_shifted_world_gives_rotated_and_shifted_motion(speed: float) -> None:
    state, actions = random_motion(num=1)
    state[:, 3] = speed
    frame = f64(31.0, -7.0, 2.1)
    moved = compose_pose(state, frame)
    expected = compose_pose(rollout(state, actions, DT), frame)
    got = rollout(moved, actions, DT)
    torch.testing.assert_close(got[..., [0, 1, 3]], expected[..., [0, 1, 3]])
    torch.testing.assert_close(wrap_angle(got[..., 2] - expected[..., 2]), torch.zeros_like(got[..., 2]))


def test_mirrored_actions_give_mirrored_motion() -> None:
    state, actions = random_motion()
    mirror = f64(1.0, -1.0, -1.0, 1.0)
    got = rollout(state * mirror, actions * f64(1.0, -1.0), DT)
    torch.testing.assert_close(got, rollout(state, actions, DT) * mirror)


# inverse ----------------------------------------------------------------------------------------------------


def test_inverse_returns_the_actions() -> None:
    state, actions = random_motion()
    states = torch.cat([state.unsqueeze(1), rollout(state, actions, DT)], dim=1)
    torch.testing.assert_close(inverse(states, DT), actions, rtol=0, atol=1e-9)


def test_action_t_leads_from_frame_t_to_the_next() -> None:
    # One push in frame 3: the speed of frame 4 is the first to know of it.
    actions = torch.zeros(8, 2, dtype=torch.float64)
    actions[3] = f64(2.0, 0.01)
    start = f64(0.0, 0.0, 0.0, 10.0)
    states = torch.cat([start[None], rollout(start, actions, DT)])
    assert states[3, 3].item() == 10.0
    assert states[4, 3].item() == pytest.approx(10.2)
    assert states[4, 0].item() - states[3, 0].item() == pytest.approx(1.02, abs=1e-4)
    assert inverse(states, DT).nonzero()[:, 0].unique().tolist() == [3]
    for t in range(8):
        torch.testing.assert_close(step(states[t], inverse(states, DT)[t], DT), states[t + 1])


def test_inverse_has_no_curvature_at_standstill() -> None:
    states = f64([0, 0, 0.0, 0], [0, 0, 0.3, 0], [0, 0, -0.3, 0])
    assert torch.equal(inverse(states, DT), torch.zeros(2, 2, dtype=torch.float64))


def test_inverse_does_not_mind_a_wrapped_heading() -> None:
    states = f64([0, 0, math.pi - 0.01, 10.0], [0, 0, -math.pi + 0.01, 10.0])
    torch.testing.assert_close(inverse(states, DT), f64([0.0, 0.02]))


# track_states -----------------------------------------------------------------------------------------------


def path(seed: int, *, num: int = 60, noise: float = 0.0) -> Tensor:
    """A wavy drive that brakes to a stop half way and starts again."""
    time = torch.arange(num, dtype=torch.float64) * DT
    x = torch.cumsum((8 * torch.cos(math.pi * time / time[-1]).abs()) * DT, 0)
    generator = torch.Generator().manual_seed(seed)
    jitter = noise * torch.randn(num, 2, generator=generator, dtype=torch.float64)
    return torch.stack([x, 0.8 * torch.sin(x / 9)], dim=-1) + jitter


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3])
def test_inverse_then_forward_gives_the_track_back(noise: float) -> None:
    positions = torch.stack([path(seed, noise=noise) for seed in range(4)])
    states = track_states(positions, f64(0.0, 0.1, 3.0, -1.0), DT)
    back = rollout(states[:, 0], inverse(states, DT), DT)
    torch.testing.assert_close(back, states[:, 1:], rtol=0, atol=1e-9)


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_no_curvature_exceeds_the_limit(noise: float) -> None:
    states = track_states(torch.stack([path(s, noise=noise) for s in range(8)]), torch.zeros(8).double(), DT)
    assert inverse(states, DT)[..., 1].abs().max().item() <= 0.15 + 1e-9


def test_track_that_can_be_driven_is_met_exactly() -> None:
    state, actions = random_motion(length=60)
    states = torch.cat([state.unsqueeze(1), rollout(state, actions, DT)], dim=1)
    got = track_states(states[..., :2], states[:, 0, 2], DT)
    torch.testing.assert_close(got[:, 1:], states[:, 1:], rtol=0, atol=1e-8)


def test_first_state_is_at_the_first_position() -> None:
    positions = path(0)
    assert torch.equal(track_states(positions, f64(0.0)[0], DT)[0, :2], positions[0])


def test_heading_holds_under_jitter_at_standstill() -> None:
    generator = torch.Generator().manual_seed(0)
    positions = 0.01 * torch.randn(300, 2, generator=generator, dtype=torch.float64)
    states = track_states(positions, f64(0.4)[0], DT)
    assert (states[:, 2] - 0.4).abs().max().item() < 0.1
    assert (states[:, :2]).norm(dim=-1).max().item() < 0.1


def test_sideways_shift_of_a_standing_car_is_ignored() -> None:
    positions = f64([0, 0], [0, 0], [0, 0.5], [0, 0.5])
    states = track_states(positions, f64(0.0)[0], DT)
    torch.testing.assert_close(states, torch.zeros(4, 4, dtype=torch.float64))


def test_displacement_against_the_heading_is_reverse() -> None:
    positions = torch.stack([-0.3 * torch.arange(10.0, dtype=torch.float64), torch.zeros(10).double()], -1)
    states = track_states(positions, f64(0.0)[0], DT)
    torch.testing.assert_close(states[:, 3], torch.full((10,), -3.0, dtype=torch.float64))
    assert states[:, 2].abs().max().item() == 0.0


def test_single_frame_stands() -> None:
    torch.testing.assert_close(track_states(f64([3.0, 4.0]), f64(0.5)[0], DT), f64([3.0, 4.0, 0.5, 0.0]))


def test_tracks_are_independent_of_each_other() -> None:
    positions = torch.stack([path(seed, noise=0.05) for seed in range(3)])
    heading = f64(0.0, 0.2, -0.1)
    looped = torch.stack([track_states(positions[i], heading[i], DT) for i in range(3)])
    torch.testing.assert_close(track_states(positions, heading, DT), looped)


# frames -----------------------------------------------------------------------------------------------------


def test_wrap_angle_is_half_open() -> None:
    got = wrap_angle(f64(0.0, math.pi, -math.pi, 3 * math.pi / 2, 7.0))
    torch.testing.assert_close(got, f64(0.0, -math.pi, -math.pi, -math.pi / 2, 7.0 - 2 * math.pi))


def test_relative_pose_by_hand() -> None:
    # From a car at (10, 5) facing +y, one at (7, 9) facing -x is 4 ahead, 3 left, a quarter turn left.
    got = relative_pose(f64(7.0, 9.0, math.pi, 6.0), f64(10.0, 5.0, math.pi / 2))
    torch.testing.assert_close(got, f64(4.0, 3.0, math.pi / 2, 6.0))


def test_compose_undoes_relative() -> None:
    generator = torch.Generator().manual_seed(0)
    pose, frame = torch.randn(2, 100, 3, generator=generator, dtype=torch.float64) * 3
    pose[:, 2], frame[:, 2] = wrap_angle(pose[:, 2]), wrap_angle(frame[:, 2])
    torch.testing.assert_close(compose_pose(relative_pose(pose, frame), frame), pose)


def test_comoving_frame_is_what_no_action_gives() -> None:
    state, _ = random_motion()
    expected = rollout(state, torch.zeros(5, 7, 2, dtype=torch.float64), DT)
    torch.testing.assert_close(comoving_views(state, 7, DT), expected[..., :3])


# gradients --------------------------------------------------------------------------------------------------


def test_gradients() -> None:
    state, actions = random_motion(num=2, length=4)
    state, actions = state.requires_grad_(), actions.requires_grad_()
    frame = f64([1.0, 2.0, 0.3], [0.0, -1.0, -2.0]).requires_grad_()
    assert torch.autograd.gradcheck(lambda s, a: step(s, a, DT), (state, actions[:, 0]))
    assert torch.autograd.gradcheck(lambda s, a: rollout(s, a, DT), (state, actions))
    assert torch.autograd.gradcheck(relative_pose, (state, frame))
    assert torch.autograd.gradcheck(compose_pose, (state, frame))


def test_gradient_of_inverse_at_standstill_is_finite() -> None:
    states = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    inverse(states, DT).sum().backward()
    assert states.grad is not None and states.grad.isfinite().all()
