"""Pushing an energy up without a chain of samples: exact sums, neighbours, scores, noise."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import Configured
from worldmodel.ssl.density import PushUp
from worldmodel.ssl.objective import Losses
from worldmodel.ssl.push_up import (
    block_likelihood,
    minimum_flow,
    noise_contrast,
    ratio_matching,
    score_matching,
    some_sites,
)


class Enumeration(PushUp):
    """Exact likelihood of some bits given all others: `block_likelihood`.

    Args:
        num_sites: bits whose settings are all tried, other ones each time; those of a row: maximum
            likelihood.
    """

    def __init__(self, *, num_sites: int = 4) -> None:
        super().__init__()
        self.num_sites = num_sites

    def forward(self, energy: nn.Module, data: Float[Tensor, "B *D"]) -> Losses:
        return {"loss": block_likelihood(energy, data, some_sites(data, self.num_sites))}


class RatioMatching(PushUp):
    """Bits: `ratio_matching`.

    Args:
        num_sites: bits that are flipped, other ones each time.
    """

    def __init__(self, *, num_sites: int = 16) -> None:
        super().__init__()
        self.num_sites = num_sites

    def forward(self, energy: nn.Module, data: Float[Tensor, "B *D"]) -> Losses:
        return {"loss": ratio_matching(energy, data, some_sites(data, self.num_sites))}


class MinimumFlow(PushUp):
    """Bits: `minimum_flow`.

    Args:
        num_sites: bits that are flipped, other ones each time.
    """

    def __init__(self, *, num_sites: int = 16) -> None:
        super().__init__()
        self.num_sites = num_sites

    def forward(self, energy: nn.Module, data: Float[Tensor, "B *D"]) -> Losses:
        return {"loss": minimum_flow(energy, data, some_sites(data, self.num_sites))}


class ScoreMatching(PushUp):
    """Numbers: `score_matching`, which needs no samples; the energy has to be smooth.

    Args:
        num_probes: random directions that the Laplacian is estimated along; None: exact, one a dimension.
    """

    def __init__(self, *, num_probes: int | None = 1) -> None:
        super().__init__()
        self.num_probes = num_probes

    def forward(self, energy: nn.Module, data: Float[Tensor, "B *D"]) -> Losses:
        if self.num_probes is None:
            return {"loss": score_matching(energy, data)}
        signs = torch.randint(2, (self.num_probes, *data.shape), device=data.device).to(data) * 2 - 1
        return {"loss": score_matching(energy, data, signs)}


class NoiseContrastive(PushUp):
    """Tells data from noise whose density is known; `log Z` is learnt: `noise_contrast`.

    Args:
        noise: `sample(number)` and `log_density(rows)`; a `FittedNoise` when left out.
        ratio: samples of noise for each row of data.
    """

    def __init__(self, noise: Configured | None = None, *, ratio: int = 1) -> None:
        super().__init__()
        self.noise = FittedNoise() if noise is None else noise
        self.ratio = ratio
        self.log_partition = nn.Parameter(torch.zeros(()))

    def attach(self, data: Float[Tensor, "B *D"]) -> None:
        self.noise.attach(data)  # type: ignore[operator]

    def refit(self, data: Float[Tensor, "B *D"]) -> None:
        self.noise.fit(data)  # type: ignore[operator]

    def forward(self, energy: nn.Module, data: Float[Tensor, "B *D"]) -> Losses:
        samples = self.noise(self.ratio * len(data))
        log_ratio, noise_log_ratio = (
            -energy(rows) - self.log_partition - self.noise.log_density(rows)  # type: ignore[operator]
            for rows in (data, samples)
        )
        right = 0.5 * ((log_ratio > 0).float().mean() + (noise_log_ratio < 0).float().mean())
        return {"loss": noise_contrast(log_ratio, noise_log_ratio), "right": right.detach()}


class FittedNoise(Configured):
    """Independent normal values with the mean and variance of the data.

    Args:
        floor: of the standard deviation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, floor: float = 0.1) -> None:
        super().__init__()
        self.floor = floor

    def attach(self, data: Float[Tensor, "B *D"]) -> None:
        """Makes the moments: those of the unit interval until they are fitted."""
        self.register_buffer("mean", torch.full_like(data[0], 0.5))
        self.register_buffer("std", torch.full_like(data[0], max(0.29, self.floor)))

    def fit(self, data: Float[Tensor, "B *D"]) -> None:
        """Takes the moments of data."""
        self.mean.copy_(data.mean(0))
        self.std.copy_(data.std(0).clamp_min(self.floor))

    def forward(self, number: int) -> Float[Tensor, "N *D"]:
        noise = torch.randn(number, *self.mean.shape, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + self.std * noise

    def log_density(self, rows: Float[Tensor, "N *D"]) -> Float[Tensor, " N"]:
        """Returns `log q` of each row [nat]."""
        return torch.distributions.Normal(self.mean, self.std).log_prob(rows).flatten(1).sum(1)


class Reference(Configured):
    """Noise that the energy is relative to: `p = q exp(-E) / Z`, as one needs it for frames.

    Absolute densities of thousands of pixels would leave the classifier nothing to do.
    """

    def __init__(self, noise: Configured) -> None:
        super().__init__()
        self.noise = noise

    def attach(self, data: Float[Tensor, "B *D"]) -> None:
        """Attaches the noise."""
        self.noise.attach(data)  # type: ignore[operator]

    def fit(self, data: Float[Tensor, "B *D"]) -> None:
        """Fits the noise."""
        self.noise.fit(data)  # type: ignore[operator]

    def forward(self, number: int) -> Float[Tensor, "N *D"]:
        return self.noise(number)

    def log_density(self, rows: Float[Tensor, "N *D"]) -> Float[Tensor, " N"]:
        """Returns zeros: the density relative to itself."""
        return rows.new_zeros(len(rows))


class Bits(PushUp):
    """Draws every value of the data as a bit, one with that probability, for plug-ins that need bits."""

    def __init__(self, push_up: PushUp) -> None:
        super().__init__()
        self.push_up = push_up

    def attach(self, data: Float[Tensor, "B *D"]) -> None:
        self.push_up.attach(data)

    def forward(self, energy: nn.Module, data: Float[Tensor, "B *D"]) -> Losses:
        return self.push_up(energy, torch.bernoulli(data.clamp(0, 1)))

    def refit(self, data: Float[Tensor, "B *D"]) -> None:
        self.push_up.refit(torch.bernoulli(data.clamp(0, 1)))


class Blurred(PushUp):
    """Adds noise to the data: values that are often exactly zero have no density of their own.

    Args:
        std: of the noise.
    """

    def __init__(self, push_up: PushUp, *, std: float = 0.1) -> None:
        super().__init__()
        self.push_up, self.std = push_up, std

    def attach(self, data: Float[Tensor, "B *D"]) -> None:
        self.push_up.attach(data)

    def forward(self, energy: nn.Module, data: Float[Tensor, "B *D"]) -> Losses:
        return self.push_up(energy, data + self.std * torch.randn_like(data))

    def refit(self, data: Float[Tensor, "B *D"]) -> None:
        self.push_up.refit(data + self.std * torch.randn_like(data))
