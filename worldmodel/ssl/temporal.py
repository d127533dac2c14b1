"""How features should move in time: slowly, straight on, without bends. Closed-form slow features."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import Configured, gather
from worldmodel.nn.agreement import covariance_off_diagonal, variance_hinge
from worldmodel.ssl.clip import FrameClip
from worldmodel.ssl.embedding import embed
from worldmodel.ssl.joint import mlp
from worldmodel.ssl.objective import Losses, Objective


def slowness(path: Float[Tensor, "B T D"]) -> Float[Tensor, ""]:
    """Returns the mean squared step `|h[t+1] - h[t]|^2` (Wiskott and Sejnowski 2002)."""
    return path.diff(dim=1).square().mean()


def slowness_l1(path: Float[Tensor, "B T D"]) -> Float[Tensor, ""]:
    """Returns the mean absolute step: features that hold still, and jump (Goroshin et al. 2015)."""
    return path.diff(dim=1).abs().mean()


def nonlinearity(path: Float[Tensor, "B T D"]) -> Float[Tensor, ""]:
    """Returns the mean squared `h[t+1] - 2 h[t] + h[t-1]`: how badly a line predicts the next feature."""
    return path.diff(n=2, dim=1).square().mean()


def curvature(path: Float[Tensor, "B T D"]) -> Float[Tensor, ""]:
    """Returns the mean `1 - cos` between consecutive steps (Henaff et al. 2019): 0 for a straight path."""
    steps = path.diff(dim=1)
    return (1 - F.cosine_similarity(steps[:, 1:], steps[:, :-1], dim=-1, eps=1e-6)).mean()


class PoolSlowness(Configured):
    """`weight sum_p | |h[t+1]|_p - |h[t]|_p |` of pools of units: within a pool they may take turns.

    Goroshin et al. 2015, for codes `(B, T, cells, Z)`; the mean over steps and cells.

    Args:
        weight: of the sum.
        size: units of a pool, in a row.
        stride: units from one pool to the next; less than the size: pools overlap. None: the size.
    """

    def __init__(self, weight: float = 0.1, *, size: int = 4, stride: int | None = None) -> None:
        super().__init__()
        self.weight, self.size, self.stride = weight, size, size if stride is None else stride

    def forward(self, code: Float[Tensor, "B T P Z"]) -> Float[Tensor, ""]:
        norm = torch.linalg.vector_norm(code.unfold(3, self.size, self.stride), dim=-1)
        return self.weight * norm.diff(dim=1).abs().sum(-1).mean()


class Temporal(Objective):
    """A path of embeddings through a clip that is slow, straight or unbent, and does not shrink to a point.

    Args:
        path: `(B, T, D)` -> a scalar: one of the functions of this module, or your own, as an
            `ImportedFunction`.
        dim: of the embedding.
        width: of the projector.
        variance: weight of the hinge that keeps each dimension's deviation at one.
        covariance: weight of what dimensions say twice.
        grid: patches of the map that the projector sees.
    """

    projector: nn.Module

    def __init__(
        self,
        path: nn.Module,
        *,
        dim: int = 32,
        width: int = 128,
        variance: float = 1.0,
        covariance: float = 0.1,
        grid: Sequence[int] = (10, 3),
    ) -> None:
        super().__init__()
        self.path = path
        self.dim, self.width, self.variance, self.covariance = dim, width, variance, covariance
        self.grid = (int(grid[0]), int(grid[1]))

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        size = embed(encoder, clip.frames[:, :1], grid=self.grid).shape[1]
        self.projector = mlp(size, self.width, self.dim)

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        batch, num_frames = clip.frames.shape[:2]
        frames = clip.frames.flatten(0, 1).unsqueeze(1)
        path = self.projector(embed(encoder, frames, grid=self.grid)).unflatten(0, (batch, num_frames))
        rows = gather(path.flatten(0, 1))
        moved, spread = self.path(gather(path)), variance_hinge(rows)
        loss = moved + self.variance * spread + self.covariance * covariance_off_diagonal(rows)
        return {"loss": loss, "path": moved.detach(), "spread": spread.detach()}


def slow_features(signal: Float[Tensor, "T D"], num: int) -> Float[Tensor, "D N"]:
    """Returns the linear features of unit variance that change least, slowest first.

    The generalised eigenvectors of the covariance of the signal's steps against that of the signal (Wiskott
    and Sejnowski 2002, section 2): `min w' E[dx dx'] w` with `w' E[x x'] w = 1`.
    """
    centred = signal - signal.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(signal))
    whitening = vectors / values.clamp_min(1e-12).sqrt()
    steps = (centred @ whitening).diff(dim=0)
    _, directions = torch.linalg.eigh(steps.T @ steps / len(steps))
    return whitening @ directions[:, :num]
