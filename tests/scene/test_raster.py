"""The raster's definition: by hand, by invariance, against supersampling, and backend against backend."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from worldmodel.data import make_recording
from worldmodel.scene import (
    Channel,
    LaneMap,
    RasterSpec,
    Recording,
    Renderer,
    TorchRenderer,
    Tracks,
    comoving_views,
    relative_pose,
    render_boxes,
    render_moments,
    sample_image,
)

SMALL = RasterSpec(height=9, width=7, resolution=1.0, channels=(Channel.VEHICLES,))
VEHICLES_ONLY = RasterSpec(channels=(Channel.VEHICLES,))
ORIGIN = np.zeros((1, 3))
NOBODY = np.array([-1])


def recording_of(boxes: np.ndarray, lane_map: LaneMap | None = None) -> Recording:
    """One frame with vehicles at `boxes` `(V, 5)`; row `i` has the id `10 i`."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 5)
    state = np.concatenate([boxes[:, :3], np.zeros((len(boxes), 1))], axis=1)[:, None]
    tracks = Tracks(10 * np.arange(len(boxes)), state, boxes[:, 3:], np.ones((len(boxes), 1), dtype=bool))
    lane_map = lane_map or LaneMap.straight(length=100.0, num_lanes=3)
    return Recording("test", tracks, lane_map, 0.1, np.array([[0.0, 100.0]]))


def vehicles(boxes: np.ndarray, view: np.ndarray = ORIGIN, spec: RasterSpec = SMALL) -> np.ndarray:
    return Renderer(recording_of(boxes), spec).render(view, np.zeros(1, dtype=int), NOBODY)[0, 0]


def supersampled(box: np.ndarray, spec: RasterSpec, factor: int = 8) -> np.ndarray:
    """Share of `factor x factor` points of each pixel inside the box, by its half planes."""
    fine = RasterSpec(spec.height * factor, spec.width * factor, spec.resolution / factor)
    x, y = np.meshgrid(fine.row_positions(), fine.column_positions(), indexing="ij")
    cos, sin = math.cos(box[2]), math.sin(box[2])
    u, v = cos * (x - box[0]) + sin * (y - box[1]), cos * (y - box[1]) - sin * (x - box[0])
    inside = (np.abs(u) <= box[3] / 2) & (np.abs(v) <= box[4] / 2)
    return inside.reshape(spec.height, factor, spec.width, factor).mean(axis=(1, 3))


def test_moments_are_drawn_as_frames_of_recordings() -> None:
    recording = make_recording(seed=3, num_vehicles=6, num_frames=30)
    tracks, frames, egos = recording.tracks, np.array([29, 0, 11, 11]), np.array([2, 0, 5, 1])
    views = tracks.state[egos, frames, :3]
    boxes = np.concatenate([tracks.state[:, frames, :3], tracks.size[:, None].repeat(4, axis=1)], axis=2)
    valid = tracks.valid[:, frames] & (np.arange(6)[:, None] != egos)
    moments = render_moments(views, boxes.swapaxes(0, 1).astype(np.float64), valid.T, recording.lane_map)
    np.testing.assert_array_equal(moments, Renderer(recording).render(views, frames, egos))
    assert moments.any(axis=(0, 2, 3)).all()


def test_a_box_on_the_pixel_grid_fills_exactly_its_pixels() -> None:
    expected = np.zeros((9, 7), dtype=np.uint8)
    expected[3:6, 2:5] = 255
    np.testing.assert_array_equal(vehicles([0.0, 0.0, 0.0, 3.0, 3.0]), expected)


def test_a_shifted_box_covers_its_border_pixels_in_part() -> None:
    # Rows 3 and 6 are covered by 3/4 and 1/4, columns 2 and 4 by 1/2: the centre is 1/4 m behind, 2 m wide.
    image = vehicles([-0.25, 0.0, 0.0, 3.0, 2.0]) / 255.0
    rows = np.array([0, 0, 0, 0.75, 1, 1, 0.25, 0, 0])
    cols = np.array([0, 0, 0.5, 1, 0.5, 0, 0])
    np.testing.assert_allclose(image, rows[:, None] * cols, atol=0.5 / 255)


def test_a_line_thinner_than_a_pixel_keeps_its_area() -> None:
    assert vehicles([0.0, 0.3, 0.0, 3.0, 0.2]).sum() / 255.0 == pytest.approx(0.6, abs=0.01)


def test_row_0_is_ahead_and_column_0_left() -> None:
    image = vehicles([4.0, 3.0, 0.0, 1.0, 1.0])
    assert image[0, 0] == 255 and image.sum() == 255


def test_a_quarter_turn_of_view_and_box_turns_the_picture() -> None:
    # Seen by someone who looks to the left, what was to the left is ahead.
    view = np.array([[0.0, 0.0, math.pi / 2]])
    image = vehicles([0.0, 4.0, 0.0, 1.0, 3.0], view)
    assert image[0, 3] == 255 and image[1, 3] == 255 and image[2, 3] == 0


def test_overlapping_boxes_add_up_and_saturate() -> None:
    half = [0.0, 0.0, 0.0, 1.0, 0.4]
    assert vehicles(half)[4, 3] == 102
    assert vehicles([half, half])[4, 3] == 204
    assert vehicles([half, half, half])[4, 3] == 255


def test_boxes_beyond_the_border_leave_no_trace() -> None:
    assert not vehicles([[20.0, 0.0, 0.0, 4.0, 2.0], [0.0, -9.0, 0.0, 4.0, 2.0]]).any()


@pytest.mark.parametrize("shift", [(0.0, 0.0), (13.37, -4.2), (1e5, 2e5)])
def test_views_see_the_same_wherever_the_scene_is(shift: tuple[float, float]) -> None:
    boxes = np.array([[3.0, 1.2, 0.1, 4.5, 1.8], [-12.3, -3.1, -0.2, 5.0, 2.0]])
    move = np.array([*shift, 0.0])
    moved = boxes + np.array([*shift, 0.0, 0.0, 0.0])
    here = vehicles(boxes, np.array([[0.5, 0.2, 0.05]]), VEHICLES_ONLY)
    there = vehicles(moved, np.array([[0.5, 0.2, 0.05]]) + move, VEHICLES_ONLY)
    np.testing.assert_allclose(here.astype(int), there.astype(int), atol=1)


def test_views_see_the_same_however_the_scene_is_turned() -> None:
    frame = torch.tensor([7.0, -3.0, 2.1])
    boxes = torch.tensor([[3.0, 1.2, 0.1, 4.5, 1.8], [-12.3, -3.1, -0.2, 5.0, 2.0]], dtype=torch.float64)
    turned = relative_pose(boxes, frame.double().expand(2, 3)).numpy()
    view = relative_pose(torch.zeros(1, 3, dtype=torch.float64), frame.double()[None]).numpy()
    here, there = vehicles(boxes.numpy(), ORIGIN, VEHICLES_ONLY), vehicles(turned, view, VEHICLES_ONLY)
    np.testing.assert_allclose(here.astype(int), there.astype(int), atol=1)


def test_the_mirrored_recording_gives_the_mirrored_picture() -> None:
    recording = make_recording(seed=3, num_vehicles=9, num_frames=20)
    mirrored, views = recording.mirror(), recording.tracks.state[:, 10, :3]
    frames, rows = np.full(9, 10), np.arange(9)
    image = Renderer(recording).render(views, frames, rows)
    flipped = Renderer(mirrored).render(views * np.array([1, -1, -1]), frames, rows)[..., ::-1]
    car, road = Channel.VEHICLES, [Channel.LANE, Channel.OFF_ROAD]
    np.testing.assert_array_equal(image[:, car], flipped[:, car])
    # The road is looked up on a grid that is not symmetric: pixels may differ by a texel.
    assert np.abs(image[:, road].astype(int) - flipped[:, road]).mean() < 2.0


@pytest.mark.parametrize("heading", [0.0, 0.02, 0.05, 0.1, -0.3, 0.6, math.pi / 4, 1.2, 2.0])
def test_vehicles_agree_with_supersampling(heading: float) -> None:
    rng = np.random.default_rng(1)
    errors, areas = [], []
    for _ in range(20):
        box = np.array([*rng.uniform(-2, 2, 2), heading, *rng.uniform([4.0, 1.7], [6.0, 2.1])])
        drawn = vehicles(box, ORIGIN, VEHICLES_ONLY).astype(float)
        truth = supersampled(box, VEHICLES_ONLY) * 255.0
        touched = (drawn > 0) | (truth > 0)
        errors.append((drawn - truth)[touched])
        areas.append((drawn.sum(), truth.sum()))
    drawn_area, true_area = np.sum(areas, axis=0)
    assert abs(drawn_area / true_area - 1.0) < 0.01
    # Over the pixels touched, not the empty rest. At 45 degrees a corner pixel is off by up to 1/8.
    assert np.sqrt(np.mean(np.concatenate(errors) ** 2)) < (8.0 if abs(heading) <= 0.05 else 20.0)
    whole = np.sqrt(np.sum(np.concatenate(errors) ** 2) / (20 * 117 * 24))
    assert whole < 3.0


def test_the_ego_is_not_drawn_and_nobody_else_is_left_out() -> None:
    recording = make_recording(seed=0, num_vehicles=6, num_frames=10)
    views, frames = recording.tracks.state[:, 4, :3], np.full(6, 4)
    renderer = Renderer(recording, VEHICLES_ONLY)
    everyone = renderer.render(views, frames, np.full(6, -1))[:, 0].astype(int)
    others = renderer.render(views, frames, np.arange(6))[:, 0].astype(int)
    length, width = recording.tracks.size.T
    area = (everyone - others).sum(axis=(1, 2)) / 255.0 * VEHICLES_ONLY.resolution**2
    np.testing.assert_allclose(area, length * width, rtol=0.01)
    assert (others[:, 55:62, 11:13] == 0).all()


def test_a_vehicle_is_drawn_only_where_it_was_recorded() -> None:
    recording = make_recording(seed=0, num_vehicles=2, num_frames=5)
    valid = recording.tracks.valid.copy()
    valid[1, 3] = False
    state = recording.tracks.state.copy()
    state[1, 3] = np.nan  # masked values mean nothing
    gone = replace(recording, tracks=replace(recording.tracks, valid=valid, state=state))
    views = np.repeat(recording.tracks.state[1:, 2, :3], 2, axis=0)
    image = Renderer(gone, VEHICLES_ONLY).render(views, np.array([2, 3]), np.array([0, 0]))
    assert image[0].any() and not image[1].any()


ROAD = LaneMap.straight(length=200.0, num_lanes=3, lane_width=4.0)  # y from 0 to 12
ROAD_SPEC = RasterSpec(height=20, width=40, resolution=0.5, channels=(Channel.OFF_ROAD, Channel.LANE))


def test_markings_and_edges_lie_where_the_map_has_them() -> None:
    recording = recording_of(np.empty((0, 5)), ROAD)
    off_road, lane = Renderer(recording, ROAD_SPEC).render(
        np.array([[100.0, 6.0, 0.0]]), np.zeros(1, int), NOBODY
    )[0]
    # Columns are 0.5 m wide, the viewer on the middle: markings at 6, 2, -2, -6 m, between columns.
    expected = np.zeros(40)
    for y in (6.0, 2.0, -2.0, -6.0):
        left_of = int((10.0 - y) / 0.5)
        expected[[left_of - 1, left_of]] = 255.0 * 0.3 / 0.5 / 2
    np.testing.assert_allclose(lane, np.tile(expected, (20, 1)), atol=255 * 0.125 / 0.5 / 2)
    np.testing.assert_array_equal(off_road[:, :7], 255)
    np.testing.assert_array_equal(off_road[:, 9:31], 0)
    np.testing.assert_array_equal(off_road[:, 33:], 255)
    assert off_road.sum() / 255 / 20 == pytest.approx(16, abs=0.6)  # 40 columns less 12 m


def test_the_end_of_the_road_and_all_beyond_is_off_road() -> None:
    renderer = Renderer(recording_of(np.empty((0, 5)), ROAD), ROAD_SPEC)
    views = np.array([[200.0, 6.0, 0.0], [1000.0, 6.0, 0.0], [100.0, -500.0, 1.0]])
    image = renderer.render(views, np.zeros(3, int), np.full(3, -1))
    at_the_end = image[0, 0, :, 10:30]
    assert (at_the_end[:9] == 255).all() and (at_the_end[11:] == 0).all()
    assert (image[1:, 0] == 255).all() and (image[1:, 1] == 0).all()


def test_channels_have_names() -> None:
    """As configurations write them; a spec holds the channels themselves."""

    def spec(*names: str) -> RasterSpec:
        return RasterSpec(**{"channels": list(names)})  # type: ignore[arg-type]

    assert spec("vehicles", "OFF_ROAD") == RasterSpec(channels=(Channel.VEHICLES, Channel.OFF_ROAD))
    assert spec("lane").channels == (Channel.LANE,)
    with pytest.raises(ValueError, match="'cars', expected some of lane, vehicles, off_road"):
        spec("cars")


def test_the_order_of_channels_is_the_specs() -> None:
    recording = make_recording(seed=1, num_vehicles=4, num_frames=3)
    arguments = (recording.tracks.state[:, 1, :3], np.ones(4, int), np.arange(4))
    full = Renderer(recording).render(*arguments)
    for channels in [(Channel.OFF_ROAD,), (Channel.LANE,), (Channel.VEHICLES, Channel.LANE)]:
        some = Renderer(recording, RasterSpec(channels=channels)).render(*arguments)
        np.testing.assert_array_equal(some, full[:, list(channels)])


def test_out_and_where_say_where_pictures_go() -> None:
    recording = make_recording(seed=1, num_vehicles=3, num_frames=3)
    renderer = Renderer(recording, SMALL)
    arguments = (recording.tracks.state[:, 1, :3], np.ones(3, int), np.arange(3))
    out = np.full((5, 1, 9, 7), 77, dtype=np.uint8)
    returned = renderer.render(*arguments, out=out, where=np.array([4, 0, 2]))
    assert returned is out
    np.testing.assert_array_equal(out[[4, 0, 2]], renderer.render(*arguments))
    assert (out[[1, 3]] == 77).all()
    with pytest.raises(ValueError, match="out has shape"):
        renderer.render(*arguments, out=out[:2])
    with pytest.raises(ValueError, match="out has shape"):
        renderer.render(*arguments, out=out, where=np.array([0, 1, 5]))


@pytest.mark.parametrize("frame", [-1, 3])
def test_a_frame_outside_the_recording_is_refused(frame: int) -> None:
    renderer = Renderer(make_recording(num_vehicles=1, num_frames=3), SMALL)
    with pytest.raises(ValueError, match="recording's 3"):
        renderer.render(ORIGIN, np.array([frame]), NOBODY)


def test_rows_are_covered_where_the_camera_looked() -> None:
    recording = replace(
        make_recording(num_vehicles=2, num_frames=2), coverage=np.array([[0.0, 52.0], [48.5, 99.0]])
    )
    renderer = Renderer(recording, SMALL)  # rows are 4, 3 .. -4 m ahead
    views = np.array([[50.0, 0.0, 0.0], [50.0, 0.0, 0.0], [50.0, 0.0, math.pi]])
    covered = renderer.covered_rows(views, np.array([0, 1, 1]))
    np.testing.assert_array_equal(covered[0], np.arange(9) >= 2)
    np.testing.assert_array_equal(covered[1], np.arange(9) <= 5)
    np.testing.assert_array_equal(covered[2], np.arange(9) >= 3)


# The torch backend


def test_both_backends_draw_the_same() -> None:
    recording = make_recording(seed=5, num_vehicles=30, num_frames=30, num_lanes=4)
    rng = np.random.default_rng(0)
    rows, frames = rng.integers(0, 30, 40), rng.integers(0, 30, 40)
    views = recording.tracks.state[rows, frames, :3] + rng.normal(0, [3.0, 1.0, 0.2], (40, 3))
    ours = Renderer(recording).render(views, frames, rows) / 255.0
    theirs = TorchRenderer(recording).render(
        torch.from_numpy(views), torch.from_numpy(frames), torch.from_numpy(rows)
    )
    assert theirs.shape == ours.shape
    difference = np.abs(ours - theirs.numpy())
    assert difference[:, Channel.VEHICLES].max() < 1.5 / 255
    # A pixel on the border of two texels may fall to either.
    assert (difference[:, [Channel.LANE, Channel.OFF_ROAD]] > 1e-6).mean() < 1e-3


def test_render_boxes_takes_any_batch_and_skips_the_invalid() -> None:
    boxes = torch.tensor([[0.0, 0.0, 0.0, 3.0, 3.0], [4.0, 3.0, 0.0, 1.0, 1.0]]).expand(2, 3, 2, 5)
    valid = torch.ones(2, 3, 2, dtype=torch.bool)
    valid[1, 2, 0] = False
    image = render_boxes(boxes, valid, SMALL)
    assert image.shape == (2, 3, 9, 7)
    assert image[0, 0].sum() == pytest.approx(10.0) and image[1, 2].sum() == pytest.approx(1.0)
    assert render_boxes(boxes[0, 0], valid[0, 0], SMALL).sum() == pytest.approx(10.0)
    assert render_boxes(boxes[..., :0, :], valid[..., :0], SMALL).sum() == 0
    assert render_boxes(boxes, torch.zeros_like(valid), SMALL).sum() == 0


def test_render_boxes_has_the_right_gradient() -> None:
    boxes = torch.tensor(
        [[[1.13, 0.42, 0.21, 3.3, 1.7], [-2.6, -1.31, -0.4, 2.9, 1.3]]],
        dtype=torch.float64,
        requires_grad=True,
    )
    valid = torch.ones(1, 2, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda one: render_boxes(one, valid, SMALL), (boxes,), eps=1e-7)


def test_vehicles_move_back_in_the_picture_when_the_viewer_moves_on() -> None:
    recording = make_recording(seed=0, num_vehicles=6, num_frames=5)
    renderer = TorchRenderer(recording, VEHICLES_ONLY)
    view = torch.from_numpy(recording.tracks.state[2:3, 2, :3]).requires_grad_()
    ahead = torch.from_numpy(VEHICLES_ONLY.row_positions())
    image = renderer.render(view, torch.tensor([2]), torch.tensor([2]))[0, 0]
    moment = (image * ahead[:, None]).sum() / image.sum()
    moment.backward()
    assert view.grad is not None and view.grad[0, 0] < 0


def test_sample_image_reads_pixel_centres_and_between() -> None:
    image = torch.arange(63.0).reshape(1, 1, 9, 7)
    points = torch.tensor(
        [[4.0, 3.0], [-4.0, -3.0], [0.0, 0.0], [0.5, 0.0], [0.0, 0.5], [4.5, 0.0], [9.0, 0.0]]
    )
    # Pixel (4, 3) is the centre, a metre ahead is 7 less, a metre left 1 less; the border fades to zero.
    expected = torch.tensor([0.0, 62.0, 31.0, 27.5, 30.5, 1.5, 0.0])
    torch.testing.assert_close(sample_image(image, points[None, None], SMALL)[0, 0], expected)


def test_sample_image_finds_a_drawn_car_where_it_is() -> None:
    box = torch.tensor([12.0, -3.0, 0.3, 5.0, 2.0])
    image = render_boxes(box[None], torch.ones(1, dtype=torch.bool))[None, None]
    inside = torch.tensor([[12.0, -3.0], [13.5, -2.5]])
    outside = torch.tensor([[12.0, 3.0], [-12.0, -3.0], [18.0, -3.0]])
    torch.testing.assert_close(sample_image(image, inside[None, None])[0, 0], torch.ones(2))
    torch.testing.assert_close(sample_image(image, outside[None, None])[0, 0], torch.zeros(3))


def test_sample_image_has_the_right_gradient() -> None:
    image = torch.rand(1, 2, 9, 7, dtype=torch.float64, requires_grad=True)
    points = torch.tensor([[[0.3, 0.2], [1.7, -0.6]], [[2.2, 1.4], [-3.1, 0.9]]], dtype=torch.float64)[None]

    def sample(image: Tensor, points: Tensor) -> Tensor:
        return sample_image(image, points, SMALL)

    assert torch.autograd.gradcheck(sample, (image, points.requires_grad_()))


def test_comoving_copy_of_a_steady_car_stands_still() -> None:
    # A car as fast as the viewer keeps its place in the co-moving views.
    time = np.arange(6) * 0.1
    state = np.stack([20.0 + 15.0 * time, np.full(6, 1.8), np.zeros(6), np.full(6, 15.0)], axis=1)[None]
    tracks = Tracks(np.array([1]), state, np.array([[4.5, 1.8]]), np.ones((1, 6), dtype=bool))
    road = LaneMap.straight(length=100.0, num_lanes=1)
    recording = Recording("steady", tracks, road, 0.1, np.tile([0.0, 100.0], (6, 1)))
    ego = torch.tensor([10.0, 1.8, 0.0, 15.0], dtype=torch.float64)
    views = torch.cat([ego[None, :3], comoving_views(ego, 5, 0.1)]).numpy()
    image = Renderer(recording, VEHICLES_ONLY).render(views, np.arange(6), np.full(6, -1))
    assert np.abs(image.astype(int) - image[0]).max() <= 1


def test_recordings_on_one_road_share_its_picture():
    recording = make_recording(num_frames=5)
    later = recording.crop(2, 5)
    assert later.lane_map is recording.lane_map
    assert Renderer(later).texture is Renderer(recording).texture
    assert Renderer(later, RasterSpec(resolution=1.0)).texture is not Renderer(recording).texture
