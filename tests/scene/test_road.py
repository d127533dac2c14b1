"""The road's fields: against the map itself, by invariance, and drawn beside the raster."""

import gc
import math
import weakref

import numpy as np
import pytest
import torch
from torch import Tensor

from worldmodel.data import make_recording
from worldmodel.scene import (
    Channel,
    Lanelet,
    LaneMap,
    RasterSpec,
    Renderer,
    RoadChannel,
    RoadField,
    RoadSpec,
    draw_road,
    sample_road,
)

ROAD = LaneMap.straight(length=400.0, num_lanes=3, lane_width=4.0)  # y from 0 to 12
FIELD = RoadField(ROAD)
SPEC = RoadSpec(ahead=20.0, behind=10.0, aside=8.0, along=1.0, across=0.5)


def patch(x: float, y: float, heading: float = 0.0, spec: RoadSpec = SPEC) -> np.ndarray:
    return FIELD.crop(np.array([[x, y, heading]]), spec)[0]


def bend(radius: float = 60.0, width: float = 3.5) -> LaneMap:
    """A lane that turns left, from heading 0 to heading 1, around `(0, radius)`."""
    angle = np.linspace(-math.pi / 2, -math.pi / 2 + 1.0, 100)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    centre = np.array([0.0, radius])
    return LaneMap((Lanelet(0, centre + (radius - width / 2) * ring, centre + (radius + width / 2) * ring),))


def test_spec_counts_points_including_both_borders() -> None:
    assert (RoadSpec().height, RoadSpec().width) == (63, 49)
    assert (SPEC.height, SPEC.width) == (31, 33)
    assert SPEC.row_positions()[[0, -1]].tolist() == [20.0, -10.0]
    assert SPEC.column_positions()[[0, -1]].tolist() == [8.0, -8.0]


def test_patch_on_a_lane_centre_by_hand() -> None:
    lane, edge, heading = patch(200.0, 2.0)  # the right lane: markings at +2 and -2, edges at +10 and -2
    left = SPEC.column_positions()
    np.testing.assert_allclose(
        edge, np.tile(np.clip(np.minimum(left + 2, 10 - left), -8, 8), (31, 1)), atol=1e-5
    )
    for at, expected in [
        (0.0, 0.0),
        (1.0, 0.25),
        (2.0, 1.0),
        (4.0, 0.0),
        (-2.0, 1.0),
        (-3.0, 2.25),
        (-6.0, 4.0),
    ]:
        assert lane[:, np.flatnonzero(left == at)] == pytest.approx(expected, abs=1e-5)
    assert (heading == 0.0).all()


def test_heading_is_relative_to_the_view() -> None:
    for turn in (0.3, -2.0, 3.0, 9.0):
        expected = math.remainder(-turn, 2 * math.pi)
        np.testing.assert_allclose(patch(200.0, 6.0, turn)[RoadChannel.HEADING], expected, atol=1e-5)


def test_a_turned_patch_holds_the_field_at_the_turned_points() -> None:
    view = (190.0, 5.0, 0.7)
    lane, edge, _ = patch(*view)
    cos, sin = math.cos(view[2]), math.sin(view[2])
    ahead, left = np.meshgrid(SPEC.row_positions(), SPEC.column_positions(), indexing="ij")
    points = np.stack([view[0] + cos * ahead - sin * left, view[1] + sin * ahead + cos * left], axis=-1)
    exact = ROAD.edge_distance(points.reshape(-1, 2)).clip(-8, 8).reshape(edge.shape)
    answer = ROAD.query(points.reshape(-1, 2))
    exact_lane = ((answer.offset / answer.half_width) ** 2).clip(max=4).reshape(lane.shape)
    np.testing.assert_allclose(edge, exact, atol=0.3)  # only at the ridge in the middle
    assert np.abs(edge - exact).mean() < 0.01 and np.abs(lane - exact_lane).mean() < 0.03


def test_beyond_the_grid_the_border_repeats_and_nothing_is_nan() -> None:
    for x, y in [(-500.0, 6.0), (900.0, 6.0), (200.0, 400.0), (1e6, -1e6)]:
        far = patch(x, y)
        assert np.isfinite(far).all()
        assert (far[RoadChannel.EDGE] == -8.0).all()
    assert (patch(200.0, 400.0)[RoadChannel.LANE] == 4.0).all()


def test_a_lane_that_narrows_to_a_point_stays_finite() -> None:
    wedge = Lanelet(0, np.array([[0.0, 0.0], [50.0, 0.0]]), np.array([[0.0, -3.0], [50.0, 0.0]]))
    fields = RoadField(LaneMap((wedge,))).crop(np.array([[45.0, 0.0, 0.0]]), SPEC)
    assert np.isfinite(fields).all() and fields[0, RoadChannel.LANE].max() == 4.0


def test_the_mirrored_road_gives_the_mirrored_patch() -> None:
    road = bend()
    view = np.array([[20.1, 3.2, 0.3]])
    here = RoadField(road).crop(view, SPEC)[0]
    there = RoadField(road.mirror()).crop(view * np.array([1, -1, -1]), SPEC)[0][..., ::-1]
    signs = np.array([1, 1, -1])[:, None, None]
    np.testing.assert_allclose(here, there * signs, atol=1e-5)


@pytest.mark.slow
def test_a_mirrored_road_has_the_fields_that_are_computed_afresh() -> None:
    # 32 m from bottom to top, a multiple of the spacing: the two grids have the same points.
    beside = Lanelet(1, np.array([[100.0, 30.25], [160.0, 30.25]]), np.array([[100.0, 26.5], [160.0, 26.5]]))
    road = LaneMap((*bend().lanelets, beside))
    assert road.bounds[1::2] == pytest.approx((-1.75, 30.25), abs=1e-12)
    views = np.random.default_rng(0).uniform([-20, -35, -3], [180, 5, 3], (40, 3))
    mirrored = road.mirror()
    fresh = RoadField(LaneMap(mirrored.lanelets)).crop(views, SPEC)
    np.testing.assert_allclose(RoadField(mirrored).crop(views, SPEC), fresh, atol=1e-4)


@pytest.mark.slow
def test_a_map_is_asked_once_for_all_its_fields_and_forgotten_with_it(monkeypatch) -> None:
    asked = []
    original = LaneMap.edge_distance
    monkeypatch.setattr(LaneMap, "edge_distance", lambda *args: asked.append(1) or original(*args))
    road = bend()
    fields = [RoadField(one) for one in (road, road, road.mirror(), road.mirror().mirror())]
    crops = [field.crop(np.array([[20.0, 3.0, 0.3]]), SPEC) for field in fields]
    assert len(asked) == 1
    np.testing.assert_array_equal(crops[0], crops[3])
    watch = weakref.ref(road)
    del road, fields
    gc.collect()
    assert watch() is None


def test_following_a_bend_the_lane_is_ahead() -> None:
    angle = 0.4
    view = np.array([[60 * math.sin(angle), 60 - 60 * math.cos(angle), angle]])
    lane, edge, heading = RoadField(bend()).crop(view, SPEC)[0]
    here = (20, 16)  # row at 0 m, column at 0 m
    assert lane[here] < 0.01 and edge[here] == pytest.approx(1.75, abs=0.1)  # a ridge
    assert heading[here] == pytest.approx(0.0, abs=0.01)
    assert heading[10, 16] == pytest.approx(math.atan(10 / 60), abs=0.02)  # 10 m ahead, left of it


def test_crop_is_the_same_one_by_one_and_together() -> None:
    views = np.random.default_rng(0).normal([200, 6, 0], [50, 3, 0.5], (5, 3))
    together = FIELD.crop(views, SPEC)
    assert together.dtype == np.float32
    for index in range(5):
        np.testing.assert_array_equal(together[index], FIELD.crop(views[index : index + 1], SPEC)[0])


# Reading and drawing patches


def test_sample_road_returns_grid_values_and_lines_between_them() -> None:
    road = torch.from_numpy(FIELD.crop(np.array([[200.0, 2.0, 0.1]]), SPEC))
    points = torch.tensor([[[20.0, 8.0], [-10.0, -8.0], [3.0, 0.5], [3.5, 0.5], [3.0, 0.75]]])
    found = sample_road(road, points, SPEC)[0]
    values = road[0].permute(1, 2, 0)  # (HR, WR, R); row of 3 m ahead is 17, column of 0.5 m left is 15
    expected = torch.stack(
        [values[0, 0], values[-1, -1], values[17, 15], values[16:18, 15].mean(0), values[17, 14:16].mean(0)]
    )
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_sample_road_repeats_the_border() -> None:
    road = torch.from_numpy(FIELD.crop(np.array([[200.0, 2.0, 0.0]]), SPEC))
    points = torch.tensor([[[99.0, 0.0], [20.0, 0.0], [0.0, -50.0], [0.0, -8.0]]])
    found = sample_road(road, points, SPEC)[0]
    torch.testing.assert_close(found[[0, 2]], found[[1, 3]])


def test_sample_road_takes_any_points_and_pairs_batches() -> None:
    road = torch.from_numpy(FIELD.crop(np.array([[200.0, 2.0, 0.0], [200.0, 6.0, 0.0]]), SPEC))
    points = torch.zeros(2, 3, 4, 2)
    found = sample_road(road, points, SPEC)
    assert found.shape == (2, 3, 4, 3)
    assert (found[..., RoadChannel.EDGE].amax((1, 2)) - torch.tensor([2.0, 6.0])).abs().max() < 1e-4


def test_sample_road_has_the_right_gradient() -> None:
    spec = RoadSpec(ahead=4.0, behind=2.0, aside=1.0, along=1.0, across=0.5)
    road = torch.rand(2, 3, spec.height, spec.width, dtype=torch.float64, requires_grad=True)
    points = torch.tensor([[[3.3, 0.7], [-1.4, 0.1]], [[1.2, -0.3], [0.4, 0.2]]], dtype=torch.float64)

    def sample(road: Tensor, points: Tensor) -> Tensor:
        return sample_road(road, points, spec)

    assert torch.autograd.gradcheck(sample, (road, points.requires_grad_()))


def test_drawn_road_is_the_rendered_one() -> None:
    recording = make_recording(num_vehicles=6, num_frames=30)
    spec = RasterSpec(channels=(Channel.LANE, Channel.OFF_ROAD))
    here = recording.tracks.state[:, 15, :3]
    local = np.array([[0.0, 0.0, 0.0], [12.0, 1.0, 0.05]])
    cos, sin = np.cos(here[:, 2:]), np.sin(here[:, 2:])
    views = np.concatenate(
        [
            here[:, :1] + cos * local[:, 0] - sin * local[:, 1],
            here[:, 1:2] + sin * local[:, 0] + cos * local[:, 1],
            here[:, 2:] + local[:, 2],
        ]
    ).reshape(3, 6, 2)  # (pose, vehicle, view)
    flat = views.transpose(1, 2, 0).reshape(-1, 3)
    rendered = Renderer(recording, spec).render(flat, np.zeros(12, int), np.full(12, -1)) / 255.0
    road = torch.from_numpy(RoadField(recording.lane_map).crop(here))
    drawn = draw_road(road, torch.from_numpy(local).float().expand(6, 2, 3), spec, RoadSpec())
    difference = np.abs(drawn.flatten(0, 1).numpy() - rendered).mean(axis=(0, 2, 3))
    assert difference[0] < 0.035 and difference[1] < 0.01
    assert drawn[:, :, 0].mean() == pytest.approx(rendered[:, 0].mean(), rel=0.25)


def test_drawn_road_moves_with_the_view() -> None:
    road = torch.from_numpy(FIELD.crop(np.array([[200.0, 2.0, 0.0]]))).double()
    view = torch.tensor([[[5.0, 0.3, 0.02]]], dtype=torch.float64, requires_grad=True)
    draw_road(road, view)[:, :, 1].sum().backward()
    assert view.grad is not None and view.grad[0, 0, 1] < 0  # to the left is more road


def test_the_end_of_the_map_is_not_an_edge() -> None:
    for x, ahead in [(395.0, 20.0), (5.0, -10.0)]:
        lane, edge, heading = patch(x, 2.0)
        row = np.flatnonzero(SPEC.row_positions() == ahead)[0]
        at = SPEC.column_positions() == 0.0
        assert edge[row, at] == pytest.approx(2.0, abs=1e-5) and lane[row, at] == pytest.approx(0.0, abs=1e-5)
        assert (heading == 0.0).all()
