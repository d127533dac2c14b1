"""PPUU's own forward model, restated from its description, flaws included: what ours is measured against.

Henaff, Canziani & LeCun (ICLR 2019) and their code's defaults: 20 stacked frames re-encoded at every step,
codes of state, action and latent added to 256 x 14 x 3 features, dropout drawn anew at every call, an image
"residual" that is added to the logit (black becomes grey), one z-dropout coin for the whole batch and step,
squared error on all pixels and states, KL weight 1e-6. `worldmodel.models.CoupledModel` is what we use.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

HISTORY, FEATURES, WIDTH, LATENT = 20, 256, 256, 32
CELLS = (14, 3)
"""Of the feature map of a 117 x 24 raster."""
SIZE = FEATURES * CELLS[0] * CELLS[1]
STATE, ACTION, CHANNELS = 4, 2, 3
BETA, Z_DROPOUT, DROPOUT = 1e-6, 0.5, 0.1
LEARNING_RATE, GRADIENT_CLIP = 1e-4, 5.0


@dataclass(frozen=True)
class Unrolled:
    """Predicted images in [0, 1], normalised states, and the KL divergence summed over the unroll."""

    image: Tensor  # (B, T, C, H, W)
    state: Tensor  # (B, T, 4)
    kl: Tensor


class PPUU(nn.Module):
    """The variational model: 15,633,543 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = encoder(HISTORY * CHANNELS)
        self.states = mlp(HISTORY * STATE, SIZE)
        self.actions = mlp(ACTION, SIZE)
        self.targets = encoder(CHANNELS)
        self.posterior = mlp(SIZE, 2 * LATENT)
        self.expander = nn.Linear(LATENT, SIZE)
        self.core = UNetwork()
        self.image = convolutions(
            nn.ConvTranspose2d(FEATURES, FEATURES // 2, 4, 2, 1),
            nn.ConvTranspose2d(FEATURES // 2, FEATURES // 4, 5, 2, (0, 1)),
            nn.ConvTranspose2d(FEATURES // 4, CHANNELS, 2, 2, (0, 1)),
        )
        self.squeeze = convolutions(
            nn.Conv2d(FEATURES, FEATURES, 4, 2, 1), nn.Conv2d(FEATURES, FEATURES, (4, 1), (2, 1))
        )
        self.state = mlp(2 * FEATURES, STATE)

    def forward(
        self, image: Tensor, state: Tensor, action: Tensor, *, target: Tensor | None = None
    ) -> Unrolled:
        """Unrolls on its own predictions.

        Args:
            image: history `(B, 20, C, H, W)` in [0, 1].
            state: history `(B, 20, 4)`, normalised.
            action: `(B, T, 2)`, normalised; `action[:, t]` leads to frame `t`.
            target: the true images `(B, T, C, H, W)` for the posterior; without them `z` is from the prior.
        """
        images, states, kl = [], [], image.new_zeros(())
        for tick in range(action.shape[1]):
            hidden = self.frames(image.flatten(1, 2)) + self._map(self.states(state.flatten(1)))
            z = torch.randn(len(image), LATENT, device=image.device)
            if target is not None and torch.rand(()) >= Z_DROPOUT:
                mean, log_var = self._infer(hidden, target[:, tick])
                z = mean + z * (0.5 * log_var).exp()
                kl = kl + divergence(mean, log_var.clamp(max=4.0))
            hidden = hidden + self._map(self.expander(z)) + self._map(self.actions(action[:, tick]))
            hidden = hidden + self.core(hidden)
            frame = (self.image(hidden)[..., : image.shape[-2], :] + image[:, -1]).sigmoid()
            moved = state[:, -1] + self.state(self.squeeze(hidden).flatten(1))
            image = torch.cat([image[:, 1:], frame.unsqueeze(1)], dim=1)
            state = torch.cat([state[:, 1:], moved.unsqueeze(1)], dim=1)
            images.append(frame)
            states.append(moved)
        return Unrolled(torch.stack(images, 1), torch.stack(states, 1), kl)

    def _infer(self, hidden: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = self.posterior((hidden + self.targets(target)).flatten(1)).chunk(2, dim=-1)
        return mean, log_var

    def _map(self, code: Tensor) -> Tensor:
        return code.unflatten(1, (FEATURES, *CELLS))


class UNetwork(nn.Module):
    """What is added to the hidden map: two convolutions down, a bottleneck, two up."""

    def __init__(self) -> None:
        super().__init__()
        self.down = convolutions(
            nn.Conv2d(FEATURES, FEATURES, 4, 2, 1), nn.Conv2d(FEATURES, FEATURES, (4, 1), 2, 1)
        )
        low = FEATURES * 3 * 2
        self.bottleneck = nn.Sequential(
            nn.Linear(low, WIDTH), nn.Dropout(DROPOUT), nn.LeakyReLU(0.2), nn.Linear(WIDTH, low)
        )
        self.up = convolutions(
            nn.ConvTranspose2d(FEATURES, FEATURES, (4, 1), 2, 1),
            nn.ConvTranspose2d(FEATURES, FEATURES, (4, 3), 2),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        low = self.down(hidden)
        return self.up(self.bottleneck(low.flatten(1)).view_as(low))


def loss(unrolled: Unrolled, image: Tensor, state: Tensor) -> Tensor:
    """Returns squared error of images and states + the weighted KL divergence."""
    error = (unrolled.image - image).square().mean() + (unrolled.state - state).square().mean()
    return error + BETA * unrolled.kl


def divergence(mean: Tensor, log_var: Tensor) -> Tensor:
    """Returns `KL(N(mean, exp(log_var)) || N(0, I))`, summed over dimensions, averaged over the batch."""
    return -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum() / len(mean)


def encoder(channels: int) -> nn.Sequential:
    return convolutions(
        nn.Conv2d(channels, FEATURES // 4, 4, 2, 1),
        nn.Conv2d(FEATURES // 4, FEATURES // 2, 4, 2, 1),
        nn.Conv2d(FEATURES // 2, FEATURES, 4, 2, 1),
    )


def convolutions(*layers: nn.Module) -> nn.Sequential:
    """Dropout and activation follow every layer but the last."""
    parts = [part for layer in layers[:-1] for part in (layer, nn.Dropout2d(DROPOUT), nn.LeakyReLU(0.2))]
    return nn.Sequential(*parts, layers[-1])


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    layers = (nn.Linear(inputs, WIDTH), nn.Linear(WIDTH, WIDTH))
    parts = [part for layer in layers for part in (layer, nn.Dropout(DROPOUT), nn.LeakyReLU(0.2))]
    return nn.Sequential(*parts, nn.Linear(WIDTH, outputs))
