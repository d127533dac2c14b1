"""Joint embedding: two views of a scene go through one encoder, and what comes out agrees."""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.ssl.agreement import Agreement
from worldmodel.ssl.clip import FrameClip
from worldmodel.ssl.embedding import embed
from worldmodel.ssl.objective import Losses, Objective
from worldmodel.ssl.view import Views


class JointEmbed(Objective):
    """`F(x, y) = agree(Proj(Enc(x)), Proj(Enc(y)))` for two views.

    Three networks of the literature by their parts: with neither `momentum` nor `predictor` both views learn
    (SimCLR, VICReg, Barlow Twins); with a slow copy it gives the targets (MoCo, BYOL, DINO); with a predictor
    alone the targets are the network's own, without gradient (SimSiam).

    Args:
        views: makes the two views of a clip.
        agree: scores their embeddings.
        dim: of an embedding.
        width: of the hidden layer of projector and predictor.
        predictor: whether the online embedding predicts the other view's instead of being it.
        momentum: of the slow copy of encoder and projector; None: there is none.
        grid: patches of the map that the projector sees.
    """

    projector: nn.Module
    predictor: nn.Module
    slow_encoder: nn.Module
    slow_projector: nn.Module

    def __init__(
        self,
        views: Views,
        agree: Agreement,
        *,
        dim: int = 64,
        width: int = 128,
        predictor: bool = False,
        momentum: float | None = None,
        grid: Sequence[int] = (10, 3),
    ) -> None:
        super().__init__()
        self.views, self.agree = views, agree
        self.dim, self.width, self.has_predictor, self.momentum = dim, width, predictor, momentum
        self.grid = (int(grid[0]), int(grid[1]))

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        size = embed(encoder, clip.frames[:, :1], grid=self.grid).shape[1]
        self.projector = mlp(size, self.width, self.dim)
        self.predictor = mlp(self.dim, self.width, self.dim) if self.has_predictor else nn.Identity()
        self.agree.attach(self.dim)
        if self.momentum is not None:
            self.slow_encoder = copy.deepcopy(encoder).requires_grad_(False)
            self.slow_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        one, other = self.views(clip)
        found, again = self._embed(encoder, one), self._embed(encoder, other)
        if self.momentum is None and not self.has_predictor:
            return {"loss": self.agree(found, again)}
        targets = [self._target(one, found), self._target(other, again)]
        there = self.agree(self.predictor(found), targets[1])
        return {"loss": 0.5 * (there + self.agree(self.predictor(again), targets[0]))}

    @torch.no_grad()
    def after_step(self, encoder: nn.Module) -> None:
        """Lets the slow copy follow."""
        if self.momentum is None:
            return
        for slow, fast in ((self.slow_encoder, encoder), (self.slow_projector, self.projector)):
            follow(slow, fast, momentum=self.momentum)

    def _embed(self, encoder: nn.Module, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        return self.projector(embed(encoder, frame.unsqueeze(1), grid=self.grid))

    @torch.no_grad()
    def _target(self, frame: Float[Tensor, "B C H W"], own: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        if self.momentum is None:
            return own.detach()
        return self.slow_projector(embed(self.slow_encoder, frame.unsqueeze(1), grid=self.grid))


def mlp(dim: int, width: int, out: int) -> nn.Sequential:
    """Returns a network with one hidden layer, normalised row by row."""
    return nn.Sequential(nn.Linear(dim, width), nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, out))


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, *, momentum: float) -> None:
    """Moves a slow copy towards its original: `slow = momentum slow + (1 - momentum) fast`."""
    for one, other in zip(slow.parameters(), fast.parameters(), strict=True):
        one.lerp_(other, 1 - momentum)
