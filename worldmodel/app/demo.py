"""`worldmodel demo`: the whole way on recorded traffic, stage by stage, each done once for a run folder."""

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import torch

from worldmodel.app import evaluate, pictures, prediction
from worldmodel.app.compose import Config, build, show, with_values
from worldmodel.app.course import Course, make_course
from worldmodel.app.report import write_report
from worldmodel.app.run import Run, peak_memory, versions
from worldmodel.app.train import CHECKPOINT, fit
from worldmodel.data.datamodule import TrafficDataModule
from worldmodel.evaluation.episode import EpisodeResult
from worldmodel.evaluation.table import read_episodes
from worldmodel.models import ForwardModel, load_forward_model, read_checkpoint
from worldmodel.viz import AgentResult, Comparison, ReportInputs, Table

SCORES = "prediction.csv"
ROWS, TRAJECTORIES = "episodes.parquet", "trajectories.parquet"
PHASES = ("deterministic", "latent")


def main(config: Config) -> None:
    """Trains, predicts, drives, draws and reports."""
    torch.set_num_threads(config.threads)
    run = Run.start(config, "demo")
    config = with_values(config, run=str(run.folder), checkpoint=str(run.folder / CHECKPOINT))
    with run.timed("load"):
        course = make_course(config)
    demo = Demo(config, run, course)
    run.stage("train", lambda: fit(config, run), files=(CHECKPOINT, *map(model_file, PHASES)))
    run.stage("predict", demo.predict, files=(SCORES,))
    run.stage("drive", demo.drive, files=(ROWS, TRAJECTORIES))
    run.stage("latency", lambda: evaluate.time_decisions(config, course, run), files=(evaluate.LATENCY,))
    run.stage("draw", demo.draw, files=(pictures.INDEX,))
    demo.report()
    run.close()


class Demo:
    """The stages after the training; each reads what the earlier ones left in the run folder."""

    def __init__(self, config: Config, run: Run, course: Course) -> None:
        self.config, self.run, self.course = config, run, course

    def predict(self) -> None:
        """Scores both models on held-out windows."""
        models = self.models()
        compared = prediction.predictors(*models, num_samples=self.config.prediction.num_samples)
        clips = islice(self.windows(models[1]).test_dataloader(), self.config.prediction.max_batches)
        scores = prediction.score(compared, clips, models[1])
        self.run.write(SCORES, prediction.write_scores(scores, models[1].dt))

    def drive(self) -> None:
        """Drives all agents; every plan is kept, since nobody knows yet which episodes are worth a video."""
        everything = range(len(self.course.episodes))
        evaluate.drive(self.config, self.course, self.run, keep_plans=everything)

    def draw(self) -> None:
        """Makes all pictures and videos."""
        wanted, models = self.config.pictures, self.models()
        album, drives = pictures.Album(self.run), self.drives()
        pictures.add_rates(album, self.summary(), highlight=self.config.ours)
        chosen = pictures.best_drives(drives, num=wanted.num_episodes)
        for number in chosen[:1]:
            pictures.add_hero(album, drives, number)
        pictures.add_drives(album, drives, chosen, section="episodes")
        # Where nothing of ours went wrong, what went wrong for a rival.
        for name in (drives.ours, *drives.rivals):
            failed = drives.seen_by(name)
            if failures := pictures.worst_failures(failed, num=wanted.num_failures):
                pictures.add_drives(album, failed, failures, section="failures")
                break
        scores = prediction.read_scores(self.run.folder / SCORES)
        caption = "Mean and 95 % interval, bootstrapped by vehicle. Sharpness: 1 is as sharp as reality."
        chart = prediction.chart(scores, models[1].dt)
        album.add("prediction.svg", chart, section="prediction_charts", caption=caption)
        windows = self.windows(models[1]).test_dataloader()
        clip = pictures.eventful_windows(iter(windows), models[1], num=wanted.num_rollouts)
        pictures.add_rollouts(album, clip, models, names=self.names(clip), num_samples=wanted.num_samples)
        pictures.add_cost_fields(album, clip, models[1], build(self.config.cost))
        metrics = {phase: self.run.folder / "metrics" / phase / "metrics.csv" for phase in PHASES}
        pictures.add_training(album, {phase: path for phase, path in metrics.items() if path.exists()})
        album.close()

    def report(self) -> None:
        """Writes `summary.json` and the page, and prints the tables."""
        summary = self.summary()
        scores = prediction.read_scores(self.run.folder / SCORES)
        dt = self.course.store.recordings[0].dt
        summary["prediction"] = prediction.summarise(scores, dt)
        summary["seconds"] = self.run.seconds
        summary["peak_memory_gb"] = round(peak_memory(), 2)
        self.run.write(evaluate.SUMMARY, summary)
        write_report(self.inputs(summary, prediction.table(scores, dt)), self.run.folder)
        evaluate.print_summary(summary)

    def summary(self) -> dict[str, Any]:
        """Returns rates and comparisons."""
        latency = evaluate.read_latency(self.run)
        return evaluate.summary_of(self.config, self.course, self.rows(), latency=latency)

    def inputs(self, summary: Mapping[str, Any], scores: Table) -> ReportInputs:
        """Returns what the page shows."""
        config, total = self.config, sum(self.run.seconds.values())
        stages = Table(("stage", "seconds"), tuple(self.run.seconds.items()), f"{total:.0f} s in all.")
        return ReportInputs(
            title="Driving through imagined traffic",
            headline=headline(summary, ours=config.ours),
            question=QUESTION,
            agents=agent_results(summary, self.rows()),
            highlight=config.ours,
            comparisons=comparisons(summary),
            protocol=describe(self.course, summary),
            prediction_table=scores,
            stages=stages,
            made=self.made(),
            config=show(config),
            sources=tuple(dict.fromkeys(one.source for one in self.course.store.recordings if one.source)),
            **pictures.read_album(self.run.folder),
        )

    def made(self) -> dict[str, str]:
        """Returns how it came about."""
        model = self.models()[1]
        steps = (
            f"{phase}: {read_checkpoint(self.run.folder / model_file(phase))['extra']['steps']} steps"
            for phase in PHASES
        )
        return {
            "command": "worldmodel demo",
            "seed": str(self.config.seed),
            "training": f"{', '.join(steps)}; {model.num_parameters:,} parameters",
            "peak memory": f"{peak_memory():.1f} GB",
            "machine": f"{platform.machine()}, {self.config.threads} threads",
            "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        }

    def models(self) -> tuple[ForwardModel, ForwardModel]:
        """Returns the deterministic and the latent model."""
        first, last = (load_forward_model(self.run.folder / model_file(phase)) for phase in PHASES)
        return first, last

    def windows(self, model: ForwardModel) -> TrafficDataModule:
        """Returns the loaders of the windows to score."""
        wanted = self.config.prediction
        return TrafficDataModule(
            self.course.store.recordings, self.course.store.split, history=model.history,
            horizon=self.config.loader.horizon, spec=model.spec,
            eval_stride=wanted.stride, batch_size=wanted.batch_size,
        )  # fmt: skip

    def rows(self) -> list[EpisodeResult]:
        """Returns how every episode went."""
        return read_episodes(self.run.folder / ROWS)

    def drives(self) -> pictures.Drives:
        """Returns everything that videos of drives need."""
        return pictures.Drives(
            ours=self.config.ours,
            rivals=[name for name in self.config.against if name in self.config.agent],
            rows=self.rows(),
            episodes=self.course.episodes,
            recordings=self.course.store.recordings,
            trajectories=self.run.folder / TRAJECTORIES,
        )

    def names(self, clip: Any) -> list[str]:
        """Returns what to call the windows of a clip."""
        found = []
        for number, row, frame in clip.origin.tolist():
            recording = self.course.store.recordings[number]
            found.append(f"Vehicle {recording.tracks.ids[row]} of {recording.name}, frame {frame}")
        return found


QUESTION = (
    "Can a car be driven by a model that learnt, in two minutes, what the traffic around it will do? It "
    "sees one second of rasters and predicts three; a planner goes down the gradient of a cost through them."
)


def model_file(phase: str) -> str:
    """Returns the name of a phase's checkpoint."""
    return f"model_{phase}.pt"


def headline(summary: Mapping[str, Any], *, ours: str) -> str:
    """Returns the result in two sentences."""
    agents = summary["agents"]
    if ours not in agents:
        return ""
    text = (
        f"Planning with what it learnt, our car is safe in {100 * agents[ours]['safe']:.0f} % of "
        f"{agents[ours]['n']} held-out episodes, and safe and nearly as fast as the human in "
        f"{100 * agents[ours]['success']:.0f} %."
    )
    rivals = {
        "lane_keeping": "keeping the lane at constant speed",
        "mpc_copy": "planning on a copy of the present",
    }
    found = [
        f"{what} is in {100 * agents[one]['safe']:.0f} %" for one, what in rivals.items() if one in agents
    ]
    return f"{text} {', '.join(found).capitalize()}." if found else text


def agent_results(summary: Mapping[str, Any], rows: Sequence[EpisodeResult]) -> tuple[AgentResult, ...]:
    """Returns the rows of the report's table."""
    found = []
    for name, row in summary["agents"].items():
        unsafe = [one for one in rows if one.agent == name and not one.safe]
        reasons = Counter(
            "off the road" if one.outcome == "off_road" else f"{one.collision_side} collision"
            for one in unsafe
        )
        safe, success = (
            tuple(row[key] for key in (rate, f"{rate}_low", f"{rate}_high")) for rate in evaluate.RATES
        )
        found.append(
            AgentResult(name, row["n"], safe, success, row["distance"], row["latency_ms"], dict(reasons))
        )
    return tuple(found)


def comparisons(summary: Mapping[str, Any]) -> tuple[Comparison, ...]:
    """Returns the paired differences."""
    return tuple(
        Comparison(f"{rate}: {pair}", one["difference"], one["low"], one["high"])
        for pair, rates in summary["paired"].items()
        for rate, one in rates.items()
    )


def describe(course: Course, summary: Mapping[str, Any]) -> str:
    """Returns what an episode is, in words."""
    one = course.protocol
    vehicles = len({(episode.recording, episode.vehicle_id) for episode in course.episodes})
    again = f", and again every {one.repeat:g} s" if one.repeat else ""
    return (
        f"{len(course.episodes)} episodes of {vehicles} vehicles that were not in the training data "
        f"(protocol {one.name}, version {one.version}). A car is handed over after {one.history:g} s of its "
        f"recording{again}. Safe: no overlap with anybody and the centre {one.road_margin:g} m inside the "
        f"road, to the end. Success: safe, and at least {100 * one.min_progress:.0f} % of the human's "
        f"distance. Paired intervals are bootstrapped by {summary['paired_cluster'].removesuffix('_id')}."
    )
