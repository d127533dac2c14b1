"""Fixed context: the others are predicted once per decision, and the ego moves through them.

About seven times cheaper than `EgoSplit`: the planner's gradient runs through the ego's pose only, and
nobody reacts to the ego. Where the prediction comes from is a part of its own: the learnt model, a copy of
the newest raster, a world that stands still, or the recorded future (what a perfect model would give).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from worldmodel.models.ego_split import starting_state
from worldmodel.models.forward_model import ForwardModel, Masks, Memory
from worldmodel.models.view import move_view
from worldmodel.protocols import Knowledge
from worldmodel.scene import SPEED, Channel, RasterSpec, Recording, comoving_views, kinematics
from worldmodel.scene.raster import Renderer
from worldmodel.types import Clip, Indexed, Obs, Prediction, Rollout


@dataclass(frozen=True)
class Context(Indexed):
    """Predicted vehicle rasters in the co-moving frame, and their epistemic variance if estimated."""

    image: Float[Tensor, "B T 1 H W"]
    variance: Float[Tensor, "B T 1 H W"] | None = None


ContextSource = Callable[[Obs, int], Context]
"""Observation, number of steps -> the others' future."""


@dataclass(frozen=True)
class FixedContextHidden(Indexed):
    """The context, where it is seen from (the co-moving views), and the ego in it."""

    context: Context
    start: Float[Tensor, "B 4"]
    ego: Float[Tensor, "B 4"]
    size: Float[Tensor, "B 2"]
    road: Float[Tensor, "B R HR WR"]
    view: Float[Tensor, "B T 3"]
    tick: int = 0


class FixedContext:
    """A `WorldModel` whose rasters do not depend on the actions.

    Args:
        source: predicts the others.
        horizon: steps predicted per decision; no longer rollout is possible.
        dt: [s]
    """

    def __init__(self, source: ContextSource, *, horizon: int = 30, dt: float = 0.1) -> None:
        self.source, self.horizon, self.dt = source, horizon, dt

    def init(self, obs: Obs) -> FixedContextHidden:
        """Predicts the others over the whole horizon, once and without gradient."""
        with torch.no_grad():
            context = self.source(obs, self.horizon)
        start = starting_state(obs, context.image)
        view = comoving_views(start, self.horizon, self.dt)
        return FixedContextHidden(context, start, start, obs.size.to(start), obs.road.to(start), view)

    def sample_latent(
        self, hidden: FixedContextHidden, num_steps: int, generator: Generator | None = None
    ) -> Float[Tensor, "B T 0"]:
        """The latents were spent on the context."""
        return hidden.start.new_zeros(hidden.start.shape[0], num_steps, 0)

    def step(
        self, hidden: FixedContextHidden, action: Float[Tensor, "B 2"], latent: Float[Tensor, "B 0"]
    ) -> tuple[FixedContextHidden, Prediction]:
        """Moves the ego; the image is the context's."""
        ego = kinematics.step(hidden.ego, action, self.dt)
        variance = hidden.context.variance
        prediction = Prediction(
            image=hidden.context.image[:, hidden.tick],
            ego=ego,
            view=hidden.view[:, hidden.tick],
            variance=None if variance is None else variance[:, hidden.tick],
        )
        return replace(hidden, ego=ego, tick=hidden.tick + 1), prediction

    def unroll(
        self, hidden: FixedContextHidden, action: Float[Tensor, "B T 2"], latent: Float[Tensor, "B T 0"]
    ) -> Rollout:
        """Equals `step` repeated from a fresh `hidden`."""
        steps = action.shape[1]
        if steps > self.horizon:
            raise ValueError(
                f"{steps} actions exceed the context's horizon of {self.horizon}; raise `horizon`"
            )
        variance = hidden.context.variance
        return Rollout(
            image=hidden.context.image[:, :steps],
            ego=kinematics.rollout(hidden.start, action, self.dt),
            view=hidden.view[:, :steps],
            action=action,
            previous_action=torch.zeros_like(action[:, 0]),
            size=hidden.size,
            road=hidden.road,
            variance=None if variance is None else variance[:, :steps],
        )


class LearntContext:
    """The forward model's prediction, averaged over latents and, for the variance, over locked dropout masks.

    Args:
        model: the forward model; put into eval mode.
        num_latents: futures drawn from the prior and averaged (1 draw for a deterministic model).
        num_masks: members of the dropout ensemble; 0 leaves the variance out.
        seed: of latents and masks, begun anew with every call. All scenes meet the same masks; the latents
            of a scene are those of its row in the call, so that the same scene meets others in another row.

    Raises:
        ValueError: `model` is of another kind.
    """

    def __init__(
        self, model: ForwardModel, *, num_latents: int = 1, num_masks: int = 0, seed: int = 0
    ) -> None:
        self.model = check_forward_model(model, "LearntContext").eval()
        self.num_latents = num_latents if model.latent.dim else 1  # type: ignore[arg-type]
        self.num_masks, self.seed = num_masks, seed

    def __call__(self, obs: Obs, num_steps: int) -> Context:
        """Returns the mean prediction; the variance is that of the ensemble's means.

        A member's masks are the same for every scene: a member is one function. All members meet the same
        latents, so the variance tells what the model does not know from what nobody can
        (`split_crossed_variance`).
        """
        generator = Generator(next(self.model.parameters()).device).manual_seed(self.seed)
        memory, num_members = self.model.encode(obs), max(self.num_masks, 1)
        future = torch.arange(obs.batch_size, device=memory.speed.device).repeat_interleave(self.num_latents)
        rows = memory[future.repeat(num_members)]
        masks = self._masks(memory, len(future), generator)
        frames = unroll_prior(
            self.model, rows, num_steps, generator=generator, masks=masks, num_members=num_members
        )
        means = frames.unflatten(0, (num_members, -1, self.num_latents)).mean(2)
        return Context(*mean_and_variance(means.unbind())) if self.num_masks > 1 else Context(means[0])

    def _masks(self, memory: Memory, num_futures: int, generator: Generator) -> Masks | None:
        """Every row's masks, its member's; drawn member by member, so that further ones change no others."""
        if not self.num_masks:
            return None
        drawn = [self.model.sample_masks(memory.features[:1], generator) for _ in range(self.num_masks)]
        layers = (torch.cat(layer) for layer in zip(*drawn, strict=True))
        return [layer.repeat_interleave(num_futures, 0) for layer in layers]


class CopyContext:
    """Every other car keeps its offset from the co-moving frame: the newest raster, repeated."""

    def __init__(self, spec: RasterSpec | None = None) -> None:
        self.spec = spec or RasterSpec()

    def __call__(self, obs: Obs, num_steps: int) -> Context:
        """Returns the newest vehicle raster `num_steps` times."""
        return Context(newest_vehicles(obs, self.spec).unsqueeze(1).expand(-1, num_steps, -1, -1, -1))


class StaticContext:
    """The world stands still: the newest raster slides backwards as the co-moving frame advances."""

    def __init__(self, spec: RasterSpec | None = None, *, dt: float = 0.1) -> None:
        self.spec, self.dt = spec or RasterSpec(), dt

    def __call__(self, obs: Obs, num_steps: int) -> Context:
        """Returns the newest vehicle raster seen from the co-moving frame at each step."""
        newest = newest_vehicles(obs, self.spec)
        views = comoving_views(starting_state(obs, newest), num_steps, self.dt)
        frames = move_view(newest.repeat_interleave(num_steps, 0), views.flatten(0, 1), self.spec)
        return Context(frames.unflatten(0, (-1, num_steps)))


class TrueContext:
    """The recorded future, looked up by `Obs.origin`: what a perfect world model would predict."""

    needs = frozenset({Knowledge.FUTURE})

    def __init__(
        self, recordings: Sequence[Recording], *, spec: RasterSpec | None = None, dt: float = 0.1
    ) -> None:
        self.spec, self.dt = spec or RasterSpec(), dt
        self.num_frames = [one.num_frames for one in recordings]
        vehicles_only = replace(self.spec, channels=(Channel.VEHICLES,))
        self.renderers = [Renderer(one, vehicles_only) for one in recordings]

    def __call__(self, obs: Obs, num_steps: int) -> Context:
        """Returns the recorded rasters; past the recording's end its last frame stays."""
        views = comoving_views(obs.state[:, -1].double(), num_steps, self.dt)
        origin = obs.origin.cpu().numpy()
        frames = origin[:, 2:] + np.arange(1, num_steps + 1)
        image = np.empty((*frames.shape, 1, self.spec.height, self.spec.width), dtype=np.uint8)
        for index, renderer in enumerate(self.renderers):
            rows = np.flatnonzero(origin[:, 0] == index)
            if len(rows):
                drawn = renderer.render(
                    views[rows].flatten(0, 1).cpu().numpy(),
                    np.minimum(frames[rows].ravel(), self.num_frames[index] - 1),
                    np.repeat(origin[rows, 1], num_steps),
                )
                image[rows] = drawn.reshape(len(rows), *image.shape[1:])
        return Context(torch.from_numpy(image).to(obs.state.device).float() / 255)


class TrueLatentContext:
    """The forward model's prediction with latents from the posterior: it is told what cannot be foreseen.

    What is still wrong is not for want of luck but for want of a better model; what `LearntContext` gets
    wrong beyond that is what the past leaves open, or what its prior makes of it.

    Args:
        model: the forward model; put into eval mode. Without a latent it is that of `LearntContext`.
        future: what the posterior is shown: `TrueContext`.
        num_latents: futures drawn from the posterior and averaged.
        seed: of the latents, the same for every decision.
    """

    def __init__(
        self, model: ForwardModel, future: ContextSource, *, num_latents: int = 1, seed: int = 0
    ) -> None:
        self.model, self.future = check_forward_model(model, "TrueLatentContext").eval(), future
        self.num_latents, self.seed = num_latents if model.latent.dim else 1, seed

    def __call__(self, obs: Obs, num_steps: int) -> Context:
        """Returns the mean prediction if the ego keeps speed and heading."""
        generator = Generator(obs.state.device).manual_seed(self.seed)
        clip = self._clip(obs, self.future(obs, num_steps).image)
        rows = torch.arange(obs.batch_size, device=obs.state.device).repeat_interleave(self.num_latents)
        drawn = self.model.infer_latents(clip[rows], generator)
        frames = self.model.unroll_clip(clip[rows], latents=drawn).logits.sigmoid()
        return Context(frames.unflatten(0, (-1, self.num_latents)).mean(1))

    def _clip(self, obs: Obs, future: Float[Tensor, "B T 1 H W"]) -> Clip:
        """The observation and this future of the others, as a window in which the ego keeps going."""
        B, T = future.shape[:2]
        now = obs.state[:, -1:]
        view = comoving_views(obs.state[:, -1], T, self.model.dt)
        state = torch.cat([obs.state, torch.cat([view, now[..., SPEED:].expand(-1, T, -1)], dim=-1)], dim=1)
        spec, num_frames = self.model.spec, state.shape[1]
        image = obs.image.new_zeros(B, num_frames, *obs.image.shape[2:])
        image[:, :-T] = obs.image
        image[:, -T:, spec.channels.index(Channel.VEHICLES)] = (255 * future[:, :, 0]).to(torch.uint8)
        return Clip(
            image=image,
            state=state,
            action=kinematics.inverse(state, self.model.dt),
            view=torch.cat([obs.state[..., :SPEED], view], dim=1),
            covered=torch.ones(B, num_frames, spec.height, dtype=torch.bool, device=image.device),
            size=obs.size,
            road=obs.road,
            origin=obs.origin,
        )


def check_forward_model(model: ForwardModel, who: str) -> ForwardModel:
    """Returns the model if it is a forward model; raises ValueError if it is of another kind."""
    if not isinstance(model, ForwardModel):
        raise ValueError(
            f"{who} needs a ForwardModel, got a {type(model).__name__}, which predicts "
            "step by step from the actions; train one with `worldmodel train`"
        )
    return model


def unroll_prior(
    model: ForwardModel,
    memory: Memory,
    num_steps: int,
    *,
    generator: Generator | None = None,
    masks: Masks | None = None,
    num_members: int = 1,
) -> Float[Tensor, "B T 1 H W"]:
    """Returns the co-moving future if the ego keeps speed and heading, latents from the prior.

    Args:
        num_members: rows are the futures of the first member, then those of the second, and so on; members
            share a future's random numbers.
    """
    hidden, steps = memory.features, []
    motion = model.embed_motion(hidden.new_zeros(hidden.shape[0], 4), memory.speed)
    for _ in range(-(-num_steps // model.stride)):
        hidden = model.advance(hidden, motion, _shared_prior(model, hidden, generator, num_members), masks)
        steps.append(hidden)
    logits, _ = model.decode(torch.stack(steps, dim=1), memory.seen, masks)
    return logits[:, :num_steps].sigmoid()


def _shared_prior(
    model: ForwardModel, hidden: Tensor, generator: Generator | None, num_members: int
) -> Float[Tensor, "B Z"]:
    """Latents of every row, each member's drawn with the same random numbers."""
    if num_members == 1:
        return model.latent.prior(hidden, generator)
    seed = int(torch.randint(2**62, (), generator=generator, device=hidden.device))
    parts = (
        model.latent.prior(part, Generator(hidden.device).manual_seed(seed))
        for part in hidden.chunk(num_members)
    )
    return torch.cat(list(parts))


def mean_and_variance(members: Sequence[Float[Tensor, "B T 1 H W"]]) -> tuple[Tensor, Tensor]:
    """Returns the mean of two or more members, and their unbiased variance.

    A member at a time: `Tensor.var` over a short leading dimension takes fifteen times as long on a CPU.
    Members that are all the same have that mean and no variance, exactly.
    """
    first, *others = members
    mean = first + sum((one - first for one in others), torch.zeros_like(first)) / len(members)
    squares = ((one - mean).square() for one in members)
    return mean, sum(squares, torch.zeros_like(first)) / (len(members) - 1)


def newest_vehicles(obs: Obs, spec: RasterSpec) -> Float[Tensor, "B 1 H W"]:
    """Returns the newest vehicle raster in [0, 1]."""
    channel = spec.channels.index(Channel.VEHICLES)
    return obs.image[:, -1, channel : channel + 1].float() / 255
