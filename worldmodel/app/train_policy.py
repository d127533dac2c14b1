"""`worldmodel train policy=...`: recordings, and for most losses a forward model -> `policy.pt`.

A policy is trained like a model, in one phase (`worldmodel.app.phase`): it stops with the budget, and carries
on after a kill. What is kept are the weights that did best in validation, by the loss on windows of the
validation part or, better, by driving its episodes (`policy.drive`): how well a policy drives swings from one
snapshot to the next far more than its loss does.
"""

from collections.abc import Callable
from functools import cached_property
from itertools import islice
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric import Fabric
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import OmegaConf
from torch import Generator

from worldmodel.app.agents import needed_by, weights_of
from worldmodel.app.compose import Config, UsageError, build, show, with_values
from worldmodel.app.course import drawn_by
from worldmodel.app.phase import STATE, datamodule, train_phase
from worldmodel.app.precheck import check_raster
from worldmodel.app.run import Run
from worldmodel.data import Store
from worldmodel.evaluation.on_device import OnDevice
from worldmodel.evaluation.practice import Practice
from worldmodel.evaluation.protocol import Episode, Protocol, episodes, spread
from worldmodel.evaluation.suite import evaluate
from worldmodel.models import load_model, save_model
from worldmodel.protocols import Planner
from worldmodel.scene import Renderer

POLICY = "policy.pt"
FAILURE, CRASH = "val/failure", "val/crash"


def main(config: Config) -> None:
    """Trains and saves `policy.pt` in the run folder.

    Raises:
        UsageError: the loss needs a forward model, or several, and they are not given; or it needs what was
            recorded, and is to practise; or several processes are to train.
    """
    if config.devices != 1:
        raise UsageError(
            f"devices={config.devices}, but policies train in one process; leave devices=1, and train more "
            "side by side"
        )
    if "${checkpoint}" in show(config.module) and config.checkpoint is None:
        raise UsageError(
            "this policy learns in a world model; train one and add checkpoint=RUN/model.pt to the command"
        )
    if "members" in config and len(config.members) < 2:
        raise UsageError(
            f"members={list(config.members)}, but an ensemble needs at least two models, trained apart; add "
            "members=[A.pt,B.pt] to the command"
        )
    check_practice(config)
    for path in weights_of(config.module):
        check_raster(path, load_model(path), build(config.raster))
    run = Run.start(config, "train")
    run.stage("train", lambda: fit(config, run), files=(POLICY,))
    run.close()


def check_practice(config: Config) -> None:
    """Checks that the loss reads nothing that situations of the policy's own driving do not have.

    Raises:
        UsageError: naming it.
    """
    needed = needed_by(OmegaConf.to_container(config.module))
    if config.policy.practice and needed:
        raise UsageError(
            f"policy={config.policy.name} learns from {' and from '.join(sorted(needed))}, which nobody "
            "knows of the situations that policy.practice adds; give policy.practice=null, or another policy="
        )


def fit(config: Config, run: Run) -> None:
    """Trains the policy and saves it."""
    torch.set_num_threads(config.threads)
    store: Store = build(config.data)
    torch.manual_seed(config.seed)
    policy = build(config.model)
    module = datamodule(config, store, history=config.policy.history, spec=policy.spec)
    device = device_of(config)
    with torch.device(device):  # where the frozen models are loaded to
        learner = build(config.module)
    batches = [one.to(device) for one in islice(module.train_dataloader(), config.policy.prepare_batches)]
    generator = Generator(device).manual_seed(config.seed)
    learner.keywords["loss_fn"].prepare(batches, generator=generator)
    (phase,) = config.phases
    told = with_values(config, run=str(run.folder), phase=phase.name)
    practised = {"practice": practice(config, store, policy)} if config.policy.practice else {}
    module.augment = practised.get("practice")
    drive = config.policy.drive
    drives = [DriveEpisodes(driver(config, drive, store, policy))] if drive.num_episodes else []
    extra = train_phase(
        told, policy, module, phase=phase, run=run, learner=learner, callbacks=drives, parts=practised
    )
    save_model(policy.eval(), run.folder / POLICY, extra={**extra, "policy": config.policy.name})
    (run.folder / STATE).unlink(missing_ok=True)


def device_of(config: Config) -> torch.device:
    """Returns where `config.accelerator` computes; the CPU, where a command has none.

    Raises:
        UsageError: there is no such accelerator here.
    """
    accelerator = config.get("accelerator", "cpu")
    try:
        return Fabric(accelerator=accelerator, devices=1).device
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        raise UsageError(f"accelerator={accelerator}: {error}") from error


def practice(config: Config, store: Store, policy: Any) -> Practice:
    """Returns what lets the policy drive vehicles of the training part while it learns."""
    how, protocol = config.policy.practice, build(config.protocol)
    env = build(config.env)(
        store.recordings, episodes(store.recordings, store.split.train, protocol=protocol), how.num_envs,
        protocol=protocol, autoreset_mode="SameStep",
    )  # fmt: skip
    planner = OnDevice(build(config.policy.drive.planner)(policy), device_of(config))
    return Practice(planner, env, share=how.share, num_ticks=how.num_ticks, seed=config.seed)


def driver(config: Config, wanted: Config, store: Store, policy: Any) -> "Driver":
    """Returns what drives episodes of a part of the split, in `wanted.env` or else in the configured one.

    Raises:
        UsageError: the part holds no episode.
    """
    protocol = build(config.protocol)
    found = episodes(store.recordings, getattr(store.split, wanted.part), protocol=protocol)
    if not found:
        raise UsageError(f"no episode can be driven in the part {wanted.part!r}; choose part=train for it")
    make_planner: Callable[[Any], Planner] = build(wanted.planner)
    chosen = spread(found, wanted.num_episodes)
    env = build(wanted.get("env") or config.env)
    planner = OnDevice(make_planner(policy), device_of(config))
    return Driver(planner, store, chosen, protocol=protocol, env=env)


class Driver:
    """Drives the same episodes again and again, with the policy as it is at the time.

    Args:
        planner: the policy's.
        store: holds the recordings.
        episodes: to drive.
        protocol: by which they are judged.
        env: as `configs/env` describes it.
    """

    def __init__(
        self, planner: Planner, store: Store, episodes: list[Episode], *, protocol: Protocol, env: Any
    ) -> None:
        self.planner, self.store, self.episodes, self.protocol = planner, store, episodes, protocol
        self.env = env

    @cached_property
    def _renderers(self) -> tuple[Renderer, ...]:
        return tuple(Renderer(one, drawn_by(self.env)) for one in self.store.recordings)

    def _make_env(self, num_envs: int) -> Any:
        return self.env(
            self.store.recordings, self.episodes, num_envs,
            protocol=self.protocol, renderers=self._renderers, autoreset_mode="Disabled",
        )  # fmt: skip

    def __call__(self) -> dict[str, float]:
        """Returns the shares of failures and crashes."""
        rows = evaluate(
            {"policy": self.planner}, self._make_env, self.episodes,
            recordings=self.store.recordings, protocol=self.protocol, batch_size=len(self.episodes),
        ).rows  # fmt: skip
        return {
            FAILURE: 1.0 - float(np.mean([row.success for row in rows])),
            CRASH: 1.0 - float(np.mean([row.safe for row in rows])),
        }


class DriveEpisodes(lightning.Callback):
    """Drives whenever there is a validation, and logs how it went.

    Args:
        driver: drives.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Drives."""
        for name, share in self.driver().items():
            pl_module.log(name, share, prog_bar=name == FAILURE)
