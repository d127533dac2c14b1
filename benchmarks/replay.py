"""Replay steps per second and core on US-101 block A: driving and judging alone, and with rasters."""

import numpy as np
from _report import parse, rate, report
from gymnasium.vector import AutoresetMode

from envs import ReplayVectorEnv
from worldmodel.data.sample import us101
from worldmodel.data.smooth import make_consistent
from worldmodel.evaluation.protocol import episodes

NUM_STEPS = 30


def main(json_path=None) -> None:
    recordings = [make_consistent(us101("A"))]
    found = episodes(recordings)
    rows = {"episodes": float(len(found))}
    for num_envs in (1, 64):
        mode = AutoresetMode.NEXT_STEP
        env = ReplayVectorEnv(recordings, found, num_envs, autoreset_mode=mode)
        slots = np.arange(num_envs)
        action = np.zeros((num_envs, 2), dtype=np.float32)

        def drive(core=env.core, slots=slots, action=action) -> None:
            core.start(slots, slots)
            for _ in range(NUM_STEPS):
                core.step(slots, action)

        def step(env=env, action=action) -> None:
            for _ in range(NUM_STEPS):
                env.step(action)

        rows[f"steps_per_s_core_without_raster_{num_envs}"] = rate(drive, count=num_envs * NUM_STEPS)
        env.reset(seed=0)
        rows[f"steps_per_s_core_{num_envs}"] = rate(step, count=num_envs * NUM_STEPS)
    report("replay", rows, json_path)


if __name__ == "__main__":
    main(parse(__doc__))
