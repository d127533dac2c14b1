"""The page of a suite: a table and a picture for each factor, and videos of the worst episodes."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from worldmodel.app.compose import Config, show
from worldmodel.app.pictures import HOLD, ending
from worldmodel.app.reenact import read_drives, reenact
from worldmodel.app.report import PAGE, write_report
from worldmodel.app.run import write_atomic
from worldmodel.app.suite_table import COLUMNS, Drives, cells, legend
from worldmodel.viz import (
    EpisodeView,
    Levels,
    Media,
    Rate,
    ReportInputs,
    Section,
    Table,
    encode_video,
    episode_frames,
    level_chart,
    level_picture,
)

__all__ = ["PAGE", "write"]

PICTURE = "suite.png"
MEASURES = ("success", "safe")
LAST = 80
"""Frames of the end of an episode that are shown."""
BLAME = {"ego": "its own fault", "other": "the other's fault", "both": "both at fault"}


def write(
    config: Config,
    rows: Sequence[Mapping[str, Any]],
    drives: Sequence[Drives],
    *,
    folder: Path,
    made: Mapping[str, Any],
) -> None:
    """Writes the page, the picture of all factors and the videos."""
    factors = {name: levels_of(rows, name) for name in dict.fromkeys(row["factor"] for row in rows)}
    if not factors:
        return
    write_atomic(folder / PICTURE, level_picture(factors))
    sections = [_section(rows, name, levels) for name, levels in factors.items()]
    videos = worst_videos(drives, num=config.videos)
    (folder / "videos").mkdir(exist_ok=True)
    for number, one in enumerate(videos, start=1):
        write_atomic(folder / "videos" / f"worst_{number}.mp4", one.content)
    if videos:
        sections.append(Section("The worst episodes", WORST, media=tuple(videos), is_wide=False))
    inputs = ReportInputs(
        title="Driving in simulated traffic",
        question=QUESTION,
        sections=tuple(sections),
        protocol=legend(config.reference),
        made={
            "command": "worldmodel suite",
            "seed": f"{config.seed}, of the scenes {config.scenes.seed}",
            "scenes": f"{config.scenes.num} of each level, {config.scenes.egos} vehicles of each driven",
            "seconds": f"{made['seconds_of_stages']} of stages, {config.jobs} at a time",
            "machine": f"{platform.machine()}, threads={config.threads}",
            "missing": ", ".join(made["missing"]) or "nothing",
        },
        config=show(config),
    )
    write_report(inputs, folder)


QUESTION = (
    "Which traffic is hard, and for whom? Each level differs from the base in one factor. Everybody drives "
    "the same vehicles of the same scenes, handed over after two seconds, among drivers who react."
)
WORST = (
    "Chosen by rule: of each agent the episodes that were not safe, its own faults first, of those the "
    "soonest over, of different levels; the last eight seconds of each. Blue: the agent. The others react."
)


def levels_of(rows: Sequence[Mapping[str, Any]], factor: str) -> Levels:
    """Returns what the picture of a factor shows: agents that have driven all of its levels."""
    mine = [row for row in rows if row["factor"] == factor]
    names = list(dict.fromkeys(row["level"] for row in mine))
    agents = dict.fromkeys(row["agent"] for row in mine)
    complete = [one for one in agents if sum(row["agent"] == one for row in mine) == len(names)]
    panels = {
        measure: {agent: [_rate(row, measure) for row in mine if row["agent"] == agent] for agent in complete}
        for measure in MEASURES
    }
    return Levels(names, panels)


def _rate(row: Mapping[str, Any], measure: str) -> Rate:
    return Rate(row[measure], row[f"{measure}_low"], row[f"{measure}_high"])


def _section(rows: Sequence[Mapping[str, Any]], factor: str, levels: Levels) -> Section:
    table = Table(COLUMNS, tuple(cells(row) for row in rows if row["factor"] == factor))
    caption = f"Share of episodes at each level of {factor}, with Wilson's 95 % intervals, by scene."
    chart = Media(level_chart(factor, levels), caption)
    return Section(factor.capitalize(), table=table, media=(chart,))


def worst_videos(drives: Sequence[Drives], *, num: int) -> list[Media]:
    """Returns videos of the `num` worst episodes of each agent."""
    found = []
    for agent in dict.fromkeys(one.agent for one in drives):
        bad = [
            (one.faults.get(number) == "other", row.steps, index, number)
            for index, one in enumerate(drives)
            for number, row in enumerate(one.rows)
            if one.agent == agent and not row.safe
        ]
        first: dict[int, int] = {}
        for *_, index, number in sorted(bad):
            first.setdefault(index, number)
        found += [_video(drives[index], number) for index, number in list(first.items())[:num]]
    return found


def _video(drives: Drives, number: int) -> Media:
    driven = read_drives(drives.folder / "trajectories.parquet", drives.agent, [number])
    again, row = reenact(drives.course, [number], driven)[0], drives.rows[number]
    first, name = max(0, len(again.ego) - LAST), drives.agent.replace("_", " ")
    view = EpisodeView(
        recording=again.recording,
        vehicle=again.vehicle,
        frames=list(range(first, len(again.ego))),
        ego=again.ego[first:],
        paths=[],
        title=f"{name}: {drives.level}, vehicle {row.vehicle_id} of {row.recording}",
        ending=ending(row),
    )
    blame = f", {BLAME[drives.faults[number]]}" if number in drives.faults else ""
    caption = (
        f"{name} at {drives.level}, vehicle {row.vehicle_id} of {row.recording}: "
        f"{ending(row)} after {row.steps / 10:.1f} s and {row.distance:.0f} m{blame}."
    )
    return Media(encode_video(episode_frames(view), hold=HOLD), caption)
