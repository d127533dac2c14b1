"""Prediction in the space of embeddings: of the next frame under an action, of what a mask hides."""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import Transition, encode, features_of
from worldmodel.nn.transition import ACTION_SCALE
from worldmodel.ssl.agreement import Agreement
from worldmodel.ssl.clip import FrameClip
from worldmodel.ssl.embedding import pooled
from worldmodel.ssl.joint import follow, mlp
from worldmodel.ssl.objective import Losses, Objective


class PredictNext(Objective):
    """The map of the next frame from those before and the action: CPC with actions, or a JEPA world model.

        h[t+1]' = g(h[t-1], h[t], a[t]),   agree(Proj(h'), Proj(h)) + inverse |a - a'(h[t], h[t+1])|^2

    Contrast as agreement makes it contrastive predictive coding (van den Oord et al. 2018), variance and
    covariance a JEPA. The inverse dynamics keep what the action changes in the embedding.

    Args:
        agree: scores predicted against actual embeddings.
        dim: of the embedding that is scored.
        width: of projector and transition.
        inverse: weight of the action's prediction from two consecutive embeddings; 0: none.
        exact: weight of the squared error of the predicted map itself, which unrolled predictions need; the
            map that came takes no gradient of it. 0: none.
        grid: patches of the map that the projector sees.
    """

    transition: Transition
    projector: nn.Module
    inverse_dynamics: nn.Module

    def __init__(
        self,
        agree: Agreement,
        *,
        dim: int = 64,
        width: int = 64,
        inverse: float = 0.0,
        exact: float = 0.0,
        grid: Sequence[int] = (10, 3),
    ) -> None:
        super().__init__()
        self.agree = agree
        self.dim, self.width, self.inverse, self.exact = dim, width, inverse, exact
        self.grid = (int(grid[0]), int(grid[1]))

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        if clip.frames.shape[1] < 3:
            raise ValueError(
                f"clips of {clip.frames.shape[1]} frames, expected 3: two to see, one to predict"
            )
        self.transition = Transition(features_of(encoder), width=self.width)
        size = pooled(encode(encoder, clip.frames[:, 0]), self.grid).shape[1]
        self.projector = mlp(size, 2 * self.width, self.dim)
        self.inverse_dynamics = mlp(2 * self.dim, self.width, 2)
        self.agree.attach(self.dim)

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        if clip.action is None:
            raise ValueError("the clip has no actions; pass FrameClip(action=...)")
        batch, num_frames = clip.frames.shape[:2]
        maps = encode(encoder, clip.frames.flatten(0, 1)).unflatten(0, (batch, num_frames))
        before = torch.stack([maps[:, :-2], maps[:, 1:-1]], dim=2).flatten(0, 1)  # (B T2, 2, F, H, W)
        predicted = self.transition(before, clip.action[:, 1:].flatten(0, 1))
        codes = self.projector(pooled(maps.flatten(0, 1), self.grid)).unflatten(0, (batch, num_frames))
        agreement = self.agree(self.projector(pooled(predicted, self.grid)), codes[:, 2:].flatten(0, 1))
        losses = {"loss": agreement, "agreement": agreement}
        if self.inverse:
            pairs = torch.cat([codes[:, :-1], codes[:, 1:]], dim=-1)
            usual = clip.action / clip.action.new_tensor(ACTION_SCALE)
            losses["inverse"] = F.mse_loss(self.inverse_dynamics(pairs), usual)
            losses["loss"] = losses["loss"] + self.inverse * losses["inverse"]
        if self.exact:
            losses["exact"] = F.mse_loss(predicted, maps[:, 2:].flatten(0, 1).detach())
            losses["loss"] = losses["loss"] + self.exact * losses["exact"]
        return losses


class PredictHidden(Objective):
    """The maps of hidden patches, as a slow copy of the encoder sees them, from what is left: I-JEPA, V-JEPA.

    The encoder sees frames with patches cut out; a predictor fills the map in, and is compared where they
    were (Assran et al. 2023). With `through_time` the same patches are hidden in all frames of a clip, and
    the predictor sees all of its maps (Bardes et al. 2024).

    Args:
        patch: rows and columns of hidden patches [cells of the map].
        share: of the map that is hidden.
        momentum: of the slow copy.
        width: channels of the predictor.
        through_time: whether a clip is one example, or each of its frames.
    """

    predictor: nn.Module
    slow_encoder: nn.Module

    def __init__(
        self,
        *,
        patch: Sequence[int] = (2, 2),
        share: float = 0.5,
        momentum: float = 0.99,
        width: int = 64,
        through_time: bool = False,
    ) -> None:
        super().__init__()
        self.patch, self.share = (int(patch[0]), int(patch[1])), share
        self.momentum, self.width, self.through_time = momentum, width, through_time

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        frames = clip.frames.shape[1] if self.through_time else 1
        channels = features_of(encoder) * frames
        self.predictor = nn.Sequential(
            nn.Conv2d(channels + 1, self.width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(self.width, self.width, 5, padding=2),
            nn.SiLU(),
            nn.Conv2d(self.width, channels, 3, padding=1),
        )
        self.slow_encoder = copy.deepcopy(encoder).requires_grad_(False)

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        batch, num_frames = clip.frames.shape[:2]
        together = num_frames if self.through_time else 1
        with torch.no_grad():
            wanted = _standardised(encode(self.slow_encoder, clip.frames.flatten(0, 1)))
        hidden = self.draw_mask(wanted, batch * num_frames // together)  # (N, 1, H, W)
        pixels = F.interpolate(hidden.repeat_interleave(together, 0), size=clip.frames.shape[-2:])
        seen = encode(encoder, clip.frames.flatten(0, 1) * (1 - pixels))
        seen, wanted = (one.unflatten(0, (-1, together)).flatten(1, 2) for one in (seen, wanted))
        wrong = (self.predictor(torch.cat([seen, hidden], dim=1)) - wanted).square().mean(1, keepdim=True)
        return {"loss": (wrong * hidden).sum() / hidden.sum().clamp_min(1.0)}

    def draw_mask(self, like: Float[Tensor, "B F H W"], num: int) -> Float[Tensor, "N 1 H W"]:
        """Returns which cells are hidden, in whole patches."""
        rows, columns = (-(-size // patch) for size, patch in zip(like.shape[-2:], self.patch, strict=True))
        score = torch.rand(num, rows * columns, device=like.device)
        count = max(1, round(self.share * rows * columns))
        chosen = torch.zeros_like(score).scatter_(1, score.topk(count, dim=1).indices, 1.0)
        patches = chosen.view(num, 1, rows, columns).repeat_interleave(self.patch[0], 2)
        return patches.repeat_interleave(self.patch[1], 3)[..., : like.shape[-2], : like.shape[-1]]

    @torch.no_grad()
    def after_step(self, encoder: nn.Module) -> None:
        """Lets the slow copy follow."""
        follow(self.slow_encoder, encoder, momentum=self.momentum)


def _standardised(cells: Float[Tensor, "B F H W"]) -> Float[Tensor, "B F H W"]:
    """Each cell with mean zero and variance one over its features, so that no target can shrink."""
    return F.layer_norm(cells.movedim(1, -1), (cells.shape[1],)).movedim(-1, 1)
