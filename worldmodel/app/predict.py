"""`worldmodel predict`: how well a checkpoint predicts held-out windows, as a table and a CSV by horizon.

Any world model is asked as `worldmodel check` asks it: under the recorded actions of the ego, with rasters
drawn from where it expects them. So errors are quoted as shares of what copying errs in the same frames.
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Generator, Tensor

from worldmodel.app import prediction
from worldmodel.app.compose import Config
from worldmodel.app.run import Run
from worldmodel.app.windows import held_out, load_probe
from worldmodel.evaluation.prediction import Predictor
from worldmodel.evaluation.probe import Probe, copied, predict
from worldmodel.evaluation.tracker import ConstantVelocity
from worldmodel.types import Clip

SCORES, SUMMARY = "prediction.csv", "summary.json"


def main(config: Config) -> None:
    """Scores, prints, writes."""
    torch.set_num_threads(config.threads)
    probe = load_probe(config)
    dataset, clips = held_out(config, probe, num=config.windows, scored_rows=config.scored_rows)
    tracker = ConstantVelocity(dataset.recordings, probe.model.history, probe.model.spec)
    run = Run.start(config, "predict")
    with run.timed("score"):
        compared = predictors(probe, num_samples=config.samples, seed=config.seed)
        compared["constant_velocity"] = tracker
        scores = prediction.score(compared, clips, probe.model)
    dt = probe.model.dt
    run.write(SCORES, prediction.write_scores(scores, dt))
    found = prediction.summarise(scores, dt)
    num_windows = sum(len(one.size) for one in clips)
    run.write(SUMMARY, {"predictors": found, "windows": num_windows, "part": config.part})
    Console().print(as_table(found, num_windows))
    run.close()


def predictors(probe: Probe, *, num_samples: int, seed: int) -> dict[str, Predictor]:
    """Returns the model with latents from its prior, with those inferred from the future, and copying."""
    num_samples = num_samples if probe.model.latent.dim else 1

    def prior(clip: Clip) -> Float[Tensor, "S B T 1 H W"]:
        generator = Generator(clip.state.device).manual_seed(seed)
        drawn = probe.prior(clip, num_samples=num_samples, generator=generator)
        return torch.stack([predict(probe, clip, one) for one in drawn])

    def posterior(clip: Clip) -> Float[Tensor, "1 B T 1 H W"]:
        latents = probe.model.infer_latents(clip, Generator(clip.state.device).manual_seed(seed))
        return predict(probe, clip, latents).unsqueeze(0)

    found: dict[str, Predictor] = {"model": prior}
    if probe.model.latent.dim:
        found["posterior"] = posterior
    return found | {"copy": lambda clip: copied(probe, clip).unsqueeze(0)}


def as_table(found: dict[str, dict[str, dict[str, Any]]], num_windows: int) -> Table:
    """Returns shares of *copy*'s error, overlaps and sharpness at `HORIZONS`; it fits into 80 columns."""
    horizons = " ".join(f"{one:g}" for one in prediction.HORIZONS)
    table = Table("predictor", title=f"{num_windows} windows, after {horizons} s")
    for column in ("MSE / copy's", "IoU", "sharpness"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, metrics in found.items():
        error, overlap, sharpness = (metrics[one].values() for one in ("mse_over_copy", "iou", "sharpness"))
        row = (numbers(error, digits=2), numbers(overlap, digits=2), numbers(sharpness, digits=1))
        table.add_row(name, *row)
    return table


def numbers(values: Iterable[float], *, digits: int) -> str:
    """Returns numbers as text, without zeros before the point."""
    return " ".join(f"{value:.{digits}f}".removeprefix("0") for value in values)
