"""The pictures of a demo: imagined futures, drives, failures, cost fields, curves; files with an index."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from worldmodel.app.prediction import Sampled
from worldmodel.app.run import Run, write_atomic
from worldmodel.evaluation.episode import EpisodeResult
from worldmodel.evaluation.prediction import squared_error
from worldmodel.evaluation.protocol import Episode
from worldmodel.models import CopyContext, CoupledModel, FixedContext, ForwardModel, LearntContext
from worldmodel.protocols import Cost
from worldmodel.scene import Channel, Recording, draw_road, relative_pose
from worldmodel.training.csv_logger import read_metrics
from worldmodel.types import Clip
from worldmodel.viz import (
    Curve,
    EpisodeView,
    Media,
    Rate,
    curve_chart,
    draw_ego,
    draw_field,
    encode_png,
    encode_video,
    episode_frames,
    evaluate_field,
    grid,
    paint_raster,
    rate_chart,
)

FOLDER = "pictures"
INDEX = f"{FOLDER}/index.json"
HOLD = 10
"""How many times the last picture of a video is repeated."""
COVERED = 0.9
"""Windows with less recorded road make poor pictures."""
FIELD_TERMS = ("front", "rear", "lane", "total")
FIELD_STEPS = (10, 20)


@dataclass(frozen=True)
class Drawing:
    """A picture or video in the folder, for a section of the report (a field of `ReportInputs`)."""

    file: str
    section: str
    caption: str


class Album:
    """Collects the drawings of a run."""

    def __init__(self, run: Run) -> None:
        self.run, self.drawings = run, list[Drawing]()
        (run.folder / FOLDER).mkdir(exist_ok=True)

    def add(self, name: str, content: bytes, *, section: str, caption: str) -> None:
        """Writes a drawing; `name` with its suffix."""
        write_atomic(self.run.folder / FOLDER / name, content)
        self.drawings.append(Drawing(name, section, caption))

    def close(self) -> None:
        """Writes the index."""
        self.run.write(INDEX, json.dumps([asdict(one) for one in self.drawings], indent=1) + "\n")


def read_album(folder: Path) -> dict[str, Any]:
    """Returns the media of each section."""
    found: dict[str, tuple[Media, ...]] = {}
    for one in json.loads((folder / INDEX).read_text(encoding="utf-8")):
        media = Media((folder / FOLDER / one["file"]).read_bytes(), one["caption"])
        found[one["section"]] = (*found.get(one["section"], ()), media)
    return found


# -- imagined futures


def add_rollouts(
    album: Album,
    clip: Clip,
    models: tuple[ForwardModel, ForwardModel],
    *,
    names: Sequence[str],
    num_samples: int,
) -> None:
    """Adds one video for each window of `clip`: recorded, deterministic, samples of the latent model.

    Args:
        models: deterministic and latent.
        names: what to call each window.
    """
    deterministic, latent = models
    frames = {
        "recorded": None,
        "deterministic": Sampled(deterministic)(clip)[0],
        **{f"sample {i + 1}": one for i, one in enumerate(Sampled(latent, num_samples)(clip))},
    }
    for row, name in enumerate(names):
        rasters = {
            label: _with_vehicles(clip, row, None if part is None else part[row].numpy(), latent)
            for label, part in frames.items()
        }
        pictures = list(_rollout_pictures(clip, row, rasters, latent))
        video = encode_video(pictures, hold=HOLD)
        album.add(f"rollout_{row + 1}.mp4", video, section="rollouts", caption=f"{name}.")


def eventful_windows(clips: Iterator[Clip], model: ForwardModel | CoupledModel, *, num: int) -> Clip:
    """Returns the windows, of different vehicles, in which most changes: where *copy* errs most."""
    channel = model.spec.channels.index(Channel.VEHICLES)
    found: dict[tuple[int, int], tuple[float, Clip]] = {}
    for clip in clips:
        target = clip.image[:, model.history :, channel : channel + 1].float() / 255
        covered = clip.covered[:, model.history :]
        copy = CopyContext(model.spec)(clip.obs(model.history), target.shape[1]).image
        error = squared_error(copy, target, covered[:, :, None, :, None]).mean(1)
        error = torch.where(covered.float().mean((1, 2)) > COVERED, error, error - 1)
        for row in range(len(error)):
            vehicle = (int(clip.origin[row, 0]), int(clip.origin[row, 1]))
            if vehicle not in found or float(error[row]) > found[vehicle][0]:
                found[vehicle] = (float(error[row]), clip[row : row + 1])
    best = sorted(found.values(), key=lambda one: -one[0])[:num]
    parts = [one for _, one in best]
    return Clip(**{name: torch.cat([getattr(one, name) for one in parts]) for name in vars(parts[0])})


def _with_vehicles(clip: Clip, row: int, future: np.ndarray | None, model: ForwardModel) -> np.ndarray:
    """The window's rasters in [0, 1], the vehicles of the future replaced."""
    rasters = clip.image[row].numpy().astype(np.float32) / 255
    if future is not None:
        rasters[model.history :, model.spec.channels.index(Channel.VEHICLES)] = future[:, 0]
    return rasters


def _rollout_pictures(
    clip: Clip, row: int, rasters: Mapping[str, np.ndarray], model: ForwardModel, *, scale: int = 4
) -> Iterator[np.ndarray]:
    pose = relative_pose(clip.state[row, :, :3], clip.view[row])
    boxes = torch.cat([pose, clip.size[row].expand(len(pose), 2)], dim=1).numpy().astype(float)
    for frame in range(len(boxes)):
        seconds = (frame - model.history + 1) * model.dt
        label = f"{seconds:+.1f} s   " + ("seen" if frame < model.history else "to be imagined")
        pictures = [
            draw_ego(
                paint_raster(raster[frame], model.spec, scale=scale), boxes[frame], model.spec, scale=scale
            )
            for raster in rasters.values()
        ]
        yield grid([[one] for one in pictures], rows=list(rasters), columns=[label])


# -- drives


@dataclass(frozen=True)
class Drives:
    """What was driven: who the pictures are about, the rows, and where the trajectories are.

    Attributes:
        rivals: whose endings are told beside ours.
    """

    ours: str
    rivals: Sequence[str]
    rows: Sequence[EpisodeResult]
    episodes: Sequence[Episode]
    recordings: Sequence[Recording]
    trajectories: Path

    def of(self, agent: str) -> list[EpisodeResult]:
        """Returns the agent's rows, in the order of the episodes."""
        return [row for row in self.rows if row.agent == agent]

    def seen_by(self, agent: str) -> "Drives":
        """Returns the same with another agent in the leading part."""
        others = [one for one in dict.fromkeys((self.ours, *self.rivals)) if one != agent]
        return replace(self, ours=agent, rivals=others)


def best_drives(drives: Drives, *, num: int) -> list[int]:
    """Returns the successes in which most rivals failed, of different vehicles, longer ones first."""
    ours, rivals = drives.of(drives.ours), [drives.of(one) for one in drives.rivals]
    numbers = [number for number, row in enumerate(ours) if row.success]
    failed = {number: sum(not rival[number].safe for rival in rivals) for number in numbers}
    return _distinct(sorted(numbers, key=lambda n: (-failed[n], -ours[n].steps)), drives, num)


def worst_failures(drives: Drives, *, num: int) -> list[int]:
    """Returns the episodes that were not safe, of different vehicles, the soonest over first."""
    ours = drives.of(drives.ours)
    numbers = [number for number, row in enumerate(ours) if not row.safe]
    return _distinct(sorted(numbers, key=lambda n: ours[n].steps), drives, num)


def add_drives(album: Album, drives: Drives, numbers: Sequence[int], *, section: str) -> None:
    """Adds one video for each of the episodes `numbers`."""
    for number in numbers:
        row = drives.of(drives.ours)[number]
        video = encode_video(episode_frames(episode_view(drives, number)), hold=HOLD)
        album.add(f"{section}_{number}.mp4", video, section=section, caption=_story(drives, number, row))


def add_hero(album: Album, drives: Drives, number: int) -> None:
    """Adds the middle of a drive as a wide picture."""
    view = episode_view(drives, number)
    pictures = list(episode_frames(view, length=130.0, scale=9.0))
    caption = (
        "Recorded motorway traffic (grey), the recorded driver (yellow), and our car (blue) with its plan: "
        "it saw the past second only, imagined the next three, and chose the dots."
    )
    album.add("hero.png", encode_png(pictures[len(pictures) // 2]), section="pictures", caption=caption)


def episode_view(drives: Drives, number: int) -> EpisodeView:
    """Returns our drive of an episode, ready to be drawn."""
    keep = [("agent", "=", drives.ours), ("episode", "=", number)]
    steps = sorted(pq.read_table(drives.trajectories, filters=keep).to_pylist(), key=lambda one: one["step"])
    states = np.array([[one[name] for name in ("x", "y", "heading", "speed")] for one in steps])
    # The plan that led to a frame was made one frame earlier.
    plans = [np.array(one["plan"], dtype=float).reshape(-1, 2) for one in steps[1:]]
    episode, row = drives.episodes[number], drives.of(drives.ours)[number]
    return EpisodeView(
        recording=drives.recordings[episode.recording],
        vehicle=episode.vehicle,
        frames=[episode.start + one["step"] for one in steps],
        ego=states,
        paths=[plan if len(plan) > 1 else None for plan in plans],
        title=f"{row.agent.replace('_', ' ')}: vehicle {row.vehicle_id} of {row.recording}",
        ending="" if row.safe else ending(row),
    )


def ending(row: EpisodeResult) -> str:
    """Returns in a few words how an episode ended."""
    if row.outcome == "collision":
        return {
            "front": f"ran into vehicle {row.hit_id}",
            "rear": f"hit from behind by vehicle {row.hit_id}",
            "side": f"touched vehicle {row.hit_id} beside it",
        }.get(row.collision_side, f"collided with vehicle {row.hit_id}")
    return {"off_road": "left the road", "time_out": "fell behind", "finished": "arrived"}[row.outcome]


def _story(drives: Drives, number: int, row: EpisodeResult) -> str:
    others = [f"{one.replace('_', ' ')}: {ending(drives.of(one)[number])}" for one in drives.rivals]
    start = f"{row.agent.replace('_', ' ')} as vehicle {row.vehicle_id} of {row.recording}"
    start += f" from frame {row.first_frame}: "
    ours = f"{ending(row)} after {row.steps / 10:.1f} s and {row.distance:.0f} m"
    ours += f" (human {row.human_distance:.0f} m). "
    return start + ours + "; ".join(others) + "."


def _distinct(numbers: Sequence[int], drives: Drives, num: int) -> list[int]:
    """The first of each vehicle."""
    first = {(drives.episodes[n].recording, drives.episodes[n].vehicle): n for n in reversed(numbers)}
    return [number for number in numbers if number in first.values()][:num]


# -- what the planner sees, and curves


def add_cost_fields(album: Album, clip: Clip, model: ForwardModel, cost: Cost) -> None:
    """Adds the cost at every place, predicted for the first window of `clip`."""
    world = FixedContext(LearntContext(model, num_latents=4), dt=model.dt)
    hidden = world.init(clip[:1].obs(model.history))
    nothing = torch.zeros(1, world.horizon, 2)
    rollout = world.unroll(hidden, nothing, world.sample_latent(hidden, world.horizon))
    known = draw_road(rollout.road, rollout.view, model.spec)[0].numpy()
    for step in FIELD_STEPS:
        field = evaluate_field(cost, rollout, step - 1, spec=model.spec)
        parts = {Channel.VEHICLES: field.raster[0]}
        parts |= dict(zip((Channel.LANE, Channel.OFF_ROAD), known[step - 1], strict=True))
        raster = np.stack([parts[one] for one in model.spec.channels])
        field = replace(field, raster=raster, terms=_on_road(field.terms))
        terms = [name for name in FIELD_TERMS if name in field.terms]
        caption = (
            f"{step * model.dt:.0f} s ahead. Terms with their weights; the planner goes down their total."
        )
        picture = encode_png(draw_field(field, model.spec, terms=terms, scale=4))
        album.add(f"cost_field_{step}.png", picture, section="cost_fields", caption=caption)


def _on_road(terms: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The terms, nowhere larger than anywhere on the road: off it they would outshine everything else."""
    is_on_road = terms["off_road"] == 0 if "off_road" in terms else np.ones(terms["total"].shape, dtype=bool)
    if not is_on_road.any():
        return dict(terms)
    return {name: np.minimum(term, term[is_on_road].max()) for name, term in terms.items()}


def add_training(album: Album, metrics: Mapping[str, Path]) -> None:
    """Adds the losses of the phases, `{phase: metrics.csv}`, by step."""
    names = {"train/error": "squared error", "train/penalty": "KL, weighted"}
    panels: dict[str, dict[str, Curve]] = {}
    for phase, path in metrics.items():
        for name, points in read_metrics(path).items():
            values = np.array(points, dtype=float)
            if name in names and len(values) > 1 and values[:, 1].any():
                panels.setdefault(names[name], {})[phase] = Curve(values[:, 0], values[:, 1])
    if panels:
        content = curve_chart(panels, xlabel="step", log_y=list(panels))
        album.add("training.svg", content, section="training", caption="Losses on the training windows.")


def add_rates(album: Album, summary: Mapping[str, Any], *, highlight: str) -> None:
    """Adds the rates of all agents."""
    panels = {
        rate: {name: Rate(*_rate(row, rate)) for name, row in summary["agents"].items()}
        for rate in ("safe", "success")
    }
    caption = "Share of episodes with 95 % intervals (Wilson, by vehicle or scene)."
    album.add("rates.svg", rate_chart(panels, highlight=highlight), section="agent_charts", caption=caption)


def _rate(row: Mapping[str, Any], rate: str) -> tuple[float, float, float]:
    return row[rate], row[f"{rate}_low"], row[f"{rate}_high"]
