"""How long one decision takes: one scene, 30 steps ahead, replanned with a warm start as in closed loop.

`fixed_context_ms` is the planner as the demo uses it (the others predicted once per decision),
`full_gradient_ms` the same with the gradient through the world model, `share_ms` the planner's part of the
first, `batched_share_ms` that part for each of 64 scenes planned at once. Milliseconds of CPU on one thread,
median over 100 decisions (10 of the slower ones). The model's weights do not matter: they are random. PPUU
took 8,700 ms on two threads.
"""

import statistics
import time

import _report
import numpy as np
import torch

from planners import GradientPlanner, RecedingHorizon
from worldmodel.costs import motorway_cost
from worldmodel.models import Context, EgoSplit, FixedContext, ForwardModel, LearntContext
from worldmodel.protocols import Planner, WorldModel
from worldmodel.scene import LaneMap, RasterSpec, RoadField, render_boxes
from worldmodel.types import Obs

NUM_SCENES = 64
CARS = ((16.0, 0.0), (-14.0, 0.0), (5.0, 3.7), (-3.0, -3.7), (30.0, 3.7), (28.0, -3.7))
"""Around the ego [m]."""


def make_obs(history: int, spec: RasterSpec, *, num_scenes: int = 1) -> Obs:
    """A car ahead, behind and on either side, all at the ego's 10 m/s, on a straight road."""
    road = RoadField(LaneMap.straight(length=600.0, num_lanes=5)).crop(np.array([[200.0, 9.25, 0.0]]))
    boxes = torch.tensor([[[x, y, 0.0, 4.8, 1.9] for x, y in CARS]])
    image = torch.zeros(num_scenes, history, len(spec.channels), spec.height, spec.width)
    image[:, :, 1] = render_boxes(boxes, torch.ones(1, len(CARS), dtype=torch.bool), spec)
    state = torch.zeros(num_scenes, history, 4)
    state[..., 0], state[..., 3] = torch.arange(history), 10.0
    return Obs(
        image=(image * 255).round().to(torch.uint8),
        state=state,
        size=torch.tensor([[4.8, 1.9]]).repeat(num_scenes, 1),
        road=torch.from_numpy(road).repeat(num_scenes, 1, 1, 1),
        origin=torch.zeros(num_scenes, 3, dtype=torch.long),
        scene=torch.arange(num_scenes),
    )


def receding(world: WorldModel) -> RecedingHorizon:
    return RecedingHorizon(GradientPlanner(world, motorway_cost()))


def decision_ms(planner: Planner, obs: Obs, *, num_decisions: int) -> float:
    """CPU time of a decision, median over decisions that start from the one before."""
    times = []
    for _ in range(num_decisions + 3):
        start = time.process_time()
        planner.plan(obs)
        times.append((time.process_time() - start) * 1e3)
    return statistics.median(times[3:])


def main() -> None:
    path = _report.parse(__doc__ or "")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = ForwardModel().eval().requires_grad_(False)
    obs = make_obs(model.history, model.spec)
    predicted = LearntContext(model)(obs, 30).image

    def known(obs: Obs, num_steps: int) -> Context:
        return Context(predicted[:, :num_steps].expand(obs.batch_size, -1, -1, -1, -1))

    many = make_obs(model.history, model.spec, num_scenes=NUM_SCENES)
    rows = {
        "fixed_context_ms": decision_ms(receding(FixedContext(LearntContext(model))), obs, num_decisions=100),
        "full_gradient_ms": decision_ms(receding(EgoSplit(model)), obs, num_decisions=10),
        "share_ms": decision_ms(receding(FixedContext(known)), obs, num_decisions=100),
        "batched_share_ms": decision_ms(receding(FixedContext(known)), many, num_decisions=10) / NUM_SCENES,
    }
    _report.report("planner", rows, path)


if __name__ == "__main__":
    main()
