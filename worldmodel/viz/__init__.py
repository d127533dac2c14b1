"""Pictures, videos and the report page. Knows the scene and plain arrays, not where they come from."""

from worldmodel.viz.chart import Curve, Rate, curve_chart, rate_chart, scene_map
from worldmodel.viz.cost_field import CostField, draw_field, evaluate_field
from worldmodel.viz.draw import draw_ego, paint_raster, strip
from worldmodel.viz.filters import filter_grid
from worldmodel.viz.future import Future, doubt_grid, future_frames, future_grid
from worldmodel.viz.layout import encode_png, grid, stack, write_text
from worldmodel.viz.level_chart import Levels, level_chart, level_picture
from worldmodel.viz.panel import Panel, panel_grid
from worldmodel.viz.rate_picture import rate_picture
from worldmodel.viz.report import AgentResult, Comparison, Media, ReportInputs, Section, Table, render_report
from worldmodel.viz.video import decode_video, encode_video
from worldmodel.viz.world import Camera, Ego, EpisodeView, RoadPainter, episode_frames, world_view

__all__ = [
    "AgentResult",
    "Camera",
    "Comparison",
    "CostField",
    "Curve",
    "Ego",
    "EpisodeView",
    "Future",
    "Levels",
    "Media",
    "Panel",
    "Rate",
    "ReportInputs",
    "RoadPainter",
    "Section",
    "Table",
    "curve_chart",
    "decode_video",
    "doubt_grid",
    "draw_ego",
    "draw_field",
    "encode_png",
    "encode_video",
    "episode_frames",
    "evaluate_field",
    "filter_grid",
    "future_frames",
    "future_grid",
    "grid",
    "level_chart",
    "level_picture",
    "paint_raster",
    "panel_grid",
    "rate_chart",
    "rate_picture",
    "render_report",
    "scene_map",
    "stack",
    "strip",
    "world_view",
    "write_text",
]
