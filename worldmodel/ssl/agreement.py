"""What pulls the embeddings of two views together, and keeps all of them from becoming one.

Each is a module `(online, target) -> scalar`, over the rows of all processes. Those that remember (a queue, a
centre) do so in buffers, while training.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from worldmodel.nn import Configured, gather
from worldmodel.nn.agreement import (
    contrast,
    contrast_within,
    covariance_off_diagonal,
    gaussianity,
    margin_loss,
    redundancy,
    variance_hinge,
)


class Agreement(Configured):
    """Embeddings of two views of the same scenes -> how badly they agree."""

    def attach(self, dim: int) -> None:
        """Makes what depends on the size of the embeddings."""

    def forward(self, online: Float[Tensor, "B D"], target: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        raise NotImplementedError


class PairMargin(Agreement):
    """Siamese networks: neighbours attract, others repel up to a margin (Hadsell et al. 2006)."""

    def __init__(self, margin: float = 1.0, *, hardest: bool = False) -> None:
        super().__init__()
        self.margin, self.hardest = margin, hardest

    def forward(self, online: Float[Tensor, "B D"], target: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        return margin_loss(gather(online), gather(target), margin=self.margin, hardest=self.hardest)


class InfoNCE(Agreement):
    """Find your own target among those of the batch, and of a queue of former ones.

    Args:
        temperature: of the softmax over cosine similarities.
        queue: former targets that are negatives too (MoCo's queue, PIRL's memory); 0: none.
    """

    queue: Tensor
    filled: Tensor

    def __init__(self, temperature: float = 0.1, *, queue: int = 0) -> None:
        super().__init__()
        self.temperature, self.size = temperature, queue

    def attach(self, dim: int) -> None:
        self.register_buffer("queue", torch.zeros(self.size, dim))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def forward(self, online: Float[Tensor, "B D"], target: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        online, target = gather(online), gather(target)
        negatives = self.queue[: int(self.filled)].clone() if self.size else None
        if self.training and self.size:
            self._push(target.detach())
        return contrast(online, target, temperature=self.temperature, negatives=negatives)

    def _push(self, target: Float[Tensor, "B D"]) -> None:
        """Puts the newest first; the oldest fall out."""
        self.queue.copy_(torch.cat([target.to(self.queue.dtype), self.queue])[: self.size])
        self.filled.copy_((self.filled + len(target)).clamp_max(self.size))


class NTXent(Agreement):
    """SimCLR's contrast: the twin among all views of the batch."""

    def __init__(self, temperature: float = 0.2) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, online: Float[Tensor, "B D"], target: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        return contrast_within(gather(online), gather(target), temperature=self.temperature)


class VICReg(Agreement):
    """Invariance, variance and covariance (Bardes, Ponce, LeCun 2022)."""

    def __init__(self, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> None:
        super().__init__()
        self.invariance, self.variance, self.covariance = invariance, variance, covariance

    def forward(self, online: Float[Tensor, "B D"], target: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        one, other = gather(online), gather(target)
        return (
            self.invariance * F.mse_loss(one, other)
            + self.variance * 0.5 * (variance_hinge(one) + variance_hinge(other))
            + self.covariance * (covariance_off_diagonal(one) + covariance_off_diagonal(other))
        )


class BarlowTwins(Agreement):
    """Cross-correlation as near to the identity as can be (Zbontar et al. 2021)."""

    def __init__(self, weight: float = 5e-3) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, online: Float[Tensor, "B D"], target: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        return redundancy(gather(online), gather(target), weight=self.weight)


class SIGReg(Agreement):
    """Embeddings agree, and are distributed as a standard Gaussian: LeJEPA (Balestriero and LeCun 2025).

    Args:
        weight: of the Gaussian term; the rest is the weight of agreement.
        num_directions: random projections, drawn anew at each step.
    """

    def __init__(self, weight: float = 0.05, *, num_directions: int = 64) -> None:
        super().__init__()
        self.weight, self.num_directions = weight, num_directions

    def forward(self, online: Float[Tensor, "B D"], target: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        one, other = gather(online), gather(target)
        drawn = torch.randn(self.num_directions, one.shape[1], device=one.device, dtype=one.dtype)
        directions = F.normalize(drawn, dim=1)
        spread = 0.5 * (gaussianity(one, directions) + gaussianity(other, directions))
        return (1 - self.weight) * F.mse_loss(one, other) + self.weight * spread


class Cosine(Agreement):
    """`2 - 2 cos`: agreement alone; targets without gradient keep embeddings apart (BYOL, SimSiam)."""

    def forward(self, online: Float[Tensor, "B D"], target: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        return (2 - 2 * F.cosine_similarity(online, target, dim=-1)).mean()


class SelfDistillation(Agreement):
    """The online network predicts the classes that its slow copy sees, centred and sharpened (DINO).

    Args:
        temperature: of the online network.
        target_temperature: of the slow copy; lower is sharper.
        momentum: of the running centre, which keeps one class from taking all.
    """

    centre: Tensor

    def __init__(
        self, temperature: float = 0.1, *, target_temperature: float = 0.04, momentum: float = 0.9
    ) -> None:
        super().__init__()
        self.temperature, self.target_temperature, self.momentum = temperature, target_temperature, momentum

    def attach(self, dim: int) -> None:
        self.register_buffer("centre", torch.zeros(dim))

    def forward(self, online: Float[Tensor, "B D"], target: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
        centre = self.centre.clone()
        if self.training:
            self.centre.lerp_(gather(target.detach()).mean(0).to(self.centre.dtype), 1 - self.momentum)
        wanted = ((target - centre) / self.target_temperature).softmax(-1)
        return -(wanted * (online / self.temperature).log_softmax(-1)).sum(-1).mean()
