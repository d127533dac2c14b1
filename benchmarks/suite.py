"""How long a policy takes for 1,000 episodes of 20 s in simulated traffic that reacts, rasters included.

The base of `worldmodel suite`: three lanes, 15 vehicles per kilometre and lane. Episodes are driven 64 at a
time in one process on one thread, and timed in CPU seconds; two processes on two cores share the episodes.

  cpu_s_1000_episodes   CPU seconds for 1,000 episodes of 200 steps
  minutes_two_cores     of two processes, on two idle cores
  steps_per_s_core      steps of an ego
  mean_steps            that an episode lasted
"""

import time
from pathlib import Path

import _report

import worldmodel
from envs import TrafficVectorEnv
from planners.policy import PolicyNetwork, PolicyPlanner
from worldmodel.app.suite_scene import protocol_of
from worldmodel.evaluation import episodes, evaluate
from worldmodel.scene.traffic import MIXED, Scenario, TrafficRoad, simulate

NUM_EPISODES, SECONDS = 64, 20.0


def main(policy: PolicyPlanner, json_path: Path | None = None) -> None:
    road = TrafficRoad.straight(num_lanes=3, length=1200.0, speed_limit=40.0)
    scenario = Scenario("suite", road, MIXED, 15.0, 1200.0)
    recordings = simulate(scenario, num_frames=220, num_scenes=4, seed=1_000_000)
    protocol = protocol_of(SECONDS)
    found = episodes(recordings, protocol=protocol)[:NUM_EPISODES]

    def make_env(num: int) -> TrafficVectorEnv:
        options = {"scenario": scenario, "protocol": protocol, "autoreset_mode": "Disabled"}
        return TrafficVectorEnv(recordings, found, num, **options)

    def drive(num: int) -> int:
        options = {"recordings": recordings, "protocol": protocol, "batch_size": NUM_EPISODES}
        rows = evaluate({"policy": policy}, make_env, found[:num], **options).rows
        return sum(row.steps for row in rows)

    drive(2)  # compiles
    begin = time.process_time()
    steps = drive(NUM_EPISODES)
    each = (time.process_time() - begin) / steps
    rows = {
        "cpu_s_1000_episodes": each * 1000 * SECONDS * 10,
        "minutes_two_cores": each * 1000 * SECONDS * 10 / 60 / 2,
        "steps_per_s_core": 1 / each,
        "mean_steps": steps / len(found),
    }
    _report.report("suite", rows, json_path)


if __name__ == "__main__":
    parser = _report.parser(__doc__)
    parser.add_argument("--policy", metavar="FILE", help="a checkpoint; without one, random weights")
    given = parser.parse_args()
    network = worldmodel.load(given.policy) if given.policy else PolicyNetwork()
    main(PolicyPlanner(network), given.json)
