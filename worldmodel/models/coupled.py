"""The coupled model: one network predicts what the ego sees *and* how the ego moves (PPUU).

The network of Henaff, Canziani & LeCun (ICLR 2019), sizes as arguments. Codes of the stacked history, the
ego's motion, the action and the latent are added to one hidden map, a bottleneck updates it, and two heads
decode the next frame, `dt` later, drawn at the ego's next pose:

    h = enc(images) + enc(motions) + expand(z) + enc(action);      h <- h + core(h)
    image' = sigmoid(logit(clamp(image)) + dec(h));                motion' = motion + scale * dec(h)

`image` is the newest frame and `motion` the ego's newest displacement, turn and speed; predictions are fed
back. What differs from the original: the residuals are true ones and zero at birth, so an untrained model
repeats the newest frame and keeps the ego's motion (PPUU adds the image to the *logit*, which maps black to
grey); dropout masks are arguments, locked over a trajectory; tuples are aligned, `action[t]` moves frame `t`
to `t + 1`; the latent is any `Latent` and sees an MLP's summary of the hidden and of the target map.

`CoupledWorld` is its `WorldModel`. The split model (`ForwardModel`) does not learn what is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.utils.checkpoint import checkpoint

from worldmodel.models.coupled_layer import Bottleneck, MotionHead, encoder, fit, mlp
from worldmodel.models.latent import Latent, NoLatent
from worldmodel.models.view import check_images
from worldmodel.nn import Masks, Stack, dropout_mask
from worldmodel.scene import Channel, RasterSpec, relative_pose
from worldmodel.types import Clip, Obs

EDGE = 0.01
"""Grey values stay this far from 0 and 1 before the residual is added, so that logits are finite."""
SUMMARY = (4, 2)
"""Size of the map that latents see."""


@dataclass(frozen=True)
class History:
    """The frames the network looks back on, newest last.

    Attributes:
        image: each `(B, C, H, W)`, in [0, 1], channels as the model predicts them.
        motion: each `(B, 4)`: displacement ahead and aside [m] and turn [rad] since the frame before, speed
            [m/s].
    """

    image: tuple[Tensor, ...]
    motion: tuple[Tensor, ...]

    def then(self, image: Float[Tensor, "B C H W"], motion: Float[Tensor, "B 4"]) -> "History":
        """Returns the history one frame later."""
        return History((*self.image[1:], image), (*self.motion[1:], motion))

    def detach(self) -> "History":
        """Returns the same without gradient."""
        return History(*(tuple(one.detach() for one in part) for part in (self.image, self.motion)))


@dataclass(frozen=True)
class CoupledUnroll:
    """Logits of the `T` future frames of a clip, the ego's motion, and the latents' regulariser (summed)."""

    logits: Float[Tensor, "B T C H W"]
    motion: Float[Tensor, "B T 4"]
    penalty: Float[Tensor, " B"]


class CoupledModel(nn.Module):
    """Predicts every raster channel at the ego's pose, and the ego's motion, frame by frame.

    Args:
        latent: `NoLatent()` for a deterministic model, `GaussianLatent(channels, channels)` for PPUU's.
        spec: the rasters it reads and predicts.
        history: frames `K` of an observation.
        lags: those of them that it reads, counted back from the newest (0); all of them when left out.
        features: channels of the three levels of the image encoder; the last are those of the hidden map.
        width: of the hidden layers of every MLP.
        channels: of the summaries that the latent sees.
        dropout: rate of the locked dropout.
        dt: time between frames [s].

    Example:
        >>> CoupledModel().num_parameters, CoupledModel(history=10, features=(16, 32, 64)).history
        (11784839, 10)
    """

    latent: Latent
    motion_mean: Tensor
    motion_std: Tensor
    action_mean: Tensor
    action_std: Tensor

    def __init__(
        self,
        *,
        latent: Latent | None = None,
        spec: RasterSpec | None = None,
        history: int = 20,
        lags: Sequence[int] | None = None,
        features: Sequence[int] = (64, 128, 256),
        width: int = 256,
        channels: int = 16,
        dropout: float = 0.1,
        dt: float = 0.1,
    ) -> None:
        super().__init__()
        self.latent, self.spec = latent or NoLatent(), spec or RasterSpec()
        self.history, self.lags = history, tuple(range(history) if lags is None else lags)
        self.features, self.width = tuple(features), width
        self.channels, self.dropout, self.dt = channels, dropout, dt
        self.predicts = (
            Channel.VEHICLES,
            *(one for one in self.spec.channels if one != Channel.VEHICLES),
        )
        self.cells = _cells(self.spec)
        num, hidden = len(self.predicts), self.features[-1]
        size = hidden * self.cells[0] * self.cells[1]
        self.image_encoder = encoder(len(self.lags) * num, self.features)
        self.motion_encoder = mlp(len(self.lags) * 4, width, size)
        self.action_encoder = mlp(2, width, size)
        self.core = Bottleneck(hidden, width, self.cells)
        self.image_decoder = Stack(
            nn.ConvTranspose2d(hidden, self.features[1], 4, stride=2, padding=1),
            nn.ConvTranspose2d(self.features[1], self.features[0], 5, stride=2, padding=(0, 1)),
            nn.ConvTranspose2d(self.features[0], num, 2, stride=2, padding=(0, 1)),
        )
        self.motion_decoder = MotionHead(hidden, width, self.cells)
        if self.latent.dim:
            _check_features(self.latent, channels)
            self.expander = nn.Linear(self.latent.dim, size)
            self.target_encoder = encoder(num, self.features)
            self.summary = mlp(size, width, channels * SUMMARY[0] * SUMMARY[1])
        for head in (self.image_decoder.layers[-1], self.motion_decoder.layers.layers[-1]):
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]
        self.register_buffer("motion_mean", torch.tensor([1.3, 0.0, 0.0, 13.0]))
        self.register_buffer("motion_std", torch.tensor([0.4, 0.01, 0.003, 4.0]))
        self.register_buffer("action_mean", torch.zeros(2))
        self.register_buffer("action_std", torch.tensor([0.7, 0.003]))

    @property
    def config(self) -> dict[str, object]:
        """Everything `build` needs to make the same module again."""
        return {
            "_target_": "worldmodel.models.CoupledModel",
            "latent": self.latent.config,
            "spec": self.spec,
            "history": self.history,
            "lags": self.lags,
            "features": self.features,
            "width": self.width,
            "channels": self.channels,
            "dropout": self.dropout,
            "dt": self.dt,
        }

    @property
    def num_parameters(self) -> int:
        return sum(part.numel() for part in self.parameters())

    @property
    def motion_scale(self) -> Float[Tensor, "4"]:
        """What one unit of the motion head's output changes: a usual acceleration's, a usual turn."""
        change = self.action_std[0] * self.dt
        return torch.stack([change * self.dt, self.motion_std[1], self.motion_std[2], change])

    @property
    def motion_unit(self) -> Float[Tensor, "4"]:
        """What counts as an error of one: what a usual acceleration changes in a second, a usual turn."""
        change = self.action_std[0]
        return torch.stack([change * self.dt, self.motion_std[1], self.motion_std[2], change])

    def sample_masks(self, like: Tensor, generator: Generator | None = None) -> Masks:
        """Returns one set of dropout masks for each row of `like`: a draw from the posterior over models."""
        return [
            dropout_mask(like.shape[0], channels, self.dropout, like=like, generator=generator)
            for stack in self._stacks
            for channels in stack.sites
        ]

    def observe(self, obs: Obs) -> History:
        """Returns the observation as the network reads it."""
        check_images(obs, self.history, self.spec)
        image = obs.image.to(self.motion_std.dtype) / 255
        motion = motions(obs.state, self.dt).to(image.dtype)
        return History(self._reorder(image).unbind(1), motion.unbind(1))

    def encode(self, history: History, masks: Masks | None = None) -> Float[Tensor, "B C H W"]:
        """Returns the code of the history: the hidden map before action and latent."""
        image = torch.cat([history.image[-1 - lag] for lag in self.lags], dim=1)
        motion = torch.stack([history.motion[-1 - lag] for lag in self.lags], dim=1)
        scaled = ((motion - self.motion_mean) / self.motion_std).flatten(1)
        code = self.image_encoder(image, self._of(self.image_encoder, masks))
        return code + self._map(self.motion_encoder(scaled, self._of(self.motion_encoder, masks)))

    def encode_actions(
        self, action: Float[Tensor, "B T 2"], masks: Masks | None = None
    ) -> Float[Tensor, "B T C H W"]:
        """Returns the codes of actions, all in one call."""
        scaled = (action - self.action_mean) / self.action_std
        own, horizon = self._of(self.action_encoder, masks), action.shape[1]
        repeated = None if own is None else [_per_row(mask, horizon) for mask in own]
        return self._map(self.action_encoder(scaled.flatten(0, 1), repeated)).unflatten(0, (-1, horizon))

    def advance(
        self,
        history: History,
        hidden: Float[Tensor, "B C H W"],
        drive: Float[Tensor, "B C H W"],
        latent: Float[Tensor, "B Z"],
        masks: Masks | None = None,
    ) -> tuple[Float[Tensor, "B C2 H2 W2"], Float[Tensor, "B 4"]]:
        """Returns the logits of the next frame and the ego's next motion.

        Args:
            hidden: code of `history`, from `encode`.
            drive: code of the action, from `encode_actions`.
        """
        hidden = hidden + drive
        if self.latent.dim:
            hidden = hidden + self._map(self.expander(latent))
        hidden = hidden + self.core(hidden, self._of(self.core, masks))
        residual = fit(
            self.image_decoder(hidden, self._of(self.image_decoder, masks)), history.image[-1].shape[-2:]
        )
        logits = torch.logit(history.image[-1].clamp(EDGE, 1 - EDGE)) + residual
        change = self.motion_decoder(hidden, self._of(self.motion_decoder, masks))
        return logits, history.motion[-1] + self.motion_scale * change

    def summarise(self, hidden: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        """Returns what latents see of a hidden map, or of an encoded target."""
        return self.summary(hidden.flatten(1)).unflatten(1, (self.channels, *SUMMARY))

    def sample_prior(
        self, hidden: Float[Tensor, "B C H W"], generator: Generator | None = None
    ) -> Float[Tensor, "B Z"]:
        """Returns a draw from the latent's prior given the code of a history."""
        seen = self.summarise(hidden) if self.latent.dim else hidden
        return self.latent.prior(seen, generator)

    def unroll_clip(
        self,
        clip: Clip,
        *,
        generator: Generator | None = None,
        use_prior: bool = False,
        latents: Float[Tensor, "B T Z"] | None = None,
        detach_every: int | None = None,
        checkpoint_activations: bool = False,
    ) -> CoupledUnroll:
        """Unrolls over a recorded clip drawn from the ego's poses, latents from the posterior.

        Args:
            use_prior: draw the latents from the prior instead, as at planning time.
            latents: the latents of the steps, as `infer_latents` returns them, instead of drawing any.
            detach_every: truncates backpropagation: no gradient passes from one group of so many steps to
                the one before.
            checkpoint_activations: recompute each step in the backward pass instead of storing it.

        Raises:
            ValueError: the clip's future was drawn from elsewhere.
        """
        history, targets = self.observe(clip.obs(self.history)), None
        masks = self.sample_masks(history.motion[-1], generator) if self.training else None
        drive = self.encode_actions(self.future_actions(clip), masks)
        if latents is None and not use_prior and self.latent.dim:
            targets = self.encode_targets(clip)
        penalty, logits, moves = history.motion[-1].new_zeros(len(clip.state)), [], []
        for tick in range(drive.shape[1]):
            if detach_every and tick and tick % detach_every == 0:
                history = history.detach()
            hidden = _recomputed(checkpoint_activations, self.encode, history, masks)
            if targets is not None:
                sample = self.latent.posterior(self.summarise(hidden), targets[:, tick], generator)
                z, penalty = sample.z, penalty + sample.penalty
            else:
                z = self.sample_prior(hidden, generator) if latents is None else latents[:, tick]
            step = (history, hidden, drive[:, tick], z, masks)
            frame, motion = _recomputed(checkpoint_activations, self.advance, *step)
            history = history.then(frame.sigmoid(), motion)
            logits.append(frame)
            moves.append(motion)
        return CoupledUnroll(torch.stack(logits, 1), torch.stack(moves, 1), penalty)

    @torch.no_grad()
    def infer_latents(self, clip: Clip, generator: Generator | None = None) -> Float[Tensor, "B T Z"]:
        """Returns a draw from the posterior for each step of a recorded clip."""
        history = self.observe(clip.obs(self.history))
        drive = self.encode_actions(self.future_actions(clip))
        if not self.latent.dim:
            return drive.new_zeros(*drive.shape[:2], 0)
        targets, found = self.encode_targets(clip), []
        for tick in range(drive.shape[1]):
            hidden = self.encode(history)
            z = self.latent.posterior(self.summarise(hidden), targets[:, tick], generator).z
            frame, motion = self.advance(history, hidden, drive[:, tick], z)
            history = history.then(frame.sigmoid(), motion)
            found.append(z)
        return torch.stack(found, dim=1)

    def future_actions(self, clip: Clip) -> Float[Tensor, "B T 2"]:
        """Returns the actions that lead to each future frame of the clip, from the frame before it.

        Raises:
            ValueError: the clip's future was not drawn from the ego's poses.
        """
        if not torch.allclose(clip.view[:, self.history :], clip.state[:, self.history :, :3]):
            raise ValueError(
                "the clip's future is drawn from elsewhere than the ego's poses, which a coupled model "
                "predicts; load it with future_views=worldmodel.data.dataset.ego_future"
            )
        return clip.action[:, self.history - 1 :].to(self.motion_std.dtype)

    def future_frames(self, clip: Clip) -> Float[Tensor, "B T C H W"]:
        """Returns the recorded future in [0, 1], channels as predicted."""
        return self._reorder(clip.image[:, self.history :].to(self.motion_std.dtype) / 255)

    def future_motion(self, clip: Clip) -> Float[Tensor, "B T 4"]:
        """Returns the recorded motion of the ego in the clip's future."""
        return motions(clip.state[:, self.history - 1 :], self.dt)[:, 1:].to(self.motion_std.dtype)

    def encode_targets(self, clip: Clip) -> Float[Tensor, "B T C H W"]:
        """Returns the summaries of the recorded future frames, all in one call."""
        frames = self.future_frames(clip)
        return self.summarise(self.target_encoder(frames.flatten(0, 1))).unflatten(0, frames.shape[:2])

    @property
    def _stacks(self) -> tuple[Stack | Bottleneck | MotionHead, ...]:
        return (
            self.image_encoder,
            self.motion_encoder,
            self.action_encoder,
            self.core,
            self.image_decoder,
            self.motion_decoder,
        )

    def _of(self, stack: nn.Module, masks: Masks | None) -> Masks | None:
        """Returns the masks of one stack."""
        if masks is None:
            return None
        first = 0
        for one in self._stacks:
            if one is stack:
                return masks[first : first + len(one.sites)]
            first += len(one.sites)
        raise ValueError(f"{stack} is not a part of this model")

    def _map(self, code: Float[Tensor, "B N"]) -> Float[Tensor, "B C H W"]:
        return code.unflatten(1, (self.features[-1], *self.cells))

    def _reorder(self, image: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T C H W"]:
        """Puts the channels of the raster into the order in which they are predicted."""
        return image[:, :, [self.spec.channels.index(channel) for channel in self.predicts]]


def motions(state: Float[Tensor, "B T 4"], dt: float) -> Float[Tensor, "B T 4"]:
    """Returns displacement ahead and aside, turn and speed of each frame since the one before.

    Before the first frame the ego is taken to have gone straight at its speed.
    """
    speed = state[:, :1, 3]
    nil = torch.zeros_like(speed)
    first = torch.stack([speed * dt, nil, nil, speed], dim=-1)
    return torch.cat([first, relative_pose(state[:, 1:], state[:, :-1])], dim=1)


def _cells(spec: RasterSpec) -> tuple[int, int]:
    if spec.height < 32 or spec.width < 16:
        raise ValueError(
            f"rasters of {spec.height} x {spec.width} pixels are too small for a coupled model; it halves "
            "them four times, expected at least 32 x 16"
        )
    return spec.height // 8, spec.width // 8


def _check_features(latent: Latent, channels: int) -> None:
    features = latent.config.get("features", channels)
    if features != channels:
        raise ValueError(
            f"the latent reads {features} features of the future, but this model summarises it in {channels} "
            "channels; set latent.features to model.channels"
        )


def _per_row(mask: Float[Tensor, "B C 1 1"], times: int) -> Float[Tensor, "B2 C 1 1"]:
    """Repeats every row's mask; a mask shared by all rows stays one."""
    return mask if mask.shape[0] == 1 else mask.repeat_interleave(times, 0)


def _recomputed(is_on: bool, function, *args):  # type: ignore[no-untyped-def]
    """Calls a function; if asked, its activations are recomputed in the backward pass."""
    return checkpoint(function, *args, use_reentrant=False) if is_on else function(*args)
