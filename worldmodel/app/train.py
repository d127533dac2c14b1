"""`worldmodel train`: recordings -> a checkpoint, in phases, each from the weights of the one before."""

import csv
import logging
import warnings
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import RichProgressBar

from worldmodel.app.compose import Config, build, with_values
from worldmodel.app.run import Run
from worldmodel.data import Store, compute_stats
from worldmodel.data.datamodule import TrafficDataModule
from worldmodel.models import save_model
from worldmodel.training import with_latent
from worldmodel.training.optimizer import time_share

CHECKPOINT = "model.pt"


def main(config: Config) -> None:
    """Trains and saves `model.pt` in the run folder."""
    run = Run.start(config, "train")
    run.stage("train", lambda: fit(config, run), files=(CHECKPOINT,))
    run.close()


def fit(config: Config, run: Run) -> None:
    """Trains phase by phase within `config.seconds`, and saves each phase's model; the last is `model.pt`."""
    _hush()
    lightning.seed_everything(config.seed, verbose=False)
    torch.set_num_threads(config.threads)
    store: Store = build(config.data)
    model: Any = build(config.model)
    build(config.normalisation)(model, compute_stats(store.recordings, store.split.train))
    module = datamodule(config, store, model)
    next(iter(module.train_dataloader()))  # compiles the renderer, which is no training time
    for number, phase in enumerate(config.phases):
        if number:
            model = with_latent(model, build(phase.latent))
        seconds = config.seconds * phase.share
        run.console.print(f"phase {phase.name}: at most {phase.num_steps} steps, {seconds:.0f} s")
        told = with_values(config, run=str(run.folder), phase=phase.name)
        taken = train_phase(told, model, module, num_steps=phase.num_steps, seconds=seconds)
        run.console.print(f"[dim]phase {phase.name}: {taken} steps[/dim]")
        extra = {"phase": phase.name, "steps": taken, "seed": config.seed}
        save_model(model.eval(), run.folder / f"model_{phase.name}.pt", extra=extra)
    batches = islice(module.train_dataloader(), config.uncertainty.num_batches)
    build(config.uncertainty.calibrate)(model, batches)
    save_model(model.eval(), run.folder / CHECKPOINT, extra=extra)


def datamodule(config: Config, store: Store, model: Any) -> TrafficDataModule:
    """Returns the loaders of windows as the model needs them."""
    loading = build(config.loader)
    return TrafficDataModule(
        store.recordings, store.split, history=model.history, spec=model.spec, seed=config.seed, **loading
    )


def train_phase(
    config: Config, model: Any, module: TrafficDataModule, *, num_steps: int, seconds: float
) -> int:
    """Trains the model in place and returns the number of steps taken."""
    loggers = [build(one) for one in config.logger.values()]
    optimizer = partial(torch.optim.AdamW, **build(config.optimizer))
    trainer = lightning.Trainer(
        accelerator=config.accelerator,
        devices=1,
        max_steps=num_steps,
        max_time=timedelta(seconds=seconds),
        gradient_clip_val=1.0,
        logger=loggers,
        log_every_n_steps=10,
        enable_checkpointing=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[RichProgressBar(leave=True)],
    )
    learner = build(config.module)(
        model, optimizer=optimizer, num_steps=num_steps, elapsed=time_share(seconds)
    )
    trainer.fit(learner, module)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return int(trainer.global_step)


def _hush() -> None:
    """Keeps Lightning's advertisements and advice off the screen."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


def read_metrics(path: Path) -> Mapping[str, Sequence[tuple[int, float]]]:
    """Returns `{name: [(step, value)]}` of a metrics file of Lightning's CSVLogger."""
    found: dict[str, list[tuple[int, float]]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        row: dict[str, Any]
        for row in csv.DictReader(stream):
            for name, value in row.items():
                if name not in ("step", "epoch") and value:
                    found.setdefault(name, []).append((int(row["step"]), float(value)))
    return found
