"""How long one decision takes: one scene, 30 steps ahead, one thread, median over 100 decisions.

`fixed_context_ms` is the planner as the demo uses it (others predicted once, ten iterations from three
starts), `full_gradient_ms` the same with the gradient through the world model, `share_ms` the planner's own
part of the first. The model's weights do not matter: they are random. PPUU took 8,700 ms on two threads.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from planners import GradientPlanner, RecedingHorizon
from worldmodel.costs import motorway_cost
from worldmodel.models import Context, EgoSplit, FixedContext, ForwardModel, LearntContext
from worldmodel.scene import LaneMap, RasterSpec, RoadField
from worldmodel.types import Obs


def make_obs(history: int, spec: RasterSpec) -> Obs:
    """A scene of blots on a straight road at 10 m/s."""
    road = RoadField(LaneMap.straight(length=600.0, num_lanes=5)).crop(np.array([[200.0, 9.25, 0.0]]))
    generator = torch.Generator().manual_seed(0)
    shape = (1, history, len(spec.channels), spec.height, spec.width)
    state = torch.zeros(1, history, 4)
    state[..., 0], state[..., 3] = torch.arange(history), 10.0
    return Obs(
        image=(torch.rand(shape, generator=generator) > 0.9).to(torch.uint8) * 255,
        state=state,
        size=torch.tensor([[4.8, 1.9]]),
        road=torch.from_numpy(road),
        origin=torch.zeros(1, 3, dtype=torch.long),
        scene=torch.zeros(1, dtype=torch.long),
    )


def median_ms(fn: Callable[[], object], repeats: int) -> float:
    for _ in range(min(5, repeats)):
        fn()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        fn()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def measure(repeats: int) -> dict[str, float]:
    torch.manual_seed(0)
    model = ForwardModel().eval().requires_grad_(False)
    obs, cost = make_obs(model.history, model.spec), motorway_cost(model.spec)
    fixed = LearntContext(model)(obs, 30)
    worlds = {
        "fixed_context_ms": FixedContext(LearntContext(model)),
        "full_gradient_ms": EgoSplit(model),
        "share_ms": FixedContext(lambda obs, num_steps: Context(fixed.image[:, :num_steps])),
    }
    result = {}
    for name, world in worlds.items():
        planner = RecedingHorizon(GradientPlanner(world, cost))
        result[name] = median_ms(lambda planner=planner: planner.plan(obs), repeats)  # type: ignore[misc]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to FILE")
    parser.add_argument("--repeats", type=int, default=100, help="decisions (100)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(arguments.repeats)
    for name, value in result.items():
        print(f"{name:20s} {value:8.1f}")
    if arguments.json:
        about = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__}
        arguments.json.write_text(json.dumps({**result, **about}, indent=1) + "\n")


if __name__ == "__main__":
    main()
