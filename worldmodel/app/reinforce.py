"""`worldmodel reinforce`: an environment and a learner -> `policy.pt`.

The learner (`configs/learner`) acts in a batched environment and is paid by `configs/reward`. From time to
time the policy drives whole episodes, and what is kept is the snapshot that drove best. The state is written
every `save_every` seconds; a killed training carries on from there, with new episodes and random numbers.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from worldmodel.app.compose import Config, UsageError, build, require, show, with_values
from worldmodel.app.loggers import make_loggers
from worldmodel.app.precheck import check_loaded
from worldmodel.app.run import Run
from worldmodel.app.train_policy import CRASH, FAILURE, POLICY, Driver, driver
from worldmodel.atomic import replacing
from worldmodel.data import Store
from worldmodel.evaluation.protocol import episodes
from worldmodel.models import load_model, save_model
from worldmodel.training import CsvLogger, KeepBest

FORMAT = "highway-worldmodel/reinforce-state"
STATE = "reinforce.pt"


def main(config: Config) -> None:
    """Trains and saves `policy.pt` in the run folder.

    Raises:
        UsageError: nothing says when to stop, no model is given, or stable-baselines3 is not there.
    """
    if find_spec("stable_baselines3") is None:
        raise UsageError(
            "reinforce needs stable-baselines3; install it with pip install 'highway-worldmodel[rl]'"
        )
    if config.seconds is None and config.steps is None:
        raise UsageError("nothing says when to stop; give seconds= or steps=")
    if "${checkpoint}" in show(config.env):
        require(config, "checkpoint")
        check_loaded(OmegaConf.to_container(config.env, resolve=True))
    run = Run.start(config, "reinforce")
    run.stage("reinforce", lambda: fit(config, run), files=(POLICY,))
    run.close()


@dataclass
class Budget:
    """Seconds and steps, whichever is used up first; time used before an interruption counts."""

    seconds: float | None
    num_steps: int | None
    used: float = 0.0
    steps: int = 0

    def share(self) -> float:
        """Returns how much is used up, 0 to 1."""
        by_time = self.used / self.seconds if self.seconds else 0.0
        by_steps = self.steps / self.num_steps if self.num_steps else 0.0
        return min(1.0, max(by_time, by_steps))


def fit(config: Config, run: Run) -> None:
    """Trains the policy and saves it."""
    torch.set_num_threads(config.threads)
    state = read_state(run.folder / STATE)
    store: Store = build(config.data)
    torch.manual_seed(config.seed)
    policy = make_policy(config)
    begin = 0 if state is None else int(state["training"]["steps"])
    budget = Budget(config.seconds, config.steps, steps=begin)
    training = build(config.learner)(
        policy, make_env(config, store), reward=build(config.reward), elapsed=budget.share,
        seed=config.seed + begin,
    )  # fmt: skip
    loop = Loop(config, run, training, budget=budget, best=KeepBest(policy, monitor=FAILURE))
    loop.begin(state)
    drive = driver(config, config.drive, store, policy) if config.drive.num_episodes else None
    loop.until_over(drive)
    extra = {"learner": config.learner["_target_"], "steps": budget.steps, "seed": config.seed}
    if loop.best.restore():
        extra |= {"best_step": loop.best.step, "best_score": loop.best.score}
    save_model(policy.eval(), run.folder / POLICY, extra=extra)
    (run.folder / STATE).unlink(missing_ok=True)


def make_policy(config: Config) -> Any:
    """Returns the policy to begin with: one that was trained before, or a new one."""
    if config.policy_checkpoint is None:
        return build(config.model)
    return load_model(config.policy_checkpoint).requires_grad_(True)


def make_env(config: Config, store: Store) -> Any:
    """Returns the environment to learn in: vehicles of the training part, handed over one after another.

    Raises:
        UsageError: there is no training part.
    """
    protocol = build(config.protocol)
    if not store.split.train:
        raise UsageError(
            "these recordings are all for testing; give data=store data.path= what `worldmodel prepare` wrote"
        )
    return build(config.env)(
        store.recordings, episodes(store.recordings, store.split.train, protocol=protocol), config.num_envs,
        protocol=protocol, autoreset_mode="SameStep",
    )  # fmt: skip


class Loop:
    """Advances a training until its budget is used up: logs, drives, saves.

    Args:
        training: has `steps`, `advance`, `state_dict` and `load_state_dict`.
        best: remembers the snapshot that drove best.
    """

    def __init__(self, config: Config, run: Run, training: Any, *, budget: Budget, best: KeepBest) -> None:
        self.run, self.training, self.budget, self.best = run, training, budget, best
        self.drive_every, self.save_every = config.drive.every, config.save_every
        self.loggers = make_loggers(with_values(config, run=str(run.folder)))
        self.driven = self.saved = 0.0  # when [s]

    def until_over(self, drive: Driver | None) -> None:
        """Advances; drives at the end, too."""
        budget, begin = self.budget, time.monotonic() - self.budget.used
        bar = Progress(
            TextColumn("reinforce"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(), TextColumn("{task.fields[said]}"),
            console=self.run.console, transient=True,
        )  # fmt: skip
        with bar:
            task = bar.add_task("", total=1.0, said="")
            while budget.share() < 1.0:
                found = self.training.advance()
                budget.used, budget.steps = time.monotonic() - begin, self.training.steps
                if drive and (budget.used - self.driven >= self.drive_every or budget.share() >= 1.0):
                    found |= self._drive(drive)
                    budget.used = time.monotonic() - begin
                for logger in self.loggers:
                    logger.log_metrics(found | {"seconds": budget.used}, budget.steps)
                if budget.used - self.saved >= self.save_every:
                    self._save()
                bar.update(task, completed=budget.share(), said=_said(budget, found))
        self.run.console.print(f"[dim]{budget.steps} steps, {budget.used:.1f} s[/dim]")

    def begin(self, state: Mapping[str, Any] | None) -> None:
        """Carries on from what `_save` wrote, if there is any."""
        for one in self._csv():
            one.keep(0 if state is None else int(state["rows"]))
        if state is None:
            return
        self.training.load_state_dict(state["training"])
        self.best.load_state_dict(state["best"])
        self.budget.used = self.saved = float(state["used"])
        self.driven = float(state["driven"])

    def _drive(self, drive: Driver) -> dict[str, float]:
        found = drive()
        # Crashes tell apart the snapshots that fail alike.
        self.best.compare(found[FAILURE] + 1e-3 * found[CRASH], self.budget.steps)
        self.driven = self.budget.used
        return found

    def _save(self) -> None:
        content = {
            "format": FORMAT,
            "training": self.training.state_dict(),
            "best": self.best.state_dict(),
            "used": self.budget.used,
            "driven": self.driven,
            "rows": max((len(one.rows) for one in self._csv()), default=0),
        }
        with replacing(self.run.folder / STATE) as stream:
            torch.save(content, stream)
        self.saved = self.budget.used

    def _csv(self) -> list[CsvLogger]:
        return [one for one in self.loggers if isinstance(one, CsvLogger)]


def read_state(path: Path) -> Mapping[str, Any] | None:
    """Returns what a killed training has left, or None.

    Raises:
        ValueError: the file is something else.
    """
    if not path.exists():
        return None
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if content.get("format") != FORMAT:
        raise ValueError(f"{path} is no state of this command; remove it, or use another run=")
    return content


def _said(budget: Budget, found: Mapping[str, float]) -> str:
    reward = f", reward {found['rollout/reward']:.2f}" if "rollout/reward" in found else ""
    return f"{budget.steps} steps{reward}"
