import numpy as np
import pytest
import shapely

from worldmodel.scene import Lanelet, LaneMap, merge_lane_maps


def arc(radius: float, *, num: int = 200, stop: float = np.pi / 2) -> np.ndarray:
    """A left turn about (0, 100) that starts at (0, 100 - radius) towards +x."""
    angle = np.linspace(-np.pi / 2, -np.pi / 2 + stop, num)
    return np.stack([radius * np.cos(angle), 100.0 + radius * np.sin(angle)], axis=1)


def curved() -> LaneMap:
    """Two lanes of 4 m about (0, 100), the inner (left) one with index 0."""
    return LaneMap((Lanelet(5, arc(48.0), arc(52.0, num=77)), Lanelet(9, arc(52.0), arc(56.0))))


def some_points(num: int = 300, *, low: tuple[float, float], high: tuple[float, float]) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, high, (num, 2))


def test_straight_road_counts_lanes_from_the_left() -> None:
    road = LaneMap.straight(length=100.0, num_lanes=3, lane_width=4.0)
    query = road.query(np.array([[50.0, 10.5], [50.0, 6.0], [50.0, 1.0]]))
    assert query.lanelet.tolist() == [0, 1, 2]
    np.testing.assert_allclose(query.offset, [0.5, 0.0, -1.0])
    np.testing.assert_allclose(query.half_width, 2.0)
    np.testing.assert_allclose(query.heading, 0.0)
    assert road.bounds == (0.0, 0.0, 100.0, 12.0)
    assert road.area.area == pytest.approx(1200.0)


def test_edge_distance_of_a_straight_road() -> None:
    road = LaneMap.straight(length=100.0, num_lanes=2, lane_width=4.0)
    points = np.array([[50.0, 0.5], [50.0, 4.0], [50.0, 8.0], [50.0, -1.5], [103.0, 12.0], [2.0, 4.0]])
    np.testing.assert_allclose(road.edge_distance(points), [0.5, 4.0, 0.0, -1.5, -5.0, 2.0], atol=1e-9)
    assert road.contains(points).tolist() == [True, True, False, False, False, True]


def test_curve_is_measured_from_its_centre() -> None:
    road = curved()
    angle = np.linspace(-1.4, -0.2, 30)
    for radius, lane, offset in [(49.0, 0, 1.0), (50.5, 0, -0.5), (53.0, 1, 1.0), (55.0, 1, -1.0)]:
        points = np.stack([radius * np.cos(angle), 100 + radius * np.sin(angle)], axis=1)
        query = road.query(points)
        assert set(query.lanelet.tolist()) == {lane}
        np.testing.assert_allclose(query.offset, offset, atol=0.01)
        np.testing.assert_allclose(query.half_width, 2.0, atol=0.01)
        np.testing.assert_allclose(query.heading, angle + np.pi / 2, atol=0.01)
        np.testing.assert_allclose(road.edge_distance(points), min(radius - 48, 56 - radius), atol=0.01)


def test_edge_distance_agrees_with_brute_force() -> None:
    road = curved()
    points = some_points(low=(-10.0, 30.0), high=(70.0, 110.0))
    area = shapely.unary_union(
        [shapely.Polygon(np.concatenate([one.left, one.right[::-1]])) for one in road.lanelets]
    ).buffer(1e-6)
    expected = [
        (1 if area.contains(shapely.Point(point)) else -1) * area.exterior.distance(shapely.Point(point))
        for point in points
    ]
    np.testing.assert_allclose(road.edge_distance(points), expected, atol=0.02)


def test_query_agrees_with_the_nearest_centre_line() -> None:
    road = curved()
    points = some_points(low=(5.0, 45.0), high=(55.0, 95.0))
    lines = [shapely.LineString(one.centre()[0]) for one in road.lanelets]
    distance = np.array([[line.distance(shapely.Point(point)) for line in lines] for point in points])
    is_clear = np.abs(distance[:, 0] - distance[:, 1]) > 0.1
    query = road.query(points)
    np.testing.assert_array_equal(query.lanelet[is_clear], distance.argmin(axis=1)[is_clear])
    inside = is_clear & (distance.min(axis=1) < 5)
    np.testing.assert_allclose(np.abs(query.offset)[inside], distance.min(axis=1)[inside], atol=0.05)


def test_mirror_negates_offsets() -> None:
    road, points = curved(), some_points(low=(5.0, 45.0), high=(40.0, 70.0))
    flip = np.array([1.0, -1.0])
    there, here = road.mirror().query(points * flip), road.query(points)
    np.testing.assert_array_equal(there.lanelet, here.lanelet)
    np.testing.assert_allclose(there.offset, -here.offset)
    np.testing.assert_allclose(there.heading, -here.heading)
    np.testing.assert_allclose(
        road.mirror().edge_distance(points * flip), road.edge_distance(points), atol=1e-9
    )
    assert np.array_equal(road.mirror().mirror().lanelets[0].left, road.lanelets[0].left)


def test_hair_line_gaps_between_lanelets_are_road() -> None:
    lower, upper = LaneMap.straight(length=50.0, num_lanes=1), np.array([0.0, 3.7 + 0.2])
    shifted = Lanelet(1, lower.lanelets[0].left + upper, lower.lanelets[0].right + upper)
    road = LaneMap((*lower.lanelets, shifted))
    np.testing.assert_allclose(road.edge_distance(np.array([[25.0, 3.8]])), 3.8, atol=1e-6)


def test_merge_numbers_anew() -> None:
    merged = merge_lane_maps([curved(), LaneMap.straight(length=10.0, num_lanes=2)])
    assert [one.id for one in merged.lanelets] == [0, 1, 2, 3]
    assert np.array_equal(merged.lanelets[1].left, curved().lanelets[1].left)


def test_centre_is_half_way_and_dense() -> None:
    lanelet = LaneMap.straight(length=10.0, num_lanes=1, lane_width=3.0).lanelets[0]
    centre, half_width = lanelet.centre(spacing=0.5)
    np.testing.assert_allclose(centre[:, 1], 1.5)
    np.testing.assert_allclose(np.diff(centre[:, 0]), 0.5)
    np.testing.assert_allclose(half_width, 1.5)


def test_extended_goes_straight_on_where_the_map_ends() -> None:
    road = LaneMap.straight(length=100.0, num_lanes=2, lane_width=4.0).extended(50.0)
    assert road.bounds == (-50.0, 0.0, 150.0, 8.0)
    np.testing.assert_allclose(road.edge_distance(np.array([[99.0, 3.0], [-30.0, 7.0]])), [3.0, 1.0])
    assert [one.id for one in road.lanelets] == [0, 1]


def test_extended_leaves_alone_what_ends_on_the_road() -> None:
    through = LaneMap.straight(length=200.0, num_lanes=1, lane_width=4.0).lanelets[0]
    first = Lanelet(1, through.left - [0, 4], through.right - [0, 4])
    short = Lanelet(2, np.array([[0.0, 0.0], [60.0, 0.0]]), np.array([[0.0, -4.0], [60.0, -4.0]]))
    joined = Lanelet(3, np.array([[200.0, 4.0], [300.0, 4.0]]), np.array([[200.0, 0.0], [300.0, 0.0]]))
    road = LaneMap((through, first, short, joined)).extended(50.0)
    ends = [(one.left[0, 0], one.left[-1, 0]) for one in road.lanelets]
    assert ends == [(-50.0, 200.0), (-50.0, 200.0), (-50.0, 60.0), (200.0, 350.0)]


def test_extended_keeps_lanes_together_where_a_bend_ends() -> None:
    road = curved().extended(40.0)
    assert road.contains(np.array([[52.0, 100.0], [51.0, 130.0], [53.0, 130.0], [-30.0, 48.0]])).all()
    middle = np.array([[52.0, 110.0]])
    assert road.edge_distance(middle) == pytest.approx(4.0, abs=0.4)  # no gap between the two lanes
