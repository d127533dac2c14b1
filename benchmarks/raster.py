"""Crops drawn per second and core, and how true they are, beside the way PPUU draws them.

The scene has 150 cars on six lanes and 500 m. PPUU's way: rectangles at 24 px a lane with pygame, rotation by
nearest neighbour, bilinear reduction to a quarter with PIL, lanes brightened four times. Here it draws only
the cars near the crop, from corners known beforehand, and turns no more of the road than it needs, which is
generous: the original computes and redraws all cars and turns a square.
"""

import os

from _report import parse, rate, report

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import math

import numpy as np
import pygame
import torch
from PIL import Image

from worldmodel.scene import (
    Channel,
    LaneMap,
    RasterSpec,
    Recording,
    Renderer,
    RoadField,
    TorchRenderer,
    Tracks,
)
from worldmodel.scene.units import PPUU_METRES_PER_PIXEL

LANES, PER_LANE, LENGTH, LANE_WIDTH = 6, 25, 500.0, 3.7
SHRINK = 4
SCREEN = SHRINK / PPUU_METRES_PER_PIXEL  # pixels per metre of PPUU's screen


def make_scene() -> Recording:
    rng = np.random.default_rng(0)
    slot = np.arange(PER_LANE) * LENGTH / PER_LANE
    x = (slot[None] + rng.uniform(0, 10, (LANES, PER_LANE))).reshape(-1)
    y = np.repeat((np.arange(LANES) + 0.5) * LANE_WIDTH, PER_LANE) + rng.normal(0, 0.2, x.shape)
    state = np.stack([x, y, rng.normal(0, 0.03, x.shape), np.full(x.shape, 12.0)], axis=1)
    size = rng.uniform([4.0, 1.7], [5.5, 2.1], (len(x), 2))
    tracks = Tracks(np.arange(len(x)), state[:, None], size, np.ones((len(x), 1), dtype=bool))
    road = LaneMap.straight(length=LENGTH, num_lanes=LANES, lane_width=LANE_WIDTH)
    return Recording("benchmark", tracks, road, 0.1, np.array([[0.0, LENGTH]]))


class Ppuu:
    """PPUU's drawing of the same crops."""

    def __init__(self, recording: Recording) -> None:
        self.boxes = np.concatenate([recording.tracks.state[:, 0, :3], recording.tracks.size], axis=1)
        self.margin = round(0.6 * math.hypot(468, 96))
        left, bottom, right, self.top = recording.lane_map.bounds
        size = (round((right - left) * SCREEN), round((self.top - bottom) * SCREEN))
        self.road = pygame.Surface((size[0] + 2 * self.margin, size[1] + 2 * self.margin))
        self.road.fill((0, 0, 255))
        self.road.fill((0, 0, 0), (self.margin, self.margin, *size))
        for lane in range(LANES + 1):
            y = self.margin + round(lane * LANE_WIDTH * SCREEN)
            pygame.draw.line(self.road, (255, 0, 0), (self.margin, y), (self.margin + size[0], y))
        self.outlines = np.stack([self.outline(box) for box in self.boxes])

    def draw(self, ego: int) -> np.ndarray:
        """Returns the crop `(3, 117, 24)` of car `ego`."""
        centre = self.to_screen(self.boxes[ego, :2])
        cos, sin = abs(math.cos(self.boxes[ego, 2])), abs(math.sin(self.boxes[ego, 2]))
        half = np.ceil([234 * cos + 48 * sin + 1, 234 * sin + 48 * cos + 1]).astype(int)
        corner = np.round(centre).astype(int) - half
        area = self.road.subsurface((*corner, *(2 * half))).copy()
        for other in np.flatnonzero(np.abs(self.boxes[:, 0] - self.boxes[ego, 0]) < 45.0):
            if other != ego:
                pygame.draw.polygon(area, (0, 255, 0), (self.outlines[other] - corner).tolist())
        turned = pygame.transform.rotate(area, -math.degrees(self.boxes[ego, 2]))
        width, height = turned.get_size()
        crop = turned.subsurface((width // 2 - 234, height // 2 - 48, 468, 96))
        picture = Image.frombytes("RGB", (468, 96), pygame.image.tobytes(crop, "RGB"))
        image = np.array(picture.resize((117, 24), Image.Resampling.BILINEAR))
        image[..., 0] = np.minimum(image[..., 0].astype(int) * 4, 255)
        return np.rot90(image).transpose(2, 0, 1)

    def to_screen(self, points: np.ndarray) -> np.ndarray:
        return np.stack([points[..., 0], self.top - points[..., 1]], axis=-1) * SCREEN + self.margin

    def outline(self, box: np.ndarray) -> np.ndarray:
        along = np.array([math.cos(box[2]), math.sin(box[2])]) * box[3] / 2
        across = np.array([-math.sin(box[2]), math.cos(box[2])]) * box[4] / 2
        corners = np.stack([along + across, along - across, -along - across, across - along])
        return self.to_screen(box[:2] + corners)


def supersampled(recording: Recording, ego: int, spec: RasterSpec, factor: int = 8) -> np.ndarray:
    """Returns the share of `factor x factor` points of each pixel that lies in another car [grey levels]."""
    fine = RasterSpec(spec.height * factor, spec.width * factor, spec.resolution / factor)
    ahead, left = np.meshgrid(fine.row_positions(), fine.column_positions(), indexing="ij")
    x, y, heading, _ = recording.tracks.state[ego, 0]
    world_x = x + math.cos(heading) * ahead - math.sin(heading) * left
    world_y = y + math.sin(heading) * ahead + math.cos(heading) * left
    inside = np.zeros(ahead.shape, dtype=bool)
    for row in np.flatnonzero(np.abs(recording.tracks.state[:, 0, 0] - x) < 45.0):
        if row != ego:
            cx, cy, turn, _ = recording.tracks.state[row, 0]
            length, width = recording.tracks.size[row]
            u = math.cos(turn) * (world_x - cx) + math.sin(turn) * (world_y - cy)
            v = math.cos(turn) * (world_y - cy) - math.sin(turn) * (world_x - cx)
            inside |= (np.abs(u) <= length / 2) & (np.abs(v) <= width / 2)
    return 255.0 * inside.reshape(spec.height, factor, spec.width, factor).mean(axis=(1, 3))


def accuracy(drawn: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Returns RMSE over the pixels that either touches [grey levels], and the bias of the area [%]."""
    touched = (drawn > 0) | (truth > 0)
    error = (drawn.astype(float) - truth)[touched]
    return float(np.sqrt(np.mean(error**2))), float(100.0 * (drawn.sum() / truth.sum() - 1.0))


def main() -> None:
    json_path = parse(__doc__.splitlines()[0])
    torch.set_num_threads(1)
    recording = make_scene()
    rng = np.random.default_rng(1)
    rows = rng.choice(np.flatnonzero(np.abs(recording.tracks.state[:, 0, 0] - LENGTH / 2) < 200.0), 4000)
    views, frames = recording.tracks.state[rows, 0, :3], np.zeros(len(rows), dtype=np.int64)
    renderer, ppuu = Renderer(recording), Ppuu(recording)
    cars_only = RasterSpec(channels=(Channel.VEHICLES,))
    cars, field = Renderer(recording, cars_only), RoadField(recording.lane_map)
    torch_cars, torch_all = TorchRenderer(recording, cars_only), TorchRenderer(recording)
    out, few = renderer.render(views, frames, rows), slice(0, 250)
    tensors = tuple(torch.from_numpy(one[few]) for one in (views, frames, rows))

    ours = rate(lambda: renderer.render(views, frames, rows, out=out), count=len(rows))
    theirs = rate(lambda: [ppuu.draw(ego) for ego in rows[few]], count=250)
    truth = np.stack([supersampled(recording, ego, cars_only) for ego in rows[:30]])
    rmse, bias = accuracy(out[:30, Channel.VEHICLES], truth)
    ppuu_rmse, ppuu_bias = accuracy(np.stack([ppuu.draw(ego)[1] for ego in rows[:30]]), truth)
    rows_of_report = {
        "crops_per_s_core": ours,
        "ppuu_crops_per_s_core": theirs,
        "speedup_ppuu": ours / theirs,
        "vehicles_only_crops_per_s_core": rate(lambda: cars.render(views, frames, rows), count=len(rows)),
        "torch_crops_per_s_core": rate(lambda: torch_all.render(*tensors), count=250),
        "torch_vehicles_only_crops_per_s_core": rate(lambda: torch_cars.render(*tensors), count=250),
        "road_patches_per_s_core": rate(lambda: field.crop(views[few]), count=250),
        "rmse_grey_levels": rmse,
        "area_bias_percent": bias,
        "ppuu_rmse_grey_levels": ppuu_rmse,
        "ppuu_area_bias_percent": ppuu_bias,
    }
    report("raster", rows_of_report, json_path)


if __name__ == "__main__":
    main()
