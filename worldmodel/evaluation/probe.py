"""What a trained model does with recorded windows: its errors, what they depend on, and what it says of them.

A `Probe` asks every model in the same way: predict these windows, drawn from where you expect them, under
these actions and latents. `measure` asks for all that `worldmodel check` judges. Scores are kept per window,
so that intervals can be bootstrapped over vehicles.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from worldmodel.costs import VarianceParts, split_crossed_variance, split_variance
from worldmodel.data.dataset import FutureViews, comoving_future, ego_future
from worldmodel.evaluation.prediction import squared_error
from worldmodel.evaluation.reliability import (
    Bins,
    catching_threshold,
    error_of_mean,
    occupancy_bins,
    spread_bins,
)
from worldmodel.models import CopyContext, CoupledModel, CoupledWorld, ForwardModel
from worldmodel.models.diagnosis import EnergyGap, LatentUse, energy_gap, latent_use
from worldmodel.models.energy import ClipEnergy, Inference, compare_inference, prior_latents
from worldmodel.models.forward_model import EDGE
from worldmodel.models.latent import takes_any_value
from worldmodel.models.view import move_view
from worldmodel.scene import Channel, comoving_views, kinematics, relative_pose
from worldmodel.types import Clip

LANE_WIDTH = 3.7
"""How far the lateral manoeuvres go [m]."""
NUM_LEVELS = 200
NUM_DESCENDED = 8
"""Windows in which z is looked for by gradient: an iteration costs as much as three predictions."""
MAX_CURVATURE = 0.05
"""[1/m]"""


@runtime_checkable
class Probe(Protocol):
    """A model, and how to ask it about recorded windows."""

    model: Any
    views: FutureViews

    def redirect(self, clip: Clip, action: Float[Tensor, "B T 2"]) -> Clip:
        """Returns the windows with other actions of the ego, to be predicted; targets stay."""
        ...

    def prior(
        self, clip: Clip, *, num_samples: int, generator: Generator | None = None
    ) -> Float[Tensor, "N B S Z"]:
        """Draws latents for the model's steps."""
        ...


@dataclass(frozen=True)
class SplitProbe:
    """Asks a `ForwardModel`: the future is co-moving, and the ego's actions are how it strays from that."""

    model: ForwardModel
    views: FutureViews = comoving_future

    def redirect(self, clip: Clip, action: Float[Tensor, "B T 2"]) -> Clip:
        """Moves the ego; the rasters stay where they were drawn."""
        past = clip.state[:, : self.model.history]
        future = kinematics.rollout(past[:, -1], action, self.model.dt)
        return replace(clip, state=torch.cat([past, future], dim=1))

    def prior(
        self, clip: Clip, *, num_samples: int, generator: Generator | None = None
    ) -> Float[Tensor, "N B S Z"]:
        """Draws step by step, each knowing those before it."""
        return prior_latents(self.model, clip, num_samples=num_samples, generator=generator)


@dataclass(frozen=True)
class CoupledProbe:
    """Asks a `CoupledModel`: the future is drawn from the recorded ego's poses."""

    model: CoupledModel
    views: FutureViews = ego_future

    def redirect(self, clip: Clip, action: Float[Tensor, "B T 2"]) -> Clip:
        """Changes the actions only; where they lead is for the model to say."""
        return replace(clip, action=torch.cat([clip.action[:, : self.model.history - 1], action], dim=1))

    @torch.no_grad()
    def prior(
        self, clip: Clip, *, num_samples: int, generator: Generator | None = None
    ) -> Float[Tensor, "N B S Z"]:
        """Draws given the observed history."""
        world = CoupledWorld(self.model)
        hidden, steps = world.init(clip.obs(self.model.history)), clip.image.shape[1] - self.model.history
        return torch.stack([world.sample_latent(hidden, steps, generator) for _ in range(num_samples)])


def probe_of(model: Any) -> Probe:
    """Returns the probe for a loaded model, in eval mode.

    Raises:
        ValueError: for something that is no world model, such as a policy.
    """
    for kind, probe in ((ForwardModel, SplitProbe), (CoupledModel, CoupledProbe)):
        if isinstance(model, kind):
            return probe(model.eval())  # type: ignore[arg-type, return-value]
    raise ValueError(f"{type(model).__name__} is no world model; give the checkpoint of one")


@dataclass(frozen=True)
class WindowFindings:
    """What was found in each of `W` windows of `T` steps, on the CPU.

    Attributes:
        error: mean squared errors of the vehicle channel: `model` (mean over latents), `limit` (what that of
            ever more latents would be), `copy`, `shuffled` (`model` under another window's actions),
            `posterior`, `prior`, `zero` (single latents).
        response: `{manoeuvre: mean squared change of the prediction against keeping speed}`.
        latent: what z does; None for a model without.
        variance: spread over latents and over members.
        occupancy: reliability of the mean prediction.
        levels: the same in fine bins.
        spread: both variances together against the squared error, as of ever more latents.
        catching: threshold of each window that 90 % of its occupied area exceeds.
        cluster: vehicle of each window.
    """

    error: Mapping[str, Float[np.ndarray, "W T"]]
    response: Mapping[str, Float[np.ndarray, "W T"]]
    latent: LatentUse | None
    variance: VarianceParts
    occupancy: Bins
    levels: Bins
    spread: Bins
    catching: Float[np.ndarray, "W T"]
    cluster: Int[np.ndarray, " W"]


@dataclass(frozen=True)
class Findings(WindowFindings):
    """The same, and what is asked in the first few windows only; None for a model without a latent.

    Attributes:
        gap: energies on and off the data.
        inference: of z, in every way.
    """

    gap: EnergyGap | None = None
    inference: Inference | None = None


def measure(
    probe: Probe,
    clips: Iterable[Clip],
    *,
    num_samples: int = 4,
    num_draws: int = 16,
    num_members: int = 4,
    ensemble: Sequence[Probe] = (),
    gap_steps: int = 20,
    num_candidates: int = 8,
    seed: int = 0,
) -> Findings:
    """Returns what the model does with the windows.

    Args:
        clips: batches of two or more windows, drawn at `probe.views`; neighbours in a batch exchange actions
            and futures, so they should not be of one vehicle.
        num_samples: latents drawn for each window, whose spread is asked for; one if the model has none.
        num_draws: latents over which a prediction is averaged, which are grey values in steps of
            `1 / num_draws` where single ones are sure; one if the model has none.
        num_members: draws of dropout masks.
        ensemble: models trained apart, that are the members instead.
        gap_steps: of gradient descent in z before energies are compared, in the first batch, up to
            `NUM_DESCENDED` windows of it; latents that cannot take any value are asked without.
        num_candidates: draws from the prior among which z is searched for, in the same windows.
        seed: of latents and masks.

    Raises:
        ValueError: if there are no windows.
    """
    num_samples, num_draws = (num_samples, num_draws) if probe.model.latent.dim else (1, 1)
    batches = [clip for clip in clips if len(clip.size) > 1]
    if not batches:
        raise ValueError("no windows to look at: the split is empty or shorter than history + horizon")
    generator = Generator(batches[0].state.device).manual_seed(seed)
    parts = [
        _measure_batch(
            probe,
            clip,
            num_samples=num_samples,
            num_draws=num_draws,
            num_members=num_members,
            ensemble=ensemble,
            seed=seed,
            generator=generator,
        )
        for clip in batches
    ]
    found, first = vars(_merge(parts)), batches[0][:NUM_DESCENDED]
    if not probe.model.latent.dim:
        return Findings(**found)
    steps = gap_steps if takes_any_value(probe.model.latent) else 0
    candidates = probe.prior(first, num_samples=num_candidates, generator=generator)
    energy = ClipEnergy(probe.model, first, generator=generator)
    return Findings(
        **found,
        gap=energy_gap(probe.model, first, candidates[0], num_steps=steps, generator=generator),
        inference=compare_inference(energy, candidates, num_steps=steps),
    )


@torch.no_grad()
def predict(
    probe: Probe, clip: Clip, latents: Float[Tensor, "B S Z"], *, masks: Generator | None = None
) -> Float[Tensor, "B T 1 H W"]:
    """Returns the predicted vehicle channel in [0, 1].

    Args:
        masks: draws locked dropout masks, one set for each window; left out, nothing is dropped.
    """
    if masks is None:
        logits: Tensor = probe.model.unroll_clip(clip, latents=latents).logits
    else:
        with _training(probe.model):  # which is when a model draws masks
            logits = probe.model.unroll_clip(clip, latents=latents, generator=masks).logits
    return logits[:, :, :1].sigmoid()


def doubt(
    probe: Probe,
    clip: Clip,
    latents: Float[Tensor, "N B S Z"],
    *,
    num_members: int,
    ensemble: Sequence[Probe] = (),
    seed: int = 0,
) -> VarianceParts:
    """Returns the variance of every pixel `(B, T, 1, H, W)` over latents and over members.

    Members are draws of dropout masks, the same for every latent and under the same latents, or the models of
    an ensemble. A latent does not mean the same to two models, so each of those draws as many from its own
    prior, with a seed of its own: the first has `seed`.
    """

    def seeded(number: int) -> Generator:
        return Generator(clip.state.device).manual_seed(number)

    if ensemble:
        drawn = []
        for index, one in enumerate(ensemble):
            own = one.prior(clip, num_samples=len(latents), generator=seeded(seed + index))
            drawn.append(torch.stack([predict(one, clip, z) for z in own]))
        return split_variance(torch.stack(drawn))
    members = [
        torch.stack([predict(probe, clip, z, masks=seeded(seed + i)) for z in latents])
        for i in range(num_members)
    ]
    return split_crossed_variance(torch.stack(members))


def copied(probe: Probe, clip: Clip) -> Float[Tensor, "B T 1 H W"]:
    """Returns what copying predicts, seen from where the windows are drawn.

    Grey values stay as far from 0 and 1 as a model's do, which alone lowers an error a little.
    """
    model, history = probe.model, probe.model.history
    frames = CopyContext(model.spec)(clip.obs(history), clip.image.shape[1] - history).image
    now = clip.state[:, history - 1]
    views = comoving_views(now, frames.shape[1], model.dt)
    pose = relative_pose(clip.view[:, history:], views).to(frames.dtype)
    if float(pose.abs().max()) > 1e-4:
        looked = move_view(frames.flatten(0, 1), pose.flatten(0, 1), model.spec)
        frames = looked.unflatten(0, frames.shape[:2])
    return frames.clamp(EDGE, 1 - EDGE)


def manoeuvres(speed: Float[Tensor, " B"], num_steps: int, dt: float) -> dict[str, Float[Tensor, "B T 2"]]:
    """Returns what the ego could do: keep its speed, brake, accelerate, move a lane to the left or right.

    Raises:
        ValueError: for fewer than two steps, in which no lane can be changed.
    """
    if num_steps < 2:
        raise ValueError(f"{num_steps} step to change a lane in, two are needed; lengthen the horizon")
    nil = torch.zeros(len(speed), num_steps, 2, dtype=speed.dtype, device=speed.device)
    found = {"keep": nil, "brake": nil.clone(), "accelerate": nil.clone()}
    found["brake"][..., 0] = -torch.clamp(speed / (num_steps * dt), max=4.0)[:, None]
    found["accelerate"][..., 0] = 2.0
    half = num_steps // 2
    # Turning one way for half the time T and back for the other moves aside by v^2 curvature (T/2)^2.
    bend = LANE_WIDTH / (half * dt) ** 2 / speed.square().clamp_min(1e-3)
    turn = torch.cat([torch.ones(half), -torch.ones(num_steps - half)]).to(speed)
    for name, sign in (("left", 1.0), ("right", -1.0)):
        found[name] = nil.clone()
        found[name][..., 1] = sign * bend.clamp(max=MAX_CURVATURE)[:, None] * turn
    return found


def target_of(probe: Probe, clip: Clip) -> tuple[Float[Tensor, "B T 1 H W"], Bool[Tensor, "B T 1 H 1"]]:
    """Returns the recorded vehicle channel in [0, 1], and which rows were being recorded."""
    channel, history = probe.model.spec.channels.index(Channel.VEHICLES), probe.model.history
    image = clip.image[:, history:, channel : channel + 1].float() / 255
    return image, clip.covered[:, history:, None, :, None]


def _measure_batch(
    probe: Probe,
    clip: Clip,
    *,
    num_samples: int,
    num_draws: int,
    num_members: int,
    ensemble: Sequence[Probe],
    seed: int,
    generator: Generator,
) -> WindowFindings:
    model, history = probe.model, probe.model.history
    target, covered = target_of(probe, clip)
    num_used = max(num_samples, 2)
    prior = probe.prior(clip, num_samples=max(num_used, num_draws), generator=generator)
    zero = torch.zeros_like(prior[0])
    drawn = torch.stack([predict(probe, clip, one) for one in prior[:num_draws]])
    mean, limit = drawn.mean(0), error_of_mean(drawn, target)
    variance = doubt(probe, clip, prior[:num_samples], num_members=num_members, ensemble=ensemble, seed=seed)
    total = variance.aleatoric + variance.epistemic
    action = clip.action[:, history - 1 :]
    images = {
        "model": mean,
        "copy": copied(probe, clip),
        "shuffled": predict_mean(probe, probe.redirect(clip, action.roll(1, 0)), prior[:num_draws]),
        "prior": drawn[0],
        "zero": predict(probe, clip, zero),
        "posterior": predict(probe, clip, model.infer_latents(clip, generator)),
    }
    ways = manoeuvres(clip.state[:, history - 1, 3], target.shape[1], model.dt)
    moved = {name: predict(probe, probe.redirect(clip, way), zero) for name, way in ways.items()}
    kept = moved.pop("keep")
    errors = {name: squared_error(one, target, covered) for name, one in images.items()}
    errors["limit"] = _covered_mean(limit, covered)
    latent = latent_use(model, clip, prior[:num_used], generator=generator) if model.latent.dim else None
    return WindowFindings(
        error={name: _as_numpy(one) for name, one in errors.items()},
        response={name: _as_numpy(squared_error(one, kept, covered)) for name, one in moved.items()},
        latent=latent.to("cpu") if latent else None,
        variance=VarianceParts(
            _covered_mean(variance.aleatoric, covered), _covered_mean(variance.epistemic, covered)
        ).to("cpu"),
        occupancy=occupancy_bins(mean, target, covered).to("cpu"),
        levels=occupancy_bins(mean, target, covered, num_bins=NUM_LEVELS).to("cpu"),
        spread=spread_bins(total, limit, covered).to("cpu"),
        catching=_as_numpy(catching_threshold(mean, target, covered)),
        cluster=(clip.origin[:, 0] * 1_000_000 + clip.origin[:, 1]).cpu().numpy(),
    )


def predict_mean(probe: Probe, clip: Clip, latents: Float[Tensor, "N B S Z"]) -> Float[Tensor, "B T 1 H W"]:
    """Returns the mean prediction over several latents."""
    return torch.stack([predict(probe, clip, one) for one in latents]).mean(0)


def _as_numpy(value: Tensor) -> np.ndarray:
    return value.cpu().double().numpy()


def _covered_mean(
    value: Float[Tensor, "B T 1 H W"], covered: Bool[Tensor, "B T 1 H 1"]
) -> Float[Tensor, "B T"]:
    weight = covered.to(value.dtype).expand_as(value)
    return (value * weight).sum((-3, -2, -1)) / weight.sum((-3, -2, -1)).clamp_min(1.0)


@contextmanager
def _training(model: Any) -> Iterator[None]:
    was = model.training
    model.train()
    try:
        yield
    finally:
        model.train(was)


def _merge(parts: Sequence[WindowFindings]) -> WindowFindings:
    def joined(get: Any) -> Any:
        """A dataclass of per-window tensors, joined; None where there is none."""
        found = [get(part) for part in parts]
        if found[0] is None:
            return None
        names = vars(found[0])
        return type(found[0])(**{name: torch.cat([getattr(one, name) for one in found]) for name in names})

    def tables(name: str) -> dict[str, np.ndarray]:
        found = [getattr(part, name) for part in parts]
        return {key: np.concatenate([one[key] for one in found]) for key in found[0]}

    return WindowFindings(
        error=tables("error"),
        response=tables("response"),
        latent=joined(lambda part: part.latent),
        variance=joined(lambda part: part.variance),
        **{
            name: reduce(add, [getattr(part, name) for part in parts])
            for name in ("occupancy", "levels", "spread")
        },
        catching=np.concatenate([part.catching for part in parts]),
        cluster=np.concatenate([part.cluster for part in parts]),
    )
