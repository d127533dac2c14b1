"""Discrete latents: one of finitely many futures, so that what z can say is counted in nats beforehand."""

import math
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from worldmodel.models.latent.base import LatentSample, map_encoder
from worldmodel.nn.distributed import gather
from worldmodel.nn.gaussian import free_bits_kl


class UniformCategorical(nn.Module):
    """The prior under which all classes of all groups are equally likely, whatever the past."""

    def __init__(self, groups: int, classes: int) -> None:
        super().__init__()
        self.config = {
            "_target_": "worldmodel.models.latent.UniformCategorical",
            "groups": groups,
            "classes": classes,
        }
        self.groups, self.classes = groups, classes

    def forward(self, hidden: Float[Tensor, "B C H W"]) -> Float[Tensor, "B G K"]:
        """Returns the logits."""
        return hidden.new_zeros(hidden.shape[0], self.groups, self.classes)


class ConditionalCategorical(nn.Module):
    """The learnt prior `p(z | hidden)`; it starts as the uniform one."""

    def __init__(self, channels: int, groups: int, classes: int) -> None:
        super().__init__()
        self.config = {
            "_target_": "worldmodel.models.latent.ConditionalCategorical",
            "channels": channels,
            "groups": groups,
            "classes": classes,
        }
        self.groups, self.classes = groups, classes
        self.body = map_encoder(channels, channels)
        self.head = nn.Linear(channels * 8, groups * classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, hidden: Float[Tensor, "B C H W"]) -> Float[Tensor, "B G K"]:
        """Returns the logits."""
        return self.head(self.body(hidden)).unflatten(-1, (self.groups, self.classes))


@runtime_checkable
class Codebook(Protocol):
    """The codes of a `VectorQuantisedLatent`, and how they are learnt."""

    dim: int
    config: dict[str, Any]
    codes: Tensor

    def loss(self, encoded: Float[Tensor, "B Z"], code: Float[Tensor, "B Z"]) -> Float[Tensor, " B"]:
        """Returns what the optimiser is to lower by moving the codes; encodings take no gradient."""
        ...

    def observe(
        self, encoded: Float[Tensor, "B Z"], index: Int[Tensor, " B"], generator: Generator | None = None
    ) -> None:
        """Learns from a batch of encodings and the codes they chose, without gradient."""
        ...


class CategoricalLatent(nn.Module):
    """`groups` independent choices among `classes`, as one-hot vectors; straight-through gradients.

    z carries at most `groups * log(classes)` nats. With the uniform prior the KL of a group is
    `log(classes) - H(q)`, so `free_bits` is a limit on the entropy: a group whose posterior keeps an entropy
    of `log(classes) - free_bits` is not pulled at.

    Args:
        channels: of the hidden state.
        features: of the encoded target.
        groups: number of choices.
        classes: number of alternatives of each.
        beta: weight of the KL.
        free_bits: what each group may carry for nothing [nat].
        prior: hidden map -> logits `(B, groups, classes)`; `UniformCategorical` when left out.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        *,
        groups: int = 8,
        classes: int = 8,
        beta: float = 1e-6,
        free_bits: float = 0.0,
        prior: UniformCategorical | ConditionalCategorical | None = None,
    ) -> None:
        super().__init__()
        self.belief = UniformCategorical(groups, classes) if prior is None else prior
        if (self.belief.groups, self.belief.classes) != (groups, classes):
            raise ValueError(
                f"the prior has {self.belief.groups} x {self.belief.classes} classes, "
                f"the latent {groups} x {classes}; make them equal"
            )
        self.config = {
            "_target_": "worldmodel.models.latent.CategoricalLatent",
            "channels": channels,
            "features": features,
            "groups": groups,
            "classes": classes,
            "beta": beta,
            "free_bits": free_bits,
            "prior": self.belief.config,
        }
        self.groups, self.classes = groups, classes
        self.dim, self.beta, self.free_bits = groups * classes, beta, free_bits
        self.body = map_encoder(channels + features, channels)
        self.head = nn.Linear(channels * 8, self.dim)

    @property
    def capacity(self) -> float:
        """The most that z can carry [nat]."""
        return self.groups * math.log(self.classes)

    def prior(
        self, hidden: Float[Tensor, "B C H W"], generator: Generator | None = None
    ) -> Float[Tensor, "B Z"]:
        """Returns one-hot draws from the prior."""
        return draw_one_hot(self.belief(hidden), generator).flatten(1)

    def infer(
        self, hidden: Float[Tensor, "B C H W"], target: Float[Tensor, "B F H W"]
    ) -> Float[Tensor, "B G K"]:
        """Returns the posterior's logits."""
        out = self.head(self.body(torch.cat([hidden, target], dim=1)))
        return out.unflatten(-1, (self.groups, self.classes))

    def posterior(
        self,
        hidden: Float[Tensor, "B C H W"],
        target: Float[Tensor, "B F H W"],
        generator: Generator | None = None,
    ) -> LatentSample:
        """Returns one-hot draws with the gradient of their probabilities, and `beta * KL(q || p)`."""
        logits = self.infer(hidden, target)
        probability = logits.softmax(-1)
        z = draw_one_hot(logits, generator) + probability - probability.detach()
        each = categorical_kl(logits, self.belief(hidden))
        return LatentSample(z.flatten(1), self.beta * free_bits_kl(each, self.free_bits))


class VectorQuantisedLatent(nn.Module):
    """The encoded future's nearest neighbour in a codebook (van den Oord et al. 2017).

    z carries at most `log(codes)` nats. The loss is that paper's equation 3: the commitment
    `|e - sg(c)|^2`, and whatever the codebook asks for. The prior draws codes as often as they are used.

    Args:
        channels: of the hidden state.
        features: of the encoded target.
        codebook: `EmaCodebook` or `GradientCodebook`; its `dim` is that of z.
        weight: of the whole penalty in the loss.
        commitment: of the commitment within it.
        decay: of the running usage, per batch.
    """

    usage: Tensor

    def __init__(
        self,
        channels: int,
        features: int,
        *,
        codebook: Codebook | None = None,
        weight: float = 1e-3,
        commitment: float = 0.25,
        decay: float = 0.99,
    ) -> None:
        super().__init__()
        self.codebook: Codebook = EmaCodebook(64, 16) if codebook is None else codebook
        self.config = {
            "_target_": "worldmodel.models.latent.VectorQuantisedLatent",
            "channels": channels,
            "features": features,
            "codebook": self.codebook.config,
            "weight": weight,
            "commitment": commitment,
            "decay": decay,
        }
        self.dim, self.weight, self.commitment, self.decay = self.codebook.dim, weight, commitment, decay
        self.body = map_encoder(channels + features, channels)
        self.head = nn.Linear(channels * 8, self.dim)
        num = len(self.codebook.codes)
        self.register_buffer("usage", torch.full((num,), 1 / num))

    @property
    def capacity(self) -> float:
        """The most that z can carry [nat]."""
        return math.log(len(self.usage))

    def prior(
        self, hidden: Float[Tensor, "B C H W"], generator: Generator | None = None
    ) -> Float[Tensor, "B Z"]:
        """Returns codes, drawn by their usage."""
        index = torch.multinomial(self.usage, hidden.shape[0], replacement=True, generator=generator)
        return self.codebook.codes[index].to(hidden.dtype)

    def posterior(
        self,
        hidden: Float[Tensor, "B C H W"],
        target: Float[Tensor, "B F H W"],
        generator: Generator | None = None,
    ) -> LatentSample:
        """Returns the nearest codes with the gradient of the encoding, and the penalty."""
        encoded = self.head(self.body(torch.cat([hidden, target], dim=1)))
        index = nearest(encoded, self.codebook.codes)
        code = self.codebook.codes[index]
        commitment = (encoded - code.detach()).square().sum(-1)
        penalty = self.weight * (self.commitment * commitment + self.codebook.loss(encoded.detach(), code))
        if self.training:
            chosen = gather(F.one_hot(index, len(self.usage)).to(self.usage.dtype))
            self.usage.lerp_(chosen.mean(0), 1 - self.decay)
            self.codebook.observe(encoded.detach(), index, generator)
        return LatentSample(encoded + (code - encoded).detach(), penalty)


class EmaCodebook(nn.Module):
    """Codes follow the mean of what they stand for (van den Oord et al. 2017, appendix A.1); no gradient.

    A code that is used less than a tenth of its share is moved to an encoding of the batch.

    Args:
        num: of codes.
        dim: of a code.
        decay: of the running means, per batch.
    """

    codes: Tensor
    share: Tensor
    total: Tensor

    def __init__(self, num: int, dim: int, *, decay: float = 0.99) -> None:
        super().__init__()
        self.config = {
            "_target_": "worldmodel.models.latent.EmaCodebook",
            "num": num,
            "dim": dim,
            "decay": decay,
        }
        self.dim, self.decay = dim, decay
        self.register_buffer("codes", torch.randn(num, dim))
        self.register_buffer("share", torch.full((num,), 1 / num))
        self.register_buffer("total", self.codes / num)

    def loss(self, encoded: Float[Tensor, "B Z"], code: Float[Tensor, "B Z"]) -> Float[Tensor, " B"]:
        """Returns zeros: nothing here is learnt by gradient."""
        return encoded.new_zeros(len(encoded))

    @torch.no_grad()
    def observe(
        self, encoded: Float[Tensor, "B Z"], index: Int[Tensor, " B"], generator: Generator | None = None
    ) -> None:
        """Moves the codes towards the encodings that chose them."""
        num = len(self.codes)
        encoded = gather(encoded.to(self.codes.dtype))
        chosen = gather(F.one_hot(index, num).to(encoded.dtype)) / len(encoded)  # (B, num)
        self.share.lerp_(chosen.sum(0), 1 - self.decay)
        self.total.lerp_((chosen.T @ encoded).to(self.total.dtype), 1 - self.decay)
        row = torch.randint(len(encoded), (num,), generator=generator, device=encoded.device)
        is_dead = (self.share < 0.1 / num).unsqueeze(-1)
        moved = self.total / self.share.clamp_min(1e-8).unsqueeze(-1)
        self.codes.copy_(torch.where(is_dead, encoded[row], moved))
        self.share.copy_(torch.where(is_dead.squeeze(-1), 1 / num, self.share))
        self.total.copy_(self.codes * self.share.unsqueeze(-1))


class GradientCodebook(nn.Module):
    """Codes are parameters, pulled towards their encodings by `|sg(e) - c|^2` (van den Oord et al. 2017)."""

    def __init__(self, num: int, dim: int) -> None:
        super().__init__()
        self.config = {"_target_": "worldmodel.models.latent.GradientCodebook", "num": num, "dim": dim}
        self.dim = dim
        self.codes = nn.Parameter(torch.randn(num, dim))

    def loss(self, encoded: Float[Tensor, "B Z"], code: Float[Tensor, "B Z"]) -> Float[Tensor, " B"]:
        """Returns the squared distance from the encodings, to be minimised by the codes."""
        return (encoded - code).square().sum(-1)

    def observe(
        self, encoded: Float[Tensor, "B Z"], index: Int[Tensor, " B"], generator: Generator | None = None
    ) -> None:
        """Does nothing: the optimiser moves the codes."""


def draw_one_hot(logits: Float[Tensor, "*B K"], generator: Generator | None = None) -> Float[Tensor, "*B K"]:
    """Returns one-hot draws from `softmax(logits)`, by the Gumbel-max trick."""
    return F.one_hot(perturb(logits, generator).argmax(-1), logits.shape[-1]).to(logits.dtype)


def perturb(logits: Float[Tensor, "*B"], generator: Generator | None = None) -> Float[Tensor, "*B"]:
    """Returns the logits plus Gumbel noise; their order is then a draw without replacement."""
    uniform = torch.rand(logits.shape, generator=generator, device=logits.device)
    return logits - (-uniform.clamp(1e-7, 1 - 1e-7).log()).log()


def categorical_kl(logits: Float[Tensor, "*B K"], prior_logits: Float[Tensor, "*B K"]) -> Float[Tensor, "*B"]:
    """Returns `KL(softmax(logits) || softmax(prior_logits))` [nat]."""
    log_q, log_p = logits.log_softmax(-1), prior_logits.log_softmax(-1)
    return (log_q.exp() * (log_q - log_p)).sum(-1).clamp_min(0.0)


def nearest(encoded: Float[Tensor, "B Z"], codes: Float[Tensor, "N Z"]) -> Int[Tensor, " B"]:
    """Returns the index of the code nearest to each row."""
    with torch.no_grad():
        return torch.cdist(encoded.to(codes.dtype), codes).argmin(-1)
