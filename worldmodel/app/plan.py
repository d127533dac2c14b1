"""`worldmodel plan`: one decision for one vehicle at one frame, drawn, with what each cost term said."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from worldmodel.app.compose import Config, UsageError, build, with_objects
from worldmodel.app.course import Course, make_course
from worldmodel.app.precheck import check_agents
from worldmodel.app.run import Run
from worldmodel.evaluation.protocol import Episode
from worldmodel.evaluation.suite import to_obs
from worldmodel.evaluation.truth import Truth
from worldmodel.protocols import Cost, Planner, WorldModel
from worldmodel.scene import Channel, RasterSpec, draw_road, inverse, relative_pose
from worldmodel.types import CostTerms, Obs, Plan, Rollout
from worldmodel.viz import draw_ego, encode_png, grid, paint_raster

STEPS = (5, 10, 20, 30)
"""Predicted frames that are drawn."""
SCALE = 6


def main(config: Config) -> None:
    """Plans, draws `plan.png`, writes `plan.json` and prints the terms."""
    torch.set_num_threads(config.threads)
    course = make_course(config)
    if len(config.agent) != 1:
        raise UsageError(f"plan draws the decision of one agent, got {list(config.agent)}; give agent=[NAME]")
    check_agents(config, course)
    truth = Truth()
    ((name, part),) = with_objects(config, truth=truth).agent.items()
    if "model" not in part.get("planner", {}):
        raise UsageError(
            f"agent {name!r} plans without a world model; give agent= one that does, as mpc_copy"
        )
    moment = choose(config, course)
    run = Run.start(config, "plan")
    obs = observe(course, moment, truth)
    decision = decide(build(part), obs, model=build(part.planner.model), cost=build(part.planner.cost))
    run.write("plan.png", draw(decision, course.spec))
    run.write("plan.json", as_json(decision, course, moment))
    print_terms(decision)
    run.close()


@dataclass(frozen=True)
class Decision:
    """A plan, what the world model says happens under it, and what that costs."""

    obs: Obs
    plan: Plan
    rollout: Rollout
    terms: CostTerms


def choose(config: Config, course: Course) -> Episode:
    """Returns the moment asked for, as the hand-over of an episode; the first possible by default.

    Raises:
        UsageError: where there is none, saying what there is.
    """
    names = [one.name for one in course.store.recordings]
    found = [
        one
        for one in course.episodes
        if config.recording in (None, names[one.recording]) and config.vehicle in (None, one.vehicle_id)
    ]
    if not found:
        known = {(names[one.recording], one.vehicle_id) for one in course.episodes}
        example = " ".join(
            f"{key}={value}" for key, value in zip(("recording", "vehicle"), min(known), strict=True)
        )
        raise UsageError(
            f"recording={config.recording}, vehicle={config.vehicle}: no such vehicle can be driven; "
            f"there are {len(known)}, such as {example}"
        )
    if config.frame is None:
        return found[0]
    for one in found:
        if one.start == config.frame:
            return one
    starts = sorted({one.start for one in found})
    raise UsageError(
        f"frame={config.frame}: nobody asked for is there, with history before and road ahead; "
        f"choose one of {len(starts)} frames from {starts[0]} to {starts[-1]}"
    )


def observe(course: Course, moment: Episode, truth: Truth) -> Obs:
    """Returns what the agent sees at the hand-over, of which `truth` knows the rest."""
    env = course.make_env(1)
    observation, info = env.reset(options={"episode": np.array([course.episodes.index(moment)])})
    truth.watch(env, info["episode_id"])
    return to_obs(observation, info)


def decide(agent: Planner, obs: Obs, *, model: WorldModel, cost: Cost) -> Decision:
    """Returns the agent's plan, rolled out and judged once more by what it plans with."""
    agent.reset(0)
    plan = agent.plan(obs)
    hidden = model.init(obs)
    with torch.no_grad():
        latent = model.sample_latent(hidden, plan.action.shape[1], torch.Generator().manual_seed(0))
        rollout = model.unroll(hidden, plan.action, latent)
        previous = inverse(obs.state[:, -2:], model.dt)[:, 0]
        terms = cost(replace(rollout, previous_action=previous))
    return Decision(obs, plan, rollout, terms)


def draw(decision: Decision, spec: RasterSpec) -> bytes:
    """Returns what was seen with the plan, and the predicted frames with the car where it wants to be."""
    obs, rollout = decision.obs, decision.rollout
    here = torch.cat([torch.zeros(3), obs.size[0]]).numpy().astype(float)
    path = decision.plan.ego[0, :, :2].detach().numpy().astype(float)
    now = paint_raster(obs.image[0, -1].numpy(), spec, scale=SCALE)
    pictures = [draw_ego(now, here, spec, scale=SCALE, path=path)]
    known = draw_road(rollout.road, rollout.view, spec)[0].numpy()
    boxes = torch.cat(
        [
            relative_pose(rollout.ego[0, :, :3], rollout.view[0]),
            obs.size[0].expand(rollout.ego.shape[1], 2),
        ],
        dim=1,
    )
    steps = [step for step in STEPS if step <= rollout.ego.shape[1]]
    for step in steps:
        parts = {Channel.VEHICLES: rollout.image[0, step - 1, 0].numpy()}
        parts |= dict(zip((Channel.LANE, Channel.OFF_ROAD), known[step - 1], strict=True))
        raster = np.stack([parts[one] for one in spec.channels])
        box = boxes[step - 1].numpy().astype(float)
        pictures.append(draw_ego(paint_raster(raster, spec, scale=SCALE), box, spec, scale=SCALE))
    labels = ["now, and the plan", *(f"in {step / 10:.1f} s" for step in steps)]
    return encode_png(grid([[one] for one in pictures], rows=labels, size=14))


def as_json(decision: Decision, course: Course, moment: Episode) -> dict[str, object]:
    """Returns the decision in numbers."""
    return {
        "recording": course.store.recordings[moment.recording].name,
        "vehicle": moment.vehicle_id,
        "frame": moment.start,
        "action": decision.plan.action[0].detach().tolist(),
        "state": decision.plan.ego[0].detach().tolist(),
        "terms": term_means(decision.terms),
    }


def term_means(terms: CostTerms) -> Mapping[str, float]:
    """Returns the weighted terms, averaged over the horizon, and their `total`."""
    means = {name: terms.weights[name] * float(term.mean()) for name, term in terms.terms.items()}
    return {**means, "total": sum(means.values())}


def print_terms(decision: Decision) -> None:
    """Prints the first action and the terms, the largest first."""
    accel, curvature = decision.plan.action[0, 0].tolist()
    table = Table("cost term", title=f"accel {accel:+.2f} m/s^2, curvature {curvature:+.4f} 1/m")
    for column in ("weight", "mean", "weighted"):
        table.add_column(column, justify="right")
    terms, means = decision.terms, term_means(decision.terms)
    for name in sorted(terms.terms, key=lambda one: -means[one]):
        table.add_row(
            name, f"{terms.weights[name]:g}", f"{float(terms.terms[name].mean()):.4f}", f"{means[name]:.4f}"
        )
    table.add_section()
    table.add_row("total", "", "", f"{means['total']:.4f}")
    Console().print(table)
