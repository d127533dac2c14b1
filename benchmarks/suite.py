"""How long a policy takes for 1,000 episodes of 20 s in simulated traffic that reacts, rasters included.

The base of `worldmodel suite`: three lanes, 15 vehicles per kilometre and lane. Episodes are driven 64 at a
time, in CPU seconds of one process on one thread; and 1,024 of them by the clock, shared by two processes.

  cpu_s_1000_episodes   CPU seconds for 1,000 episodes of 200 steps
  minutes_two_cores     by the clock for 1,000 episodes, two processes of one thread, started and compiled
  steps_per_s_core      steps of an ego
  mean_steps            that an episode lasted
"""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import _report
import torch

import worldmodel
from envs import TrafficVectorEnv
from planners.policy import PolicyNetwork, PolicyPlanner
from worldmodel.app.suite_scene import protocol_of
from worldmodel.evaluation import episodes, evaluate
from worldmodel.scene.traffic import MIXED, Scenario, TrafficRoad, simulate

NUM_EPISODES, NUM_BATCHES, SECONDS = 64, 16, 20.0


def main(policy_path: str | None, json_path: Path | None = None) -> None:
    drive = driver(policy_path, seed=1_000_000)
    drive(2)  # compiles
    begin = time.process_time()
    steps = drive(NUM_EPISODES)
    each = (time.process_time() - begin) / steps
    rows = {
        "cpu_s_1000_episodes": each * 1000 * SECONDS * 10,
        "minutes_two_cores": minutes_of_two(policy_path),
        "steps_per_s_core": 1 / each,
        "mean_steps": steps / NUM_EPISODES,
    }
    _report.report("suite", rows, json_path)


def minutes_of_two(policy_path: str | None) -> float:
    """Returns the minutes that two processes take for 1,000 episodes, drawn anew for every batch."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(drive_once, [policy_path] * 2, [0, 1], [2, 2]))  # starts and compiles
        begin = time.monotonic()
        seeds = range(1_000_001, 1_000_001 + NUM_BATCHES)
        list(pool.map(drive_once, [policy_path] * NUM_BATCHES, seeds, [NUM_EPISODES] * NUM_BATCHES))
        seconds = time.monotonic() - begin
    return seconds / 60 * 1000 / (NUM_BATCHES * NUM_EPISODES)


def drive_once(policy_path: str | None, seed: int, num: int) -> int:
    """Returns the steps of `num` episodes in scenes of this seed, which are simulated first."""
    return driver(policy_path, seed=seed)(num)


def driver(policy_path: str | None, *, seed: int) -> Callable[[int], int]:
    """Returns what drives so many episodes and returns their steps."""
    torch.set_num_threads(1)
    policy = PolicyPlanner(worldmodel.load(policy_path) if policy_path else PolicyNetwork())
    road = TrafficRoad.straight(num_lanes=3, length=1200.0, speed_limit=40.0)
    scenario = Scenario("suite", road, MIXED, 15.0, 1200.0)
    recordings = simulate(scenario, num_frames=220, num_scenes=4, seed=seed)
    protocol = protocol_of(SECONDS)
    found = episodes(recordings, protocol=protocol)[:NUM_EPISODES]
    assert len(found) == NUM_EPISODES

    def make_env(num: int) -> TrafficVectorEnv:
        options = {"scenario": scenario, "protocol": protocol, "autoreset_mode": "Disabled"}
        return TrafficVectorEnv(recordings, found, num, **options)

    def drive(num: int) -> int:
        options = {"recordings": recordings, "protocol": protocol, "batch_size": NUM_EPISODES}
        rows = evaluate({"policy": policy}, make_env, found[:num], **options).rows
        return sum(row.steps for row in rows)

    return drive


if __name__ == "__main__":
    parser = _report.parser(__doc__)
    parser.add_argument("--policy", metavar="FILE", help="a checkpoint; without one, random weights")
    given = parser.parse_args()
    main(given.policy, given.json)
