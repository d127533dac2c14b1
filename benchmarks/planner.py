"""How long one decision takes: one scene, 30 steps ahead, replanned with a warm start as in closed loop.

`fixed_context_ms` is the planner as the demo uses it (the others predicted once per decision),
`full_gradient_ms` the same with the gradient through the world model, `share_ms` the planner's part of the
first, `batched_share_ms` that part for each of 64 scenes planned at once. Milliseconds of CPU on one thread,
median over 100 decisions (10 of the slower ones). The model's weights do not matter: they are random. PPUU
took 8,700 ms on two threads.

With `--checkpoint MODEL.pt`, instead, every planner of `configs/planner` on the same observations of US-101,
block A, and on what that model predicts: the cost that a first decision reaches, as a share of what could be
gained (`gap`: 0 is the best that any of them or a long search found, 1 is keeping speed), how much of it the
seed decides (`seed`, the standard deviation of the gap over seeds), how often the objective is evaluated for
each scene (`evaluations`), and the time of a decision for one scene, the prediction included (`ms`).
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import _report
import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor

import configs
import worldmodel
from planners import GradientPlanner, OnlinePlanner, RecedingHorizon, lbfgs, make_objective
from worldmodel.app.compose import build
from worldmodel.costs import motorway_cost
from worldmodel.data import Span
from worldmodel.data.dataset import WindowDataset, windows
from worldmodel.data.sample import us101
from worldmodel.data.smooth import make_consistent
from worldmodel.models import Context, EgoSplit, FixedContext, ForwardModel, LearntContext
from worldmodel.protocols import Objective, Planner, WorldModel
from worldmodel.scene import LaneMap, RasterSpec, RoadField, render_boxes
from worldmodel.types import Obs

FOLDER = Path(configs.__file__).parent / "planner"
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


def real_obs(model: ForwardModel, *, num_scenes: int) -> Obs:
    """Observations of the recorded training block, far from one another."""
    recording = make_consistent(us101("A"))
    index = windows([recording], [Span(recording.name, 0, recording.num_frames)], history=model.history)
    chosen = index[np.linspace(0, len(index) - 1, num_scenes).round().astype(int)]
    dataset = WindowDataset([recording], chosen, history=model.history, horizon=0, spec=model.spec)
    return dataset.collate(list(chosen)).obs(model.history)


def configured(name: str, world: WorldModel, **options: object) -> OnlinePlanner:
    """The planner of a configuration, without its memory."""
    config = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))
    inner = {key: value for key, value in config["planner"].items() if key not in ("model", "cost")}
    made: OnlinePlanner = build({**inner, "_partial_": True})(world, motorway_cost(), **options)
    return made


def counting(counts: list[int]) -> Callable[..., Objective]:
    """An objective that notes how many candidates each scene is asked about."""

    def make(*args: object, **kwargs: object) -> Objective:
        objective = make_objective(*args, **kwargs)

        def counted(actions: Tensor) -> Tensor:
            counts.append(actions.shape[1])
            return objective(actions)

        return counted

    return make


def compare(checkpoint: Path, *, num_scenes: int = 8, num_seeds: int = 3) -> dict[str, float]:
    """Every configured planner on the same observations and predictions."""
    model = worldmodel.load(checkpoint)
    obs = real_obs(model, num_scenes=num_scenes)
    predicted = LearntContext(model)(obs, 30)
    world = FixedContext(lambda obs, num_steps: predicted)
    nothing = make_objective(world, motorway_cost(), obs)(torch.zeros(num_scenes, 1, 30, 2))[:, 0]
    best = (
        OnlinePlanner(world, motorway_cost(), partial(lbfgs, num_iterations=60), num_starts=6).plan(obs).cost
    )
    costs, rows = {}, {}
    for name in sorted(path.stem for path in FOLDER.glob("*.yaml")):
        counts: list[int] = []
        planner = configured(name, world, objective_fn=counting(counts))
        found = []
        for seed in range(num_seeds):
            planner.reset(seed)
            found.append(planner.plan(obs).cost)
        costs[name] = torch.stack(found)  # (seeds, scenes)
        best = torch.minimum(best, costs[name].amin(0))
        rows[f"{name}_evaluations"] = sum(counts) / num_seeds
        single = RecedingHorizon(configured(name, FixedContext(LearntContext(model))), replan_every=1)
        rows[f"{name}_ms"] = decision_ms(single, obs[:1], num_decisions=5)
    for name, cost in costs.items():
        # Of all scenes together: where there is little to gain, shares of it say nothing.
        gap = (cost - best).sum(1) / (nothing - best).sum()
        rows |= {f"{name}_gap": gap.mean().item(), f"{name}_seed": gap.std().item()}
    return dict(sorted(rows.items()))


def main() -> None:
    parser = _report.parser(__doc__ or "")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="compare the optimisers on this model"
    )
    arguments = parser.parse_args()
    path: Path | None = arguments.json
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if arguments.checkpoint:
        _report.report("planners", compare(arguments.checkpoint), path)
        return
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
