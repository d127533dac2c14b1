"""`worldmodel train`: recordings -> a checkpoint, in phases, each from the weights of the one before.

Each phase has a latent of its own; null is none. A phase that is finished has left its model; one that was
killed has left its state (`training.resume`).
"""

import logging
import warnings
from itertools import islice
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import OmegaConf

from worldmodel.app import train_policy
from worldmodel.app.compose import Config, UsageError, build, is_for, targets, with_values
from worldmodel.app.phase import STATE, datamodule, train_phase
from worldmodel.app.run import Run
from worldmodel.data import Store, compute_stats
from worldmodel.models import NoLatent, load_model, load_weights, read_checkpoint, save_model
from worldmodel.training import with_latent

CHECKPOINT = "model.pt"


def main(config: Config) -> None:
    """Trains and saves `model.pt` in the run folder; or `policy.pt`, where a policy is asked for."""
    if "policy" in config:
        if config.init is not None:
            raise UsageError("policies begin anew; leave init= to models, or did you mean checkpoint=?")
        hush()
        train_policy.main(config)
        return
    if config.devices != 1 and config.run is None:
        raise UsageError("several processes have to find one folder; add run=FOLDER to the command")
    list(targets(OmegaConf.to_container(config.phases, resolve=True)))  # those of later phases, too
    run = Run.start(config, "train", is_shared=is_follower())
    if is_follower():
        run.console.quiet = True
        fit(config, run)
        return
    run.stage("train", lambda: fit(config, run), files=(CHECKPOINT,))
    run.close()


def fit(config: Config, run: Run) -> None:
    """Trains phase by phase, and saves each phase's model, calibrated; the last is `model.pt`."""
    hush()
    torch.set_num_threads(config.threads)
    store: Store = build(config.data)
    torch.manual_seed(config.seed)
    model = build(config.model)
    if not all(is_for(model, one, "model") for one in targets({"_target_": config.module._target_})):
        raise UsageError(
            f"{config.module._target_} does not train a {type(model).__name__}; leave module= to model="
        )
    if config.init is not None:
        load_weights(model, config.init)
    build(config.normalisation)(model, compute_stats(store.recordings, store.split.train))
    module = datamodule(config, store, history=model.history, spec=model.spec)
    next(iter(module.train_dataloader()))  # compiles the renderer, which is no training time
    for number, phase in enumerate(config.phases):
        torch.manual_seed(config.seed + number)
        model = with_latent(model, build(phase.latent) or NoLatent())
        path = run.folder / f"model_{phase.name}.pt"
        if path.exists():
            run.console.print(f"[dim]phase {phase.name}: done before[/dim]")
            model, extra = load_model(path), read_checkpoint(path)["extra"]
            continue
        told = with_values(config, run=str(run.folder), phase=phase.name)
        extra = train_phase(told, model, module, phase=phase, run=run)
        if not is_follower():
            if config.uncertainty is not None:
                _calibrate(config, model, store)
            save_model(model.eval(), path, extra=extra)
    if is_follower():
        return
    save_model(model.eval(), run.folder / CHECKPOINT, extra=extra)
    (run.folder / STATE).unlink(missing_ok=True)


def is_follower() -> bool:
    """Returns whether this is a further process, which Lightning has started with the same command."""
    return bool(rank_zero_only.rank)  # type: ignore[attr-defined]


def _calibrate(config: Config, model: Any, store: Store) -> None:
    """Measures what is usual for the model's uncertainty, always on the same first batches."""
    torch.manual_seed(config.seed)
    module = datamodule(config, store, history=model.history, spec=model.spec)
    batches = islice(module.train_dataloader(), config.uncertainty.num_batches)
    build(config.uncertainty.calibrate)(model, batches)


def hush() -> None:
    """Keeps Lightning's advertisements and advice off the screen."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
