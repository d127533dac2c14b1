"""DeepCluster: the classes are clusters of what the encoder made of the frames at the last refit."""

import copy
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import encode, gather
from worldmodel.nn.cluster import lloyd, nearest, spread_centres
from worldmodel.ssl.classify import Question, Transform
from worldmodel.ssl.clip import FrameClip


class Clusters(Transform):
    """In which cluster was the frame?

    Caron et al. 2018.

    `refit` keeps a copy of the encoder and the centres of k-means on its features; a frame's label until the
    next refit is the centre it was nearest to then, however the encoder goes on. Rows count by how rare their
    cluster is: otherwise one cluster that holds everything would be the easiest answer.

    Args:
        num_clusters: more than there are things to tell apart.
    """

    slow: nn.Module
    centres: Tensor
    share: Tensor

    def __init__(self, *, num_clusters: int = 16) -> None:
        super().__init__()
        self.num_clusters = num_clusters

    @property
    def num_classes(self) -> int:
        return self.num_clusters

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        self.slow = copy.deepcopy(encoder).requires_grad_(False)
        features = self.features(self.slow, clip.frames[:1, 0]).shape[1]
        self.register_buffer("centres", F.normalize(torch.randn(self.num_clusters, features), dim=1))
        self.register_buffer("share", torch.full((self.num_clusters,), 1 / self.num_clusters))

    def forward(self, clip: FrameClip) -> Question:
        frame = clip.frames.flatten(0, 1)
        with torch.no_grad():
            label = nearest(self.features(self.slow, frame), self.centres)
            rare = 1 / self.share[label].clamp_min(1e-3)
        return Question(frame[:, None], label, rare / gather(rare).mean())

    def features(self, encoder: nn.Module, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Returns the whole map of a frame, as a vector of length one."""
        return F.normalize(encode(encoder, frame).flatten(1), dim=1)

    @torch.no_grad()
    def refit(self, encoder: nn.Module, clips: Iterable[FrameClip]) -> bool:
        self.slow.load_state_dict(encoder.state_dict())
        rows = gather(torch.cat([self.features(self.slow, clip.frames.flatten(0, 1)) for clip in clips]))
        self.centres.copy_(k_means(rows, self.num_clusters))
        label = nearest(rows, self.centres)
        self.share.copy_(torch.bincount(label, minlength=self.num_clusters) / len(label))
        return True


def k_means(rows: Float[Tensor, "N D"], num_clusters: int, *, num_steps: int = 30) -> Float[Tensor, "K D"]:
    """Returns the centres of k-means, each with a row that is nearest to it.

    One that loses its last row starts again at the row that is farthest from its centre.

    Raises:
        ValueError: there are fewer rows than clusters.
    """
    if len(rows) < num_clusters:
        raise ValueError(f"{len(rows)} rows for {num_clusters} clusters; give more batches to refit")
    generator = torch.Generator(rows.device).manual_seed(0)  # the same in every process
    centres = spread_centres(rows, num_clusters, generator)
    for _ in range(num_steps):
        centres = lloyd(rows, centres)
        far, owner = torch.cdist(rows, centres).min(1)
        empty = (torch.bincount(owner, minlength=num_clusters) == 0).nonzero()[:, 0]
        centres[empty] = rows[far.topk(len(empty)).indices]
    return centres
