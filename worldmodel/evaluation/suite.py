"""Agents x episodes -> one row each: drives agents through an environment, batched and resumable.

Environment and agents come in as objects: any `gymnasium.vector.VectorEnv` without automatic resets whose
`reset` takes `options={"episode", "reset_mask"}` and whose info names outcome and metrics as `envs.replay`
does.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from worldmodel.evaluation.episode import EpisodeResult, Outcome
from worldmodel.evaluation.metric import Side
from worldmodel.evaluation.protocol import V1, Episode, Protocol, pieces
from worldmodel.evaluation.table import Part, part_key, read_part, write_part, write_tables
from worldmodel.evaluation.truth import Truth
from worldmodel.protocols import Planner
from worldmodel.scene import Recording
from worldmodel.types import Obs

Progress = Callable[[str, int, int], None]
"""Agent, episodes done, episodes in all."""


@dataclass(frozen=True)
class Results:
    """Everything that was driven, agent by agent, each in the order of the episodes.

    Attributes:
        rows: one for each agent and episode.
        steps: trajectories, column -> values (`worldmodel.evaluation.table`).
    """

    rows: tuple[EpisodeResult, ...]
    steps: Mapping[str, Sequence[Any]]

    def of(self, agent: str) -> list[EpisodeResult]:
        """Returns an agent's rows."""
        return [row for row in self.rows if row.agent == agent]


def to_obs(
    observation: Mapping[str, np.ndarray], info: Mapping[str, Any], *, scene: np.ndarray | None = None
) -> Obs:
    """Returns the observation of a batched environment as planners want it.

    Args:
        scene: number of the running episode of each row; by default `info["episode_id"]`, which is right as
            long as no episode runs twice at a time.
    """
    number = np.asarray(info["episode_id"] if scene is None else scene, dtype=np.int64)
    parts = {
        name: torch.from_numpy(np.asarray(observation[name])) for name in ("image", "state", "size", "road")
    }
    origin = torch.from_numpy(np.array(info["origin"], dtype=np.int64))
    return Obs(**parts, origin=origin, scene=torch.from_numpy(number.copy()))


def evaluate(
    agents: Mapping[str, Planner],
    make_env: Callable[[int], VectorEnv],
    episodes: Sequence[Episode],
    *,
    recordings: Sequence[Recording],
    protocol: Protocol = V1,
    folder: Path | None = None,
    keys: Mapping[str, str] | None = None,
    env_key: str = "",
    seed: int = 0,
    batch_size: int = 64,
    keep_plans: Sequence[int] = (),
    progress: Progress | None = None,
    truth: Truth | None = None,
) -> Results:
    """Returns how each agent drove each episode, and writes the files of `worldmodel.evaluation.table`.

    Episodes are driven `batch_size` at a time. Each batch starts with a fresh, seeded agent, so it does not
    matter what ran before: a batch whose part file is in `folder` with the same key is read instead of
    driven.

    Args:
        agents: name -> planner.
        make_env: number of slots -> environment over `episodes`, autoreset disabled.
        recordings: the ones the episodes index.
        folder: for part files and tables; None keeps everything in memory.
        keys: name -> hash of the agent's configuration and weights; a changed hash drives anew.
        env_key: hash of the environment's; a changed one drives all agents anew.
        seed: of the agents.
        batch_size: episodes at a time.
        keep_plans: numbers of episodes whose plans are kept with their trajectories.
        progress: called after each batch.
        truth: what privileged agents were built with; it watches the environment.
    """
    env = make_env(min(batch_size, len(episodes)))
    driver = _Driver(
        env, tuple(episodes), tuple(recordings), protocol, frozenset(keep_plans), truth or Truth()
    )
    parts = []
    for name, agent in agents.items():
        for first in range(0, len(episodes), env.num_envs):
            chosen = np.arange(first, min(first + env.num_envs, len(episodes)))
            key = part_key(
                protocol=protocol,
                agent=[name, (keys or {}).get(name, "")],
                episodes=[(recordings[episodes[i].recording].name, episodes[i]) for i in chosen.tolist()],
                settings=[seed, first, sorted(keep_plans), env_key],
            )
            path = None if folder is None else folder / "parts" / f"{name}-{first:05d}.parquet"
            part = read_part(path, key)
            if part is None:
                part = driver.drive(name, agent, numbers=chosen, seed=seed + first)
                write_part(path, key, part)
            parts.append(part)
            if progress is not None:
                progress(name, int(chosen[-1]) + 1, len(episodes))
    env.close()
    results = Results(
        tuple(row for part in parts for row in part.rows),
        {name: [value for part in parts for value in part.steps[name]] for name in parts[0].steps},
    )
    if folder is not None:
        write_tables(folder, results.rows, results.steps)
    return results


def measure_latency(agent: Planner, obs: Obs, *, num_decisions: int = 100, warm_up: int = 3) -> float:
    """Returns the median time of one decision for one scene [ms].

    Args:
        obs: any batch; its rows are used one at a time, in turn. While each is another scene, as in
            `worldmodel evaluate`, a decision is a full one from scratch: no plan is followed, and there is no
            warm start. When driving, most steps cost less (`plan_ms`).
    """
    agent.reset(seed=0)
    times = []
    for number in range(warm_up + num_decisions):
        row = number % obs.batch_size
        begin = time.perf_counter()
        agent.plan(obs[row : row + 1])
        times.append(time.perf_counter() - begin)
    agent.reset(seed=0)
    return 1e3 * float(np.median(times[warm_up:]))


@dataclass(frozen=True)
class _Driver:
    """What all batches of a run share."""

    env: VectorEnv
    episodes: tuple[Episode, ...]
    recordings: tuple[Recording, ...]
    protocol: Protocol
    keep_plans: frozenset[int]
    truth: Truth

    def drive(self, name: str, agent: Planner, *, numbers: np.ndarray, seed: int) -> Part:
        """Drives the episodes `numbers`, one a slot; nobody plans for slots that are done."""
        num_slots = self.env.num_envs
        slots = np.resize(numbers, num_slots)  # a last, smaller batch fills the slots that nobody looks at
        running = np.arange(num_slots) < len(numbers)
        plan_s, steps = np.zeros(num_slots), _Steps(name, self.keep_plans)
        rows: dict[int, EpisodeResult] = {}
        agent.reset(seed)
        self.truth.watch(self.env, np.where(running, slots, -1))
        observation, info = self.env.reset(options={"episode": slots})
        steps.add(running, slots, observation, action=None, plan=None)
        while running.any():
            begin = time.perf_counter()
            plan = agent.plan(to_obs(observation, info, scene=slots)[torch.from_numpy(running)])
            plan_s[running] += (time.perf_counter() - begin) / running.sum()
            action = np.zeros((num_slots, 2), dtype=np.float32)
            action[running] = plan.action[:, 0].detach().numpy()
            before = observation["state"][:, -1]
            observation, _, terminated, truncated, info = self.env.step(action)
            planned = _world_plans(plan.ego.detach().numpy(), before[running])
            steps.add(running, slots, observation, action=info["action"], plan=planned)
            over = terminated | truncated
            for slot in np.flatnonzero(over & running).tolist():
                rows[slot] = self._row(
                    name, int(slots[slot]), info=info, slot=slot, plan_s=plan_s[slot], seed=seed
                )
            running &= ~over
            if over.any() and running.any():
                fresh, fresh_info = self.env.reset(options={"reset_mask": over, "episode": slots})
                observation = fresh
                info = {key: np.where(_like(over, info[key]), fresh_info[key], info[key]) for key in KEYS}
        return Part(tuple(rows[slot] for slot in range(len(numbers))), steps.columns)

    def _row(
        self, agent: str, number: int, *, info: Mapping[str, Any], slot: int, plan_s: float, seed: int
    ) -> EpisodeResult:
        episode = self.episodes[number]
        recording = self.recordings[episode.recording]
        outcome, count = Outcome(info["outcome"][slot]), int(info["steps"][slot])
        return EpisodeResult(
            agent=agent,
            protocol=self.protocol.name,
            recording=recording.name,
            vehicle_id=episode.vehicle_id,
            scene=f"{recording.name}/{pieces(recording)[episode.start]}",
            first_frame=episode.start,
            seed=seed,
            steps=count,
            outcome=outcome.name.lower(),
            safe=outcome.is_safe,
            success=outcome is Outcome.FINISHED,
            distance=float(info["distance"][slot]),
            human_distance=episode.human_distance,
            min_ttc=float(info["min_ttc"][slot]),
            mean_jerk=float(info["mean_jerk"][slot]),
            collision_side=Side(info["side"][slot]).name.lower(),
            hit_id=int(info["hit_id"][slot]),
            off_road=bool(info["off_road"][slot]),
            reverse=bool(info["reverse"][slot]),
            plan_ms=1e3 * plan_s / count,
        )


KEYS = ("origin", "episode_id")
"""What `to_obs` reads of an info."""


class _Steps:
    """Grows the trajectory table: one line for each running episode and frame, the hand-over first."""

    def __init__(self, agent: str, keep_plans: frozenset[int]) -> None:
        self._agent, self._keep_plans, self._count = agent, keep_plans, 0
        names = ("agent", "episode", "step", "x", "y", "heading", "speed", "accel", "curvature", "plan")
        self.columns: dict[str, list[Any]] = {name: [] for name in names}

    def add(
        self,
        running: np.ndarray,
        numbers: np.ndarray,
        observation: Mapping[str, np.ndarray],
        *,
        action: np.ndarray | None,
        plan: np.ndarray | None,
    ) -> None:
        """Appends the egos, the action that led there and the plan it was the first of."""
        for index, slot in enumerate(np.flatnonzero(running).tolist()):
            executed = (0.0, 0.0) if action is None else action[slot].tolist()
            is_kept = plan is not None and int(numbers[slot]) in self._keep_plans
            values = (
                self._agent,
                int(numbers[slot]),
                self._count,
                *observation["state"][slot, -1].tolist(),
                *executed,
                plan[index].ravel().tolist() if is_kept and plan is not None else [],
            )
            for column, value in zip(self.columns.values(), values, strict=True):
                column.append(value)
        self._count += 1


def _world_plans(ego: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Planned positions `(B, T, 2)` in the world, given the states planned from."""
    cos, sin = np.cos(state[:, 2:3]), np.sin(state[:, 2:3])
    x = state[:, :1] + cos * ego[..., 0] - sin * ego[..., 1]
    y = state[:, 1:2] + sin * ego[..., 0] + cos * ego[..., 1]
    return np.stack([x, y], axis=-1)


def _like(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    return mask.reshape(-1, *[1] * (values.ndim - 1))
