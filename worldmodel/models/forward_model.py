"""The forward model: what the other road users will do, as rasters in the co-moving frame.

`s[t+1] = g(s[t], a[t], z[t])` in four parts: an encoder (frame -> feature map, each frame once), a mixer of
the history into a hidden map, a residual dynamics core driven by the ego's motion and the latent, and a
decoder. The core takes one step every `stride` frames. The decoder turns each step into a change of the
velocities of what is seen, and a residual in logit space for each of the step's frames:

    velocity[s] = velocity[s-1] + change[s]
    frame = sigmoid(logit(clamp(carry(newest, motion))) + residual)

where `carry` moves the pixels of the newest raster along (`models.view`). Both outputs are zero at birth, so
an untrained model repeats the newest raster in the frame that moves with the ego: the *copy* baseline. With a
tracker (`CarTracker`) it starts with the velocities measured of all cars instead, and everybody keeps his. A
velocity learnt at half a second carries on to three by itself, nothing is resampled twice, and a car moves as
a whole: frames stay sharp over the unroll. Only the vehicles are predicted; lanes and road edge are known
(`Obs.road`). The ego's own motion is not predicted either: see `EgoSplit`.

The posterior of the latent does not see the recorded future but what is *surprising* in it (`surprise`): for
each car in the newest raster, the future at the place where the car was expected without the latent. What it
has to say, that this one went farther than expected and that one less, is then there to be read off, at the
cells whose velocities say so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.utils.checkpoint import checkpoint

from worldmodel.models.draw import from_posterior, from_prior, given
from worldmodel.models.latent import Latent, LocalLatent, NoLatent
from worldmodel.models.memory import Drift, Memory, Seen
from worldmodel.models.view import align, carry, check_images, look_up
from worldmodel.nn import (
    FrameEncoder,
    LatentExpander,
    MapExpander,
    ResidualBlock,
    dropout_mask,
    features_of,
    stride_of,
    unshuffle,
)
from worldmodel.scene import Channel, RasterSpec, relative_pose
from worldmodel.types import Clip, Obs

EDGE = 0.01
"""Grey values stay this far from 0 and 1 before the residual is added, so that logits are finite."""
VELOCITY_SCALE = 2.0
"""Change of velocity that a decoder output of one stands for [m/s]."""

Masks = Sequence[Float[Tensor, "#B C 1 1"]]


@dataclass(frozen=True)
class TrainingUnroll:
    """Logits of the decoded future frames of a clip, and the latents' regulariser summed over the unroll."""

    logits: Float[Tensor, "B T 1 H W"]
    penalty: Float[Tensor, " B"]


class ForwardModel(nn.Module):
    """Predicts the vehicle channel in the co-moving frame.

    Args:
        encoder: frame -> feature map; offers `features`, `stride` and `config`
            (`worldmodel.nn.FrameEncoder`).
        latent: `NoLatent()` for a deterministic model, `GaussianLatent(...)` for a stochastic one.
        tracker: tells cars apart and measures their velocities, which they then start with (`CarTracker`);
            None: velocities are left to the encoder, and everybody starts with the ego's.
        interaction: applied to the hidden map after the mixer and after each step of the core, to let cars
            know of those farther away (`worldmodel.nn.LookAhead`); None: convolutions have to do.
        spec: the rasters it reads and predicts.
        history: frames `K` of an observation.
        history_stride: of the history, every so many frames are read, counted back from the newest.
        stride: frames per step of the core.
        channels: of the hidden map.
        depth: residual blocks per step of the core.
        dropout: rate of the locked dropout.
        dt: time between frames [s].

    Example:
        >>> model = ForwardModel(history=4, spec=RasterSpec(height=32, width=16))
        >>> model.num_parameters > 10_000
        True
    """

    predicts = (Channel.VEHICLES,)

    latent: Latent
    speed_mean: Tensor
    speed_std: Tensor
    deviation_std: Tensor
    variance_mean: Tensor
    variance_std: Tensor

    def __init__(
        self,
        *,
        encoder: nn.Module | None = None,
        latent: Latent | None = None,
        tracker: nn.Module | None = None,
        interaction: nn.Module | None = None,
        spec: RasterSpec | None = None,
        history: int = 10,
        history_stride: int = 3,
        stride: int = 5,
        channels: int = 32,
        depth: int = 2,
        dropout: float = 0.1,
        dt: float = 0.1,
    ) -> None:
        super().__init__()
        self.spec = spec or RasterSpec()
        self.encoder = encoder or FrameEncoder(len(self.spec.channels))
        self.latent = latent or NoLatent()
        self.tracker, self.interaction = tracker, interaction
        self.history, self.history_stride = history, history_stride
        self.stride, self.channels = stride, channels
        self.depth, self.dropout, self.dt = depth, dropout, dt
        features, self.cell = features_of(self.encoder), stride_of(self.encoder)
        self.cells = tuple(
            -(-size // step)
            for size, step in zip((self.spec.height, self.spec.width), self.cell, strict=True)
        )
        self.mixer = nn.Sequential(
            nn.Conv2d(len(self.ages) * features, channels, 1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.motion = nn.Sequential(nn.Linear(5, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.expander = _expander(self.latent, channels, self.cells)
        if self.latent.dim:
            self.surprise_encoder = _surprise_encoder(features, self.cell)
        self.core = nn.ModuleList(ResidualBlock(channels) for _ in range(depth))
        self.decoder = nn.Conv2d(channels, 2 + stride * self.cell[0] * self.cell[1], 3, padding=1)
        nn.init.zeros_(self.decoder.weight)
        nn.init.zeros_(self.decoder.bias)  # type: ignore[arg-type]
        self.register_buffer("speed_mean", torch.tensor(13.0))
        self.register_buffer("speed_std", torch.tensor(4.0))
        self.register_buffer("deviation_std", torch.tensor([2.0, 0.5, 0.02, 1.5]))
        self.register_buffer("variance_mean", torch.zeros(0))  # per step; `training.calibrate_uncertainty`
        self.register_buffer("variance_std", torch.zeros(0))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        """Takes the horizon of the uncertainty statistics from the checkpoint."""
        for name in ("variance_mean", "variance_std"):
            if prefix + name in state_dict:
                setattr(self, name, torch.zeros_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[arg-type]

    @property
    def config(self) -> dict[str, object]:
        """Everything `build` needs to make the same module again."""
        return {
            "_target_": "worldmodel.models.ForwardModel",
            "encoder": self.encoder.config,
            "latent": self.latent.config,
            **{name: part.config for name, part in self._optional.items()},
            "spec": self.spec,
            "history": self.history,
            "history_stride": self.history_stride,
            "stride": self.stride,
            "channels": self.channels,
            "depth": self.depth,
            "dropout": self.dropout,
            "dt": self.dt,
        }

    @property
    def _optional(self) -> dict[str, nn.Module]:
        parts = {"tracker": self.tracker, "interaction": self.interaction}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def ages(self) -> range:
        """How many frames ago the frames it reads were, oldest first."""
        return range(
            (self.history - 1) // self.history_stride * self.history_stride, -1, -self.history_stride
        )

    @property
    def step_time(self) -> float:
        """Time of a core step [s]."""
        return self.stride * self.dt

    @property
    def num_parameters(self) -> int:
        return sum(part.numel() for part in self.parameters())

    def sample_masks(self, like: Tensor, generator: Generator | None = None) -> Masks:
        """Returns one set of dropout masks for each row of `like`: a draw from the posterior over models."""
        return [
            dropout_mask(like.shape[0], self.channels, self.dropout, like=like, generator=generator)
            for _ in range(self.depth + 1)
        ]

    def encode(self, obs: Obs) -> Memory:
        """Reads the history: aligns the frames with the co-moving frame, encodes and mixes them."""
        check_images(obs, self.history, self.spec)
        image = obs.image.to(self.deviation_std.dtype) / 255
        newest = self.history - 1
        read = [newest - age for age in self.ages]
        ago = torch.tensor(self.ages, device=image.device, dtype=obs.state.dtype) * self.dt
        aligned = align(image[:, read], obs.state[:, read], ago, spec=self.spec)
        batch = image.shape[0]
        encoded = self.encoder(self._pad(aligned.flatten(0, 1)))
        features = self.mixer(encoded.unflatten(0, (batch, -1)).flatten(1, 2))
        vehicles = aligned[:, :, self.spec.channels.index(Channel.VEHICLES)]
        if self.tracker is None:
            seen = Seen(vehicles[:, -1:])
        else:
            seconds = [age * self.dt for age in self.ages]
            seen, measured = self.tracker(vehicles, seconds, spec=self.spec, cell=self.cell)
            features = features + measured
        if self.interaction is not None:
            features = self.interaction(features)
        return Memory(features, seen, obs.state[:, -1, 3].to(image.dtype))

    def advance(
        self,
        features: Float[Tensor, "B C H W"],
        motion: Float[Tensor, "B C"],
        latent: Float[Tensor, "B Z"],
        masks: Masks | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """Moves the hidden map by `stride` frames. `motion` comes from `embed_motion`."""
        hidden = features + motion[:, :, None, None] + self.expander(latent)
        for index, block in enumerate(self.core):
            hidden = block(hidden, None if masks is None else masks[index])
        return hidden if self.interaction is None else self.interaction(hidden)

    def embed_motion(
        self, deviation: Float[Tensor, "B 4"], speed: Float[Tensor, " B"]
    ) -> Float[Tensor, "B C"]:
        """Returns the code of the ego's state minus the co-moving frame's, and that frame's speed."""
        scaled = [deviation / self.deviation_std, ((speed - self.speed_mean) / self.speed_std).unsqueeze(-1)]
        return self.motion(torch.cat(scaled, dim=-1))

    def deviation(
        self, state: Float[Tensor, "B T 4"], origin: Float[Tensor, "B 4"]
    ) -> Float[Tensor, "B T 4"]:
        """Returns the ego's states in the planning frame of `origin` minus those of the co-moving frame.

        `state[:, t]` is `t` frames after `origin`.
        """
        local = relative_pose(state, origin.unsqueeze(1))
        elapsed = torch.arange(state.shape[1], device=state.device, dtype=state.dtype) * self.dt
        speed = origin[:, None, 3].expand(-1, state.shape[1])
        nil = torch.zeros_like(speed)
        return local - torch.stack([speed * elapsed, nil, nil, speed], dim=-1)

    def unroll_clip(
        self,
        clip: Clip,
        *,
        generator: Generator | None = None,
        use_prior: bool = False,
        latents: Float[Tensor, "B S Z"] | None = None,
        frames: Sequence[int] | None = None,
        detach_every: int | None = None,
        checkpoint_activations: bool = False,
    ) -> TrainingUnroll:
        """Unrolls over a recorded clip whose future rasters are co-moving, latents from the posterior.

        Args:
            use_prior: draw the latents from the prior instead, as at planning time.
            latents: the latents of the core steps, as `infer_latents` returns them, instead of drawing any.
            frames: of the `stride` frames of a core step, decode these only (`decoded_frames` tells where in
                the future they are): cheaper, and as good on average if they are drawn anew for each batch.
            detach_every: truncates backpropagation: no gradient passes from one group of so many core steps
                to the one before.
            checkpoint_activations: recompute each core step in the backward pass instead of storing it.
        """
        memory = self.encode(clip.obs(self.history))
        horizon = clip.image.shape[1] - self.history
        motions = self.motions(clip, memory, -(-horizon // self.stride))
        masks = self.sample_masks(memory.features, generator) if self.training else None
        if latents is not None:
            draw = given(latents)
        elif use_prior or not self.latent.dim:
            draw = from_prior(self.latent, generator)
        else:
            draw = from_posterior(self, clip, memory, motions, masks=masks, generator=generator)
        hidden, penalty, steps = memory.features, memory.features.new_zeros(len(memory.features)), []
        for index in range(motions.shape[1]):
            if detach_every and index and index % detach_every == 0:
                hidden = hidden.detach()
            sample = draw(index, hidden)
            penalty = penalty + sample.penalty
            step = (hidden, motions[:, index], sample.z, masks)
            hidden = (
                checkpoint(self.advance, *step, use_reentrant=False)
                if checkpoint_activations
                else self.advance(*step)
            )
            steps.append(hidden)
        parts, drift = [], None
        for group in torch.stack(steps, dim=1).split(detach_every or len(steps), dim=1):
            logits, after = self.decode(group, memory.seen, masks, before=drift, frames=frames)
            parts.append(logits)
            drift = after.detach()
        logits = torch.cat(parts, dim=1)[:, : len(self.decoded_frames(horizon, frames))]
        return TrainingUnroll(logits, penalty)

    def decoded_frames(self, horizon: int, frames: Sequence[int] | None = None) -> list[int]:
        """Returns which of the `horizon` future frames `unroll_clip` decodes when given `frames`."""
        chosen = range(self.stride) if frames is None else frames
        decoded = [start + one for start in range(0, horizon, self.stride) for one in chosen]
        return [one for one in decoded if one < horizon]

    @torch.no_grad()
    def infer_latents(self, clip: Clip, generator: Generator | None = None) -> Float[Tensor, "B S Z"]:
        """Returns a draw from the posterior for each core step of a recorded clip."""
        memory = self.encode(clip.obs(self.history))
        num_steps = -(-(clip.image.shape[1] - self.history) // self.stride)
        if not self.latent.dim:
            return memory.features.new_zeros(len(memory.features), num_steps, 0)
        motions = self.motions(clip, memory, num_steps)
        draw = from_posterior(self, clip, memory, motions, generator=generator)
        hidden, found = memory.features, []
        for index in range(num_steps):
            found.append(draw(index, hidden).z)
            hidden = self.advance(hidden, motions[:, index], found[-1])
        return torch.stack(found, dim=1)

    def motions(self, clip: Clip, memory: Memory, num_steps: int) -> Float[Tensor, "B S C"]:
        """Returns the codes of the recorded ego motion at the start of each core step."""
        states = clip.state[:, self.history - 1 :].to(self.deviation_std.dtype)
        deviation = self.deviation(states, states[:, 0])[:, : num_steps * self.stride : self.stride]
        speed = memory.speed[:, None].expand(-1, num_steps)
        return self.embed_motion(deviation.flatten(0, 1), speed.flatten()).unflatten(0, (-1, num_steps))

    def decode(
        self,
        steps: Float[Tensor, "B S C H W"],
        seen: Seen,
        masks: Masks | None = None,
        *,
        before: Drift | None = None,
        frames: Sequence[int] | None = None,
    ) -> tuple[Float[Tensor, "B T 1 H0 W0"], Drift]:
        """Returns the logits of the frames of consecutive core steps, and the drift when they are over.

        Args:
            steps: hidden maps.
            seen: `Memory.seen`.
            before: the drift when the first of them begins; none for the first step of an unroll.
            frames: of the `stride` frames of a step, decode these only.
        """
        batch, num_steps = steps.shape[:2]
        if masks is not None:
            steps = steps * masks[-1].unsqueeze(1)
        chosen = list(range(self.stride) if frames is None else frames)
        change, residual = self._decoded(F.silu(steps).flatten(0, 1), chosen)
        velocity = (VELOCITY_SCALE * change.unflatten(0, (batch, num_steps))).cumsum(1)
        travelled = (velocity.cumsum(1) * self.step_time)[:, -1]
        if before is not None:
            velocity = velocity + before.velocity.unsqueeze(1)
            travelled = travelled + before.travelled + before.velocity * (num_steps * self.step_time)
        seconds = (torch.tensor(chosen, device=velocity.device, dtype=velocity.dtype) + 1) * self.dt
        start, fast = self._motion(velocity, seen, before)
        moved = carry(seen.image, start, fast, seconds=seconds, spec=self.spec)
        residual = unshuffle(residual, self.cell)[..., : self.spec.height, : self.spec.width]
        logits = torch.logit(moved.clamp(EDGE, 1 - EDGE)) + residual.unflatten(0, (batch, num_steps))
        since = num_steps * self.step_time + (0.0 if before is None else before.seconds)
        return logits.flatten(1, 2).unsqueeze(2), Drift(velocity[:, -1], travelled, since)

    def _motion(
        self, velocity: Float[Tensor, "B S 2 H W"], seen: Seen, before: Drift | None
    ) -> tuple[Float[Tensor, "B S 2 H0 W0"], Float[Tensor, "B S 2 H0 W0"]]:
        """Returns displacement at the start of, and velocity during each step, pixel by pixel."""
        cells = velocity if before is None else torch.cat([before.travelled.unsqueeze(1), velocity], dim=1)
        pixels = self._per_pixel(cells.flatten(1, 2), seen).unflatten(1, (-1, 2))
        fast = pixels[:, -velocity.shape[1] :]
        start = (fast.cumsum(1) - fast) * self.step_time
        since = torch.arange(velocity.shape[1], device=fast.device, dtype=fast.dtype) * self.step_time
        if before is not None:
            start, since = start + pixels[:, :1], since + before.seconds
        return seen.coast(start, since.view(-1, 1, 1, 1)), seen.coast(fast, 1.0)

    def _per_pixel(self, cells: Float[Tensor, "B P H W"], seen: Seen) -> Float[Tensor, "B P H0 W0"]:
        """Motions of cells -> of pixels, those of a car alike."""
        dense = F.interpolate(cells, scale_factor=self.cell, mode="bilinear")
        return seen.whole(dense[..., : self.spec.height, : self.spec.width], self.spec)

    def drift(
        self,
        hidden: Float[Tensor, "B C H W"],
        before: Drift,
        masks: Masks | None = None,
        *,
        num_frames: int | None = None,
    ) -> Drift:
        """Returns the drift after a core step that led to `hidden`: what `decode` moves the cars by.

        Or that after the first `num_frames` of the step's frames.
        """
        change, _ = self._decoded(F.silu(hidden if masks is None else hidden * masks[-1]), [])
        velocity = before.velocity + VELOCITY_SCALE * change
        time = (num_frames or self.stride) * self.dt
        return Drift(velocity, before.travelled + velocity * time, before.seconds + time)

    def _decoded(
        self, active: Float[Tensor, "B C H W"], frames: Sequence[int]
    ) -> tuple[Float[Tensor, "B 2 H W"], Float[Tensor, "B P H W"]]:
        """Returns the decoder's change of velocity, and what it adds to these of a step's frames.

        Nothing is spent on the others: in training, three of five frames.
        """
        size = self.cell[0] * self.cell[1]
        rows = [0, 1, *(2 + size * frame + pixel for frame in frames for pixel in range(size))]
        bias = self.decoder.bias
        assert bias is not None
        if len(rows) == len(bias):
            out = self.decoder(active)
        else:
            out = F.conv2d(active, self.decoder.weight[rows], bias[rows], padding=1)
        return out.split([2, len(rows) - 2], dim=1)  # type: ignore[return-value]

    def surprise(
        self, future: Float[Tensor, "B 1 H0 W0"], seen: Seen, expected: Drift
    ) -> Float[Tensor, "B F H W"]:
        """Returns features of a future raster by how it differs from what was expected, car by car.

        Args:
            future: vehicle raster at the end of a core step, or at the clip's end within it.
            seen: the newest one observed.
            expected: the drift by then.
        """
        travelled = seen.coast(self._per_pixel(expected.travelled, seen), expected.seconds)
        found = look_up(future, travelled, self.spec)
        return self.surprise_encoder(self._pad(torch.cat([seen.image, found, found - seen.image], dim=1)))

    def _pad(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H2 W2"]:
        down = self.cells[0] * self.cell[0] - self.spec.height
        right = self.cells[1] * self.cell[1] - self.spec.width
        return F.pad(image, (0, right, 0, down))


def _expander(latent: Latent, channels: int, cells: tuple[int, ...]) -> nn.Module:
    """The latent's way into the hidden map."""
    if isinstance(latent, LocalLatent):
        return MapExpander(latent.latent.dim, channels, cells, latent.grid)
    return LatentExpander(latent.dim, channels, cells)


def _surprise_encoder(features: int, cell: tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, features, 5, padding=2),
        nn.SiLU(),
        nn.Conv2d(features, features, cell, stride=cell),
    )
