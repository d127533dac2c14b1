"""Windows: which there are, and that states, actions, views and pictures of a window belong together."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from worldmodel.data import Span, make_recording
from worldmodel.data.dataset import WindowDataset, comoving_future, ego_future, windows
from worldmodel.scene import (
    Channel,
    RasterSpec,
    Recording,
    Renderer,
    RoadChannel,
    RoadField,
    RoadSpec,
    comoving_views,
    step,
)

HISTORY, HORIZON = 4, 6
SPEC = RasterSpec(height=32, width=16, resolution=1.0)
ROAD = RoadSpec(ahead=20.0, behind=10.0, aside=8.0)
LENGTHS = {"history": HISTORY, "horizon": HORIZON}
SPECS = {"spec": SPEC, "road_spec": ROAD}


def recordings() -> list[Recording]:
    return [make_recording(seed=seed, num_vehicles=4, num_frames=30, name=f"r{seed}") for seed in (0, 1)]


def whole(*some: Recording) -> list[Span]:
    return [Span(one.name, 0, one.num_frames) for one in some]


def make_dataset(**options) -> WindowDataset:
    both = recordings()
    return WindowDataset(
        both, windows(both, whole(*both), **LENGTHS, stride=7), **LENGTHS, **SPECS, **options
    )


# Which windows there are


def test_windows_are_all_that_fit() -> None:
    one = recordings()[0]
    index = windows([one], whole(one), **LENGTHS)
    # 30 frames hold 21 windows of 10; the first has its newest frame at 3.
    expected = [(0, row, newest) for row in range(4) for newest in range(3, 24)]
    assert index.tolist() == [list(window) for window in expected]
    assert windows([one], whole(one), **LENGTHS, stride=10)[:, 2].tolist() == [3, 13, 23] * 4


def test_no_window_crosses_the_borders_of_its_span() -> None:
    one = recordings()[0]
    spans = [Span("r0", 2, 14), Span("r0", 14, 25)]
    newest = windows([one], spans, **LENGTHS)[:, 2]
    first, last = newest - HISTORY + 1, newest + HORIZON
    assert first.min() == 2 and last.max() == 24
    assert not ((first < 14) & (last >= 14)).any()
    assert len(newest) == 4 * (3 + 2)


def test_windows_avoid_gaps_and_the_excluded() -> None:
    one = recordings()[0]
    valid = one.tracks.valid.copy()
    valid[0, 12] = False
    gap = replace(one, tracks=replace(one.tracks, valid=valid))
    excluded = tuple(one.tracks.ids[[1, 3]].tolist())
    index = windows([gap], [Span("r0", 0, 30, excluded)], **LENGTHS)
    assert set(index[:, 1]) == {0, 2}
    newest = index[index[:, 1] == 0, 2]
    assert not ((newest - HISTORY + 1 <= 12) & (newest + HORIZON >= 12)).any()
    assert len(newest) == 3 + 8  # runs of 12 and of 17 frames


def test_windows_count_recordings_in_their_order() -> None:
    both = recordings()
    index = windows(both, [Span("r1", 0, 10)], **LENGTHS)
    assert set(index[:, 0]) == {1}


@pytest.mark.parametrize(
    ("spans", "options", "message"),
    [
        ([Span("r0", 0, 30)], {"horizon": 60}, "longest run of a vehicle has 30"),
        ([Span("r0", 0, 9)], {}, "longest run of a vehicle has 9"),
        ([], {}, "0 spans"),
        ([Span("elsewhere", 0, 9)], {}, "found \\['r0', 'r1'\\]"),
        ([Span("r0", 0, 30)], {"history": 0}, "expected at least 1"),
        ([Span("r0", 0, 30)], {"stride": 0}, "expected at least 1"),
    ],
)
def test_impossible_windows_are_refused(spans: list[Span], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        windows(recordings(), spans, **(LENGTHS | options))


# What a window holds


def test_actions_lead_from_each_state_to_the_next() -> None:
    dataset = make_dataset()
    clip = dataset.collate([dataset[item] for item in range(len(dataset))])
    led = step(clip.state[:, :-1].double(), clip.action.double(), dataset.dt)
    assert (led - clip.state[:, 1:]).abs().max() < 1e-4


def test_states_are_the_recorded_ones_and_clips_keep_their_order() -> None:
    dataset = make_dataset()
    order = [17, 3, 9, 20, 0]
    clip = dataset.collate([dataset[item] for item in order])
    assert clip.origin.tolist() == dataset.index[order].tolist()
    for index, (number, row, newest) in enumerate(clip.origin.tolist()):
        tracks = dataset.recordings[number].tracks
        recorded = tracks.state[row, newest - HISTORY + 1 : newest + HORIZON + 1]
        np.testing.assert_allclose(clip.state[index].numpy(), recorded, atol=1e-4)
        np.testing.assert_allclose(clip.size[index].numpy(), tracks.size[row], rtol=1e-6)


def test_history_is_seen_from_the_ego_and_the_future_from_the_comoving_frame() -> None:
    dataset = make_dataset()
    clip = dataset.collate([dataset[5], dataset[14]])
    torch.testing.assert_close(clip.view[:, :HISTORY], clip.state[:, :HISTORY, :3])
    expected = comoving_views(clip.state[:, HISTORY - 1], HORIZON, dataset.dt)
    torch.testing.assert_close(clip.view[:, HISTORY:], expected, atol=1e-4, rtol=1e-6)


def test_ego_future_follows_the_ego() -> None:
    dataset = make_dataset(future_views=ego_future)
    clip = dataset.collate([dataset[5], dataset[14]])
    torch.testing.assert_close(clip.view, clip.state[..., :3])


def test_pictures_coverage_and_road_are_those_at_the_views() -> None:
    dataset = make_dataset()
    clip = dataset.collate([dataset[item] for item in (20, 2, 11)])
    for index, (number, row, newest) in enumerate(clip.origin.tolist()):
        recording = dataset.recordings[number]
        state = torch.from_numpy(recording.tracks.state[row, newest - HISTORY + 1 : newest + HORIZON + 1])[
            None
        ]
        future = comoving_future(state, HISTORY, recording.dt)
        views = torch.cat([state[:, :HISTORY, :3], future], dim=1)[0].numpy()
        frames = np.arange(newest - HISTORY + 1, newest + HORIZON + 1)
        renderer = Renderer(recording, SPEC)
        np.testing.assert_array_equal(clip.image[index], renderer.render(views, frames, np.full(10, row)))
        np.testing.assert_array_equal(clip.covered[index], renderer.covered_rows(views, frames))
        road = RoadField(recording.lane_map).crop(views[HISTORY - 1 : HISTORY], ROAD)
        np.testing.assert_array_equal(clip.road[index], road[0])


def test_rows_beyond_the_camera_are_not_covered() -> None:
    window = (60.0, 120.0)
    one = make_recording(num_vehicles=12, num_frames=30, window=window, name="r0")
    index = windows([one], whole(one), **LENGTHS)
    dataset = WindowDataset([one], index, **LENGTHS, **SPECS)
    clip = dataset.collate([dataset[item] for item in range(0, len(dataset), 3)])
    ahead = torch.from_numpy(SPEC.row_positions()).float()
    x = clip.view[..., :1] + clip.view[..., 2:].cos() * ahead
    expected = (x >= window[0]) & (x <= window[1])
    assert 0 < expected.sum() < expected.numel()
    assert (clip.covered != expected).float().mean() < 1e-3  # float32 views
    assert not clip.image[:, :, Channel.VEHICLES][~clip.covered].all()


def test_mirrored_recordings_give_mirrored_windows() -> None:
    one = recordings()[0]
    index = windows([one], whole(one), **LENGTHS, stride=9)
    both = WindowDataset(
        [one, one.mirror()], np.concatenate([index, index + np.array([1, 0, 0])]), **LENGTHS, **SPECS
    )
    here = both.collate([both[item] for item in range(len(index))])
    there = both.collate([both[item + len(index)] for item in range(len(index))])
    flip = torch.tensor([1.0, -1.0])
    torch.testing.assert_close(there.action, here.action * flip, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(there.state, here.state * torch.tensor([1.0, -1.0, -1.0, 1.0]))
    vehicles = here.image[:, :, Channel.VEHICLES]
    assert torch.equal(there.image[:, :, Channel.VEHICLES].flip(-1), vehicles)
    torch.testing.assert_close(
        there.road[:, RoadChannel.EDGE].flip(-1), here.road[:, RoadChannel.EDGE], atol=0.2, rtol=0
    )


def test_the_future_of_a_window_is_not_in_its_history() -> None:
    dataset = make_dataset()
    clip = dataset.collate([dataset[0]])
    obs = clip.obs(HISTORY)
    assert obs.image.shape[1] == HISTORY and obs.state.shape[1] == HISTORY
    one = dataset.recordings[0]
    state = one.tracks.state.copy()
    state[:, HISTORY:] += np.array([3.0, 1.0, 0.0, 0.0])  # a jump of everybody after the present
    changed = replace(one, tracks=replace(one.tracks, state=state))
    renderer = Renderer(changed, SPEC)
    again = renderer.render(one.tracks.state[0, :HISTORY, :3], np.arange(HISTORY), np.zeros(HISTORY, int))
    np.testing.assert_array_equal(obs.image[0], again)
    assert torch.equal(obs.road, clip.road)


# What is refused


def test_recordings_that_do_not_obey_the_integrator_are_refused() -> None:
    one = recordings()[0]
    state = one.tracks.state.copy()
    state[2, 11, 1] += 0.05
    noisy = replace(one, tracks=replace(one.tracks, state=state))
    with pytest.raises(ValueError, match="does not obey the integrator"):
        WindowDataset([noisy], np.array([[0, 0, 5]]), **LENGTHS, **SPECS)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (np.empty((0, 3), dtype=int), "no window"),
        (np.array([[5, 0, 5]]), "recording 5 of 2"),
        (np.array([[0, 0, 2]]), "frames -1"),
        (np.array([[0, 0, 25]]), "which has 30"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(index: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WindowDataset(recordings(), index, **LENGTHS, **SPECS)


def test_a_window_with_a_gap_is_refused() -> None:
    one = recordings()[0]
    valid = one.tracks.valid.copy()
    valid[1, 8] = False
    gap = replace(one, tracks=replace(one.tracks, valid=valid))
    with pytest.raises(ValueError, match="vehicle row 1 of 'r0' is not recorded throughout"):
        WindowDataset([gap], np.array([[0, 0, 5], [0, 1, 5]]), **LENGTHS, **SPECS)


def test_recordings_with_different_time_steps_are_refused() -> None:
    one, two = recordings()[0], make_recording(num_frames=30, dt=0.2, name="slow")
    with pytest.raises(ValueError, match=r"time steps \[0.1, 0.2\] s"):
        WindowDataset([one, two], np.array([[0, 0, 5]]), **LENGTHS, **SPECS)
