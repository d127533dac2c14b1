"""One phase of a training: a Lightning fit that begins where an earlier, killed one of the folder got to."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from worldmodel.app.compose import Config, UsageError, build
from worldmodel.app.loggers import make_loggers
from worldmodel.app.progress import TrainingBar
from worldmodel.app.run import Run
from worldmodel.data import Store
from worldmodel.data.datamodule import TrafficDataModule
from worldmodel.scene import RasterSpec
from worldmodel.training import (
    KeepBest,
    Resume,
    Stateful,
    StepSeeds,
    TimeBudget,
    TrainingState,
    WarnOfCollapse,
    compile_parts,
)

STATE = "training.pt"


def datamodule(config: Config, store: Store, *, history: int, spec: RasterSpec) -> TrafficDataModule:
    """Returns the loaders of windows, drawn as what is trained reads them."""
    return TrafficDataModule(
        store.recordings, store.split, history=history, spec=spec, seed=config.seed, **build(config.loader)
    )


def train_phase(
    config: Config,
    model: Any,
    module: TrafficDataModule,
    *,
    phase: Config,
    run: Run,
    learner: Callable[..., lightning.LightningModule] | None = None,
    callbacks: Sequence[lightning.Callback] = (),
    parts: Mapping[str, Stateful] | None = None,
) -> dict[str, Any]:
    """Trains the model in place.

    Args:
        learner: what `config.module` describes, where it has been built already.
        callbacks: more of them; they run before the best weights are chosen.
        parts: whose state is kept with that of the training.

    Returns:
        What to keep beside the weights.

    Raises:
        ValueError: the best weights are to be kept, but there is nothing to validate on; or no window fits
            into what there is.
    """
    is_validated = bool(config.validation.every and module.split.val)
    if config.validation.keep == "best" and not is_validated:
        raise ValueError("validation.keep=best needs validation.every=STEPS and a split with a part `val`")
    if is_validated:
        _check_validation(module)
    state = TrainingState.read(run.folder / STATE, phase.name)
    budget = TimeBudget(None if config.seconds is None else config.seconds * phase.share)
    best = KeepBest(model, monitor=config.validation.monitor)
    resume = Resume(
        run.folder / STATE,
        phase=phase.name,
        state=state,
        every=config.resume_every,
        parts={"budget": budget, "best": best, **(parts or {})},
    )
    module.steps, module.elapsed = range(state.step, phase.num_steps), budget.share
    if config.compile:
        compile_parts(model)
    limit = "" if budget.seconds is None else f", {budget.seconds:.0f} s"
    begin = f" from step {state.step}" if state.step else ""
    run.console.print(f"phase {phase.name}{begin}: at most {phase.num_steps} steps{limit}")
    bar = TrainingBar(run.console, phase.name, num_steps=phase.num_steps)
    watched = [*callbacks, best] if is_validated else []
    if config.validation.keep == "last":  # what breaks down early is kept
        watched += [WarnOfCollapse(best, say=run.console.print)] if is_validated else []
    all_of_them = [resume, StepSeeds(config.seed), budget, bar, *watched]
    trainer = make_trainer(config, all_of_them, num_steps=phase.num_steps, is_validated=is_validated)
    optimizer = partial(torch.optim.AdamW, **build(config.optimizer))
    learner = (learner or build(config.module))(
        model, optimizer=optimizer, num_steps=phase.num_steps, elapsed=budget.share
    )
    try:
        trainer.fit(learner, module)
    except SystemExit as end:
        if end.code:  # what Lightning makes of Ctrl-C; of SIGTERM it makes one without a code
            raise KeyboardInterrupt from end
        raise
    said = [f"{trainer.global_step} steps", f"{budget.used:.1f} s", *_newest(trainer)]
    run.console.print(f"[dim]phase {phase.name}: {', '.join(said)}[/dim]", highlight=False, soft_wrap=True)
    kept = {"phase": phase.name, "steps": int(trainer.global_step), "seed": config.seed}
    if config.validation.keep == "best" and best.restore():
        kept |= {"best_step": best.step, "best_score": best.score}
    return kept


def _newest(trainer: lightning.Trainer) -> list[str]:
    """Returns the newest error in training, and all that was validated, as text."""
    return [
        f"{name} {float(value):.4g}"
        for name, value in sorted(trainer.callback_metrics.items())
        if name in ("train/error", "train/loss") or name.startswith("val/")
    ]


def _check_validation(module: TrafficDataModule) -> None:
    try:
        module.dataset("val")
    except ValueError as error:
        raise ValueError(f"{error}; or train without validation: validation.every=null") from error


def make_trainer(
    config: Config, callbacks: list[lightning.Callback], *, num_steps: int, is_validated: bool
) -> lightning.Trainer:
    """Returns Lightning's trainer; what resumes, seeds and shows is ours, and so is the order of the data.

    Raises:
        UsageError: with Lightning's words, where it has not got what is asked for.
    """
    try:
        return _trainer(config, callbacks, num_steps=num_steps, is_validated=is_validated)
    except MisconfigurationException as error:
        asked = ", ".join(f"{name}={config[name]}" for name in ("accelerator", "devices", "precision"))
        raise UsageError(f"{asked}: {error}") from error


def _trainer(
    config: Config, callbacks: list[lightning.Callback], *, num_steps: int, is_validated: bool
) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        strategy=config.strategy,
        precision=config.precision,
        max_epochs=-1,
        max_steps=num_steps,
        gradient_clip_val=1.0,
        logger=make_loggers(config),
        log_every_n_steps=config.log_every,
        check_val_every_n_epoch=None,
        val_check_interval=config.validation.every if is_validated else num_steps,
        limit_val_batches=1.0 if is_validated else 0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=callbacks,
    )
