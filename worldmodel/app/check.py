"""`worldmodel check CKPT`: is the prediction worth something, and does the model know when it is not?

Asks a trained model on held-out windows: is the action used, is z used, how far is it better than copying,
are its probabilities and spreads honest, how do errors grow. Prints the answers, writes them to `check.json`
and draws them in `report.html`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Column
from rich.table import Table as Printed
from torch import Generator

from worldmodel.app.check_members import load_ensemble, member_disagreement
from worldmodel.app.check_table import disagreement_table, horizon_table, inference_table, recalibration_table
from worldmodel.app.compose import Config, UsageError, show
from worldmodel.app.pictures import eventful_windows
from worldmodel.app.report import write_report
from worldmodel.app.run import Run, versions
from worldmodel.app.windows import held_out, load_probe, vehicles_apart
from worldmodel.evaluation.probe import (
    NUM_DESCENDED,
    Findings,
    Probe,
    doubt,
    measure,
    predict_mean,
)
from worldmodel.evaluation.statistics import Interval, bootstrap_mean
from worldmodel.evaluation.verdict import HORIZONS, Answer, by_horizon, differences, judge
from worldmodel.scene import Channel, relative_pose
from worldmodel.types import Clip
from worldmodel.viz import (
    Curve,
    Future,
    Media,
    ReportInputs,
    Section,
    Table,
    curve_chart,
    doubt_grid,
    encode_png,
)


def main(config: Config) -> None:
    """Measures, judges, prints, draws."""
    if config.horizon < 2:
        raise UsageError(f"horizon={config.horizon} is too short for the ego to do something; give 2 or more")
    torch.set_num_threads(config.threads)
    probe = load_probe(config)
    ensemble = load_ensemble(config, probe)
    arrange = partial(vehicles_apart, first=NUM_DESCENDED)  # they exchange actions and futures
    _, clips = held_out(config, probe, num=config.windows, arrange=arrange, scored_rows=config.scored_rows)
    run = Run.start(config, "check")
    with run.timed("measure"):
        found = measure(
            probe,
            clips,
            num_samples=config.samples,
            num_draws=config.draws,
            num_members=config.members,
            ensemble=ensemble,
            gap_steps=config.gap_steps,
            num_candidates=config.candidates,
            seed=config.seed,
        )
        apart = member_disagreement(probe, ensemble, clips[0], num_members=config.members, seed=config.seed)
    answers = judge(found, probe.model.dt, miss=config.miss)
    run.write("check.json", as_json(answers, found, dt=probe.model.dt) | {"disagreement": apart})
    with run.timed("draw"):
        pictures = doubts(config, probe, clips, ensemble=ensemble)
        write_report(page(config, answers, found, pictures, apart, dt=probe.model.dt), run.folder)
    print_answers(answers, found)
    run.close()


def as_json(answers: Sequence[Answer], found: Findings, *, dt: float) -> dict[str, Any]:
    """Returns what `check.json` holds."""
    return {
        "windows": len(found.cluster),
        "vehicles": len(np.unique(found.cluster)),
        "by_horizon": by_horizon(answers, dt),
        "answers": {
            one.name: {"verdict": one.verdict, "is_good": one.is_good, **one.numbers} for one in answers
        },
    }


def print_answers(answers: Sequence[Answer], found: Findings) -> None:
    """Prints the table of answers."""
    windows = f"{len(found.cluster)} windows of {len(np.unique(found.cluster))} vehicles"
    table = Printed(Column("question", no_wrap=True), "answer", title=windows)
    colours = {True: "green", False: "red", None: "default"}
    for one in answers:
        table.add_row(one.question, f"[{colours[one.is_good]}]{one.verdict}[/]")
    Console().print(table)


# -- the page


def doubts(
    config: Config, probe: Probe, clips: Sequence[Clip], *, ensemble: Sequence[Probe], num: int = 2
) -> tuple[Media, ...]:
    """Returns pictures of the eventful windows: recorded, predicted, and where latents and members part."""
    clip, history = eventful_windows(iter(clips), probe.model, num=num), probe.model.history
    channel, spec = probe.model.spec.channels.index(Channel.VEHICLES), probe.model.spec
    generator = Generator(clip.state.device).manual_seed(config.seed)
    latents = probe.prior(clip, num_samples=config.samples, generator=generator)
    mean = predict_mean(probe, clip, latents).cpu()
    parts = doubt(probe, clip, latents, num_members=config.members, ensemble=ensemble, seed=config.seed)
    clip, last = clip.to("cpu"), mean.shape[1]
    steps = [step for step in (round(one / probe.model.dt) for one in HORIZONS) if step <= last] or [last]
    found = []
    for row in range(len(clip.size)):
        raster = clip.image[row, history - 1 :].float() / 255
        pose = relative_pose(clip.state[row, history - 1 :, :3], clip.view[row, history - 1 :])
        boxes = torch.cat([pose, clip.size[row].expand(len(pose), 2)], dim=1).numpy()
        predicted = raster.clone()
        predicted[1:, channel] = mean[row, :, 0]
        spread = {
            f"over {name}": part[row, :, 0].clamp_min(0).sqrt().cpu().numpy()
            for name, part in (("latents", parts.aleatoric), ("members", parts.epistemic))
        }
        shown = (Future(raster.numpy(), boxes), Future(predicted.numpy(), boxes))
        picture = doubt_grid(*shown, spread, steps, spec, dt=probe.model.dt)
        where = "Recording {}, vehicle row {}, frame {}.".format(*clip.origin[row].tolist())
        found.append(Media(encode_png(picture), where))
    return tuple(found)


def page(
    config: Config,
    answers: Sequence[Answer],
    found: Findings,
    pictures: tuple[Media, ...],
    apart: Mapping[str, Mapping[str, float | None]],
    *,
    dt: float,
) -> ReportInputs:
    """Returns what the page shows."""
    good = sum(one.is_good is True for one in answers)
    judged = sum(one.is_good is not None for one in answers)
    return ReportInputs(
        title="Can this model be trusted?",
        headline=f"{good} of {judged} checks are as one would wish. {_headline(answers)}",
        question=f"{config.checkpoint}, on {len(found.cluster)} held-out windows.",
        sections=(
            Section("Answers", table=_answer_table(answers)),
            Section("Error by horizon", LEADS["error"], _error_table(found, dt), (_error_chart(found, dt),)),
            Section("What it depends on", LEADS["use"], media=_use_charts(found, dt)),
            Section("How z is found", LEADS["inference"], inference_table(answers)),
            Section(
                "Does it know when it is wrong?",
                LEADS["honest"],
                media=_honesty_charts(found, dt),
                is_wide=False,
            ),
            Section("Honesty by horizon", LEADS["horizon"], horizon_table(answers, dt)),
            Section("The spread, recalibrated", LEADS["recalibrated"], recalibration_table(answers)),
            Section("Where members part", LEADS["apart"], disagreement_table(apart)),
            Section("Where it doubts", LEADS["doubt"], media=pictures),
            Section("Bounds", LEADS["bounds"], media=(_bound_chart(answers, found, dt),)),
        ),
        made={"command": "worldmodel check", "seed": str(config.seed), **versions()},
        config=show(config),
    )


LEADS = {
    "error": (
        "Mean squared error of the vehicle channel on road that was being recorded, with 95 % intervals by "
        "vehicle. Copying lets every other car keep its offset to the ego. Where the difference lies below "
        "zero with its interval, the model knows something that copying does not."
    ),
    "use": (
        "The same windows under what another driver did, and with latents that saw the future (posterior), "
        "that did not (prior), and zero. Where curves coincide, what differs between them does not matter."
    ),
    "inference": (
        "Energies of recorded futures, mean over a few windows: by the encoder's guess, by gradient descent "
        "from there (for latents that may take any value), and by search among draws from the prior. A guess "
        "far above the descent says that the encoder leaves out what z could say."
    ),
    "honest": (
        "How often pixels were occupied that were predicted with some probability; on the diagonal it is "
        "honest. Then the variance over latents (aleatoric: the past does not decide it) and over "
        "members (epistemic: the model does not know it), beside the squared error."
    ),
    "horizon": (
        "Calibration error and bias of occupancy (pixels above 5 %), spread over error (1 is right, 0.1 ten "
        "times too sure), and the conformal threshold of every second vehicle with its coverage of others."
    ),
    "recalibrated": (
        "Fitted on every second vehicle, tried on the others. The factor makes the spread as large as the "
        "error on average. The bound is the multiple of the spread that a window's error (root mean square) "
        "stays below as often as the conformal bounds promise; before, how often it stayed below the spread."
    ),
    "apart": (
        "How far members part under the recorded drivers' actions, in a few windows: roots of the mean "
        "variance of pixels, of the ego's state (0 where the ego is kinematic) and of the planner's cost."
    ),
    "doubt": (
        "The windows in which most changes. Bright is unsure, on one scale: over latents the past does not "
        "decide it, over members the model does not know it. Seen from where the rasters are drawn."
    ),
    "bounds": (
        "Split conformal prediction: below the threshold a pixel may be called free. Thresholds come from "
        "every second vehicle; the coverage is that of the others."
    ),
}


def _headline(answers: Sequence[Answer]) -> str:
    return f"Better than copying: {next(one.verdict for one in answers if one.name == 'range')}."


def _answer_table(answers: Sequence[Answer]) -> Table:
    marks = {True: "good", False: "bad", None: "–"}
    return Table(
        ("question", "answer", ""), tuple((one.question, one.verdict, marks[one.is_good]) for one in answers)
    )


def _error_table(found: Findings, dt: float) -> Table:
    steps = [step for step in (round(one / dt) - 1 for one in HORIZONS) if step < found.catching.shape[1]]
    rows = []
    for name in ("model", "copy", "shuffled", "posterior", "prior", "zero"):
        rows.append((NAMES[name], *(f"{found.error[name][:, step].mean():.4f}" for step in steps)))
    return Table(("squared error", *(f"{(step + 1) * dt:.1f} s" for step in steps)), tuple(rows))


NAMES = {
    "model": "model",
    "copy": "copying",
    "shuffled": "another driver's actions",
    "posterior": "z saw the future",
    "prior": "one z from the prior",
    "zero": "z = 0",
}


def _error_chart(found: Findings, dt: float) -> Media:
    x = _seconds(found, dt)
    gained = _interval_curve(x, differences(found))
    errors = {NAMES[name]: _mean_curve(x, found, name) for name in ("model", "copy")}
    panels = {"squared error": errors, "difference to copying": {"model": gained, "none": Curve(x, 0 * x)}}
    return Media(
        curve_chart(panels, xlabel="horizon [s]"), "Error of the mean prediction, and what it gains."
    )


def _use_charts(found: Findings, dt: float) -> tuple[Media, ...]:
    x = _seconds(found, dt)
    error = {name: one.mean(0) for name, one in found.error.items()}
    changes = {
        name: Curve(x, np.sqrt(change.mean(0) / np.maximum(error["model"], 1e-12)))
        for name, change in found.response.items()
    }
    actions = {
        "squared error": {NAMES[name]: Curve(x, error[name]) for name in ("model", "shuffled")},
        "change of the prediction over its error": changes,
    }
    caption = "Actions: those of another driver, and manoeuvres against keeping speed (root mean squares)."
    charts = [Media(curve_chart(actions, xlabel="horizon [s]"), caption)]
    if found.latent is not None:
        names = ("posterior", "prior", "zero")
        latents = {
            "squared error": {NAMES[name]: Curve(x, error[name]) for name in names},
            "error relative to z = 0": {NAMES[name]: Curve(x, error[name] / error["zero"]) for name in names},
        }
        caption = "Latents: below one where a z that saw the future helps."
        charts.append(Media(curve_chart(latents, xlabel="horizon [s]"), caption))
    return tuple(charts)


def _honesty_charts(found: Findings, dt: float) -> tuple[Media, ...]:
    bins, x = found.occupancy, _seconds(found, dt)
    diagonal = np.array([0.0, 1.0])
    steps = [step for step in (round(one / dt) - 1 for one in (1.0, 3.0)) if step < len(x)] or [len(x) - 1]
    curves = {}
    for step in steps:
        filled = (bins.count[step] > 0).numpy()
        predicted, observed = bins.mean_predicted[step].numpy(), bins.mean_observed[step].numpy()
        curves[f"{(step + 1) * dt:.1f} s"] = Curve(predicted[filled], observed[filled])
    reliability = curve_chart(
        {"observed": curves | {"honest": Curve(diagonal, diagonal)}}, xlabel="predicted"
    )
    parts = {
        "squared error": found.error["model"].mean(0),
        "over latents": found.variance.aleatoric.mean(0).clamp_min(0).numpy().astype(float),
        "over members": found.variance.epistemic.mean(0).clamp_min(0).numpy().astype(float),
    }
    variance = {name: Curve(x, part.astype(float)) for name, part in parts.items()}
    return (
        Media(reliability, "Occupancy: predicted against observed."),
        Media(
            curve_chart({"variance": variance}, xlabel="horizon [s]"), "Variance told apart, and the error."
        ),
    )


def _bound_chart(answers: Sequence[Answer], found: Findings, dt: float) -> Media:
    numbers, x = next(one for one in answers if one.name == "bounds").numbers, _seconds(found, dt)
    if not numbers:
        return Media(curve_chart({"threshold": {}}, xlabel="horizon [s]"), "One vehicle only: no bounds.")
    promised = np.full(len(x), 1 - numbers["miss"])
    panels = {
        "threshold": {"threshold": Curve(x, np.array(numbers["threshold"]))},
        "coverage": {"covered": Curve(x, np.array(numbers["coverage"])), "promised": Curve(x, promised)},
    }
    return Media(
        curve_chart(panels, xlabel="horizon [s]"),
        "Left: below it a pixel is free. Right: how often that held.",
    )


def _seconds(found: Findings, dt: float) -> np.ndarray:
    return (np.arange(found.catching.shape[1]) + 1) * dt


def _mean_curve(x: np.ndarray, found: Findings, name: str) -> Curve:
    values = found.error[name]
    return _interval_curve(x, [bootstrap_mean(values[:, t], found.cluster) for t in range(values.shape[1])])


def _interval_curve(x: np.ndarray, intervals: Sequence[Interval]) -> Curve:
    parts = (np.array([getattr(one, name) for one in intervals]) for name in ("estimate", "low", "high"))
    return Curve(x, *parts)
