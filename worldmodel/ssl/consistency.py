"""Features that keep the books: counts of parts add up, and what moves together belongs together."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import encode, features_of, gather
from worldmodel.nn.agreement import standardised
from worldmodel.ssl.clip import FrameClip
from worldmodel.ssl.joint import mlp
from worldmodel.ssl.objective import Losses, Objective


class Counting(Objective):
    """The counts in the tiles of a frame add up to those of the whole (Noroozi et al. 2017).

        |phi(D x) - sum_j phi(T_j x)|^2 + contrast [M - |phi(D y) - sum_j phi(T_j x)|]_+

    with the frame at half size `D x`, its four quarters `T_j x`, and another frame `y`. Without the second
    term nothing is counted at all. (The paper squares the distance in it too. That has no slope where nothing
    is counted yet, and small encoders stay there.) In an empty frame there is nothing to count, whatever its
    size: were it otherwise, four empty quarters would count four times as much as the whole.

    Args:
        num: of things that are counted.
        margin: `M`.
        contrast: weight of the second term.
        width: channels in between.
    """

    head: nn.Module

    def __init__(self, num: int = 8, *, margin: float = 3.0, contrast: float = 1.0, width: int = 32) -> None:
        super().__init__()
        self.num, self.margin, self.contrast, self.width = num, margin, contrast, width

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(features_of(encoder), self.width, 1),
            nn.ReLU(),
            nn.Conv2d(self.width, self.num, 1),
        )

    def count(self, encoder: nn.Module, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N"]:
        """Returns `phi`, never negative: what each cell says beyond that of an empty frame, summed."""
        said, nothing = (self.head(encode(encoder, one)) for one in (frame, torch.zeros_like(frame[:1])))
        return (said - nothing).relu().sum((-2, -1))

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        frame = clip.frames[:, 0]
        height, width = (size // 2 * 2 for size in frame.shape[-2:])
        frame = frame[..., :height, :width]
        quarters = [part for half in frame.chunk(2, dim=-2) for part in half.chunk(2, dim=-1)]
        parts = gather(torch.stack([self.count(encoder, one) for one in quarters]).sum(0))
        whole = gather(self.count(encoder, F.avg_pool2d(frame, 2)))
        equal = (whole - parts).square().sum(1).mean()
        distance = ((whole.roll(1, 0) - parts).square().sum(1) + 1e-6).sqrt()
        apart = (self.margin - distance).clamp_min(0.0).mean()
        return {"loss": equal + self.contrast * apart, "equal": equal.detach(), "apart": apart.detach()}


class CommonFate(Objective):
    """Pixels that move alike get like embeddings (Mahendran et al. 2018).

    For each cell, the distribution over other cells by likeness of their embeddings is to be that by likeness
    of their motion: cross-entropy of two softmax kernels.

    Args:
        dim: of a cell's embedding.
        temperature: of its kernel.
        motion_scale: difference of motion that counts as different [px].
        num: cells that are compared, drawn at random.
    """

    head: nn.Module

    def __init__(
        self, *, dim: int = 16, temperature: float = 0.1, motion_scale: float = 0.5, num: int = 96
    ) -> None:
        super().__init__()
        self.dim, self.temperature, self.motion_scale, self.num = dim, temperature, motion_scale, num

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        self.head = nn.Sequential(nn.SiLU(), nn.Conv2d(features_of(encoder), self.dim, 1))

    def cells(self, encoder: nn.Module, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H2 W2"]:
        """Returns the cells' embeddings, of length one."""
        return F.normalize(self.head(encode(encoder, frame)), dim=1)

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        if clip.flow is None:
            raise ValueError("the clip has no flow; pass FrameClip(flow=...)")
        code = self.cells(encoder, clip.frames[:, 0]).flatten(2).transpose(1, 2)  # (B, P, D)
        height, width = encode(encoder, clip.frames[:1, 0]).shape[-2:]
        motion = F.adaptive_avg_pool2d(clip.flow[:, 0], (height, width)).flatten(2).transpose(1, 2)
        chosen = torch.randperm(code.shape[1], device=code.device)[: self.num]
        code, motion = code[:, chosen], motion[:, chosen]
        own = torch.eye(len(chosen), dtype=torch.bool, device=code.device)
        likeness = (code @ code.transpose(1, 2) / self.temperature).masked_fill(own, -1e9)
        moved = -torch.cdist(motion, motion).square() / self.motion_scale**2
        wanted = moved.masked_fill(own, -1e9).softmax(-1)
        return {"loss": -(wanted * likeness.log_softmax(-1)).sum(-1).mean()}


class Disagreement(Objective):
    """Two senses learn classes from each other alone: de Sa 1994, on the frame and on the ego's own motion.

    What the image suggests and what the state suggests is to tell as much about each other as it can: the
    mutual information of the two classes, over the batch (Ji et al. 2019), which is greatest where they
    agree, are sure, and use all classes alike.

        P = mean p(x) q(y)',   loss = -sum P log(P / (P1 1'P))

    Args:
        num: of classes.
        width: of both hidden layers.
    """

    image_head: nn.Module
    state_head: nn.Module

    def __init__(self, num: int = 8, *, width: int = 64) -> None:
        super().__init__()
        self.num, self.width = num, width

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        self.image_head = mlp(features_of(encoder), self.width, self.num)
        self.state_head = mlp(2, self.width, self.num)

    def classify(self, encoder: nn.Module, clip: FrameClip) -> tuple[Tensor, Tensor]:
        """Returns the logits of both senses, of the first frame and of speed and acceleration."""
        if clip.state is None or clip.action is None:
            raise ValueError("the clip has no state or no action; pass FrameClip(state=..., action=...)")
        seen = F.silu(encode(encoder, clip.frames[:, 0])).mean((-2, -1))
        felt = torch.stack([clip.state[:, 0, 3] / 10 - 1, clip.action[:, 0, 0]], dim=1)
        seen, felt = (standardised(gather(part)) for part in (seen, felt))
        return self.image_head(seen), self.state_head(felt)

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        one, other = self.classify(encoder, clip)
        joint = one.softmax(-1).T @ other.softmax(-1) / len(one)  # (N, N)
        marginal = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
        information = (joint * (joint.clamp_min(1e-9).log() - marginal.clamp_min(1e-9).log())).sum()
        return {"loss": -information}
