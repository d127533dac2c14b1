"""Priors for latents that define none: they remember what the posterior has produced while training.

Called with a hidden map they draw from it; `observe` shows them a batch. What they know is in buffers, so
checkpoints hold it. Where several processes train together, each observes the batches of all.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from worldmodel.nn.distributed import gather


@runtime_checkable
class EmpiricalPrior(Protocol):
    """A distribution of latents, learnt by watching."""

    dim: int
    config: dict[str, Any]

    def __call__(
        self, hidden: Float[Tensor, "B C H W"], generator: Generator | None = None
    ) -> Float[Tensor, "B Z"]:
        """Draws one latent for each row; zeros as long as nothing was observed."""
        ...

    def observe(self, z: Float[Tensor, "B Z"]) -> None:
        """Takes a batch of posterior draws into account."""
        ...


class SpikeAndSlab(nn.Module):
    """Every dimension on its own: zero, or with its frequency of activity a Gaussian of its active values.

    Args:
        dim: of z.
        decay: of the running statistics, per batch.
    """

    total: Tensor
    active: Tensor
    first: Tensor
    second: Tensor

    def __init__(self, dim: int, *, decay: float = 0.99) -> None:
        super().__init__()
        self.config = {"_target_": "worldmodel.models.latent.SpikeAndSlab", "dim": dim, "decay": decay}
        self.dim, self.decay = dim, decay
        self.register_buffer("total", torch.zeros(()))
        for name in ("active", "first", "second"):
            self.register_buffer(name, torch.zeros(dim))

    @property
    def rate(self) -> Float[Tensor, " Z"]:
        """How often each dimension is active."""
        return self.active / self.total.clamp_min(1e-6)

    def forward(
        self, hidden: Float[Tensor, "B C H W"], generator: Generator | None = None
    ) -> Float[Tensor, "B Z"]:
        shape = (hidden.shape[0], self.dim)
        uniform = torch.rand(shape, generator=generator, device=hidden.device, dtype=hidden.dtype)
        noise = torch.randn(shape, generator=generator, device=hidden.device, dtype=hidden.dtype)
        count = self.active.clamp_min(1e-6)
        mean = self.first / count
        std = (self.second / count - mean.square()).clamp_min(0.0).sqrt()
        return (uniform < self.rate) * (mean + std * noise).to(hidden.dtype)

    @torch.no_grad()
    def observe(self, z: Float[Tensor, "B Z"]) -> None:
        z = gather(z.to(self.first.dtype))
        self.total.mul_(self.decay).add_(1.0)
        self.active.mul_(self.decay).add_((z != 0).to(z.dtype).mean(0))
        self.first.mul_(self.decay).add_(z.mean(0))
        self.second.mul_(self.decay).add_(z.square().mean(0))


class CodeBank(nn.Module):
    """Draws are latents that were seen, whole: whatever their dimensions have to do with each other is kept.

    Args:
        dim: of z.
        size: latents kept, the latest ones.
    """

    codes: Tensor
    count: Tensor

    def __init__(self, dim: int, *, size: int = 1024) -> None:
        super().__init__()
        self.config = {"_target_": "worldmodel.models.latent.CodeBank", "dim": dim, "size": size}
        self.dim, self.size = dim, size
        self.register_buffer("codes", torch.zeros(size, dim))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(
        self, hidden: Float[Tensor, "B C H W"], generator: Generator | None = None
    ) -> Float[Tensor, "B Z"]:
        uniform = torch.rand(hidden.shape[0], generator=generator, device=hidden.device)
        filled = self.count.clamp(1, self.size)
        index = (uniform * filled).long().clamp_max(filled - 1)
        return self.codes[index].to(hidden.dtype)

    @torch.no_grad()
    def observe(self, z: Float[Tensor, "B Z"]) -> None:
        latest = gather(z.to(self.codes.dtype))[-self.size :]
        place = (self.count + torch.arange(len(latest), device=z.device)) % self.size
        self.codes[place] = latest
        self.count.add_(len(latest))
