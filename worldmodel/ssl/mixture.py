"""A mixture of Gaussians of patches: its energy, and an encoder that learns to tell the components apart."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import encode, features_of, gather, stride_of
from worldmodel.nn.cluster import GaussianMixture, maximise_expectation, spread_centres
from worldmodel.ssl.clip import FrameClip
from worldmodel.ssl.dictionary import PatchDictionary
from worldmodel.ssl.head import LinearHead
from worldmodel.ssl.latent import filled
from worldmodel.ssl.objective import Losses, Objective
from worldmodel.ssl.prepare import Centre


class Mixture(Objective):
    """`F(y) = -log sum_k pi_k N(y; mean_k, covariance_k)` of patches, fitted by EM in `refit`.

    The encoder learns the responsibilities `p(k | y)` from its map, by cross-entropy; the energy is logged.

    Args:
        components: of the mixture.
        margin: cells around its own that a patch takes in on each side.
        num_steps: of EM at each refit.
        floor: added to the variances: pixels that never change have none.
        samples: patches of a batch that the encoder learns from, and ten times as many that EM does.
    """

    log_share: Tensor
    mean: Tensor
    covariance: Tensor

    def __init__(
        self,
        components: int = 16,
        *,
        margin: Sequence[int] = (0, 0),
        num_steps: int = 20,
        floor: float = 1e-3,
        samples: int = 2048,
    ) -> None:
        super().__init__()
        self.components, self.num_steps, self.floor, self.samples = components, num_steps, floor, samples
        self.patches = PatchDictionary(components, margin=margin, prepare=Centre())
        self.head = LinearHead()

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        along, across = stride_of(encoder)
        channels, rows, columns = filled(clip.frames[0], (along, across)).shape[1:]
        self.patches.attach(channels, (along, across), (rows // along, columns // across))
        self.patches.weight.requires_grad_(False)
        self.head.attach(features_of(encoder), self.components)
        size = self.patches.weight.shape[0]
        self.register_buffer("log_share", torch.full((self.components,), 1 / self.components).log())
        self.register_buffer("mean", torch.randn(self.components, size))
        self.register_buffer("covariance", torch.eye(size).repeat(self.components, 1, 1))
        self.register_buffer("started", torch.tensor(False))

    @property
    def mixture(self) -> GaussianMixture:
        """As it is now."""
        return GaussianMixture(self.log_share, self.mean, self.covariance)

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        frame = clip.frames.flatten(0, 1)
        patches = self.patches.targets(filled(frame, stride_of(encoder)))
        logits = self.head(self.patches.aligned(encode(encoder, frame)))
        chosen = torch.randperm(len(patches), device=patches.device)[: self.samples]
        mixture = self.mixture
        teacher = mixture.responsibility(patches[chosen])
        return {
            "loss": F.cross_entropy(logits[chosen], teacher),
            "energy": mixture.energy(patches[chosen]).mean(),
        }

    @torch.no_grad()
    def refit(self, encoder: nn.Module, clips: Iterable[FrameClip]) -> None:
        frames = torch.cat([filled(clip.frames.flatten(0, 1), stride_of(encoder)) for clip in clips])
        frames = gather(frames)
        self.patches.refit(frames)
        every = self.patches.targets(frames)
        generator = torch.Generator(every.device).manual_seed(0)  # the same in every process
        chosen = torch.randperm(len(every), generator=generator, device=every.device)
        patches = every[chosen[: 10 * self.samples]]
        if not self.started:
            self._start(patches, generator)
        mixture = self.mixture
        for _ in range(self.num_steps):
            mixture = maximise_expectation(patches, mixture, floor=self.floor)
        for name in ("log_share", "mean", "covariance"):
            getattr(self, name).copy_(getattr(mixture, name))

    def _start(self, patches: Float[Tensor, "B D"], generator: torch.Generator) -> None:
        """Puts a ball of the whole covariance around patches that are far from each other."""
        self.mean.copy_(spread_centres(patches, self.components, generator))
        self.covariance.copy_(torch.cov(patches.T) + self.floor * torch.eye(patches.shape[1]).to(patches))
        self.get_buffer("started").fill_(True)
