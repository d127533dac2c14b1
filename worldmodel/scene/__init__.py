"""The road world: tracks, lanes, geometry, kinematics and drawing. Pure: no learning, no files."""

from worldmodel.scene.geometry import boxes_overlap, gaps, shrink
from worldmodel.scene.kinematics import (
    comoving_views,
    compose_pose,
    inverse,
    relative_pose,
    rollout,
    step,
    track_states,
    wrap_angle,
)
from worldmodel.scene.lane import Lanelet, LaneMap, LaneQuery, merge_lane_maps
from worldmodel.scene.raster import (
    Channel,
    RasterSpec,
    Renderer,
    TorchRenderer,
    render_boxes,
    render_moments,
    sample_image,
)
from worldmodel.scene.road import RoadChannel, RoadField, RoadSpec, draw_road, sample_road
from worldmodel.scene.track import HEADING, LENGTH, SPEED, WIDTH, Recording, Tracks, X, Y, step_excess
from worldmodel.scene.validate import Problem, Summary, check_consistent, summary, validate

__all__ = [
    "HEADING",
    "LENGTH",
    "SPEED",
    "WIDTH",
    "Channel",
    "LaneMap",
    "LaneQuery",
    "Lanelet",
    "Problem",
    "RasterSpec",
    "Recording",
    "Renderer",
    "RoadChannel",
    "RoadField",
    "RoadSpec",
    "Summary",
    "TorchRenderer",
    "Tracks",
    "X",
    "Y",
    "boxes_overlap",
    "check_consistent",
    "comoving_views",
    "compose_pose",
    "draw_road",
    "gaps",
    "inverse",
    "merge_lane_maps",
    "relative_pose",
    "render_boxes",
    "render_moments",
    "rollout",
    "sample_image",
    "sample_road",
    "shrink",
    "step",
    "step_excess",
    "summary",
    "track_states",
    "validate",
    "wrap_angle",
]
