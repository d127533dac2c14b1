"""Objectives that give the frame back: `E = C(y, Dec(Enc(corrupt(x)))) + R(z)`."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import (
    BinaryCrossEntropy,
    FrameCost,
    MapDecoder,
    TiedDecoder,
    cropped,
    encode,
    features_of,
    gather,
    stride_of,
)
from worldmodel.ssl.clip import FrameClip
from worldmodel.ssl.corrupt import Corruption
from worldmodel.ssl.objective import Frames, Losses, Objective
from worldmodel.ssl.source import EveryFrame, Pair, Source


class Reconstruct(Objective):
    """What was corrupted, hidden or is yet to come, given back from the encoder's map.

    With nothing but defaults it is an auto-encoder of single frames, with noise a denoising one.

    Args:
        width: channels of the decoder's hidden layer; 0: linear.
        tied: the decoder is the encoder transposed, whatever the width.
        source: clip -> what is seen and what is to be given back; None: every frame, itself.
        corrupt: frame `(B, C, H, W)` -> what the encoder sees of it, and where the cost looks (or None).
        cost: C; None: binary cross-entropy.
        bottleneck: map `(B, F, H, W)` -> the map that the decoder reads, and a scalar to be added.
        penalty: R, called with encoder, frame `(B, C, H, W)` and map `(B, F, H, W)`; a scalar.
        penalty_weight: of it.
    """

    decoder: MapDecoder | TiedDecoder

    def __init__(
        self,
        *,
        width: int = 32,
        tied: bool = False,
        source: Source | None = None,
        corrupt: Corruption | None = None,
        cost: FrameCost | None = None,
        bottleneck: nn.Module | None = None,
        penalty: nn.Module | None = None,
        penalty_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.width, self.tied, self.penalty_weight = width, tied, penalty_weight
        self.source = EveryFrame() if source is None else source
        self.cost = BinaryCrossEntropy() if cost is None else cost
        self.corrupt, self.bottleneck, self.penalty = corrupt, bottleneck, penalty

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        pair = self.source(clip)
        features = pair.seen.shape[1] * features_of(encoder)
        channels = self.cost.outputs(pair.target.shape[1])
        if self.tied:
            self.decoder = TiedDecoder(channels)
            return
        self.decoder = MapDecoder(features, channels, stride_of(encoder), width=self.width)

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        pair = self.pair(clip)
        frame = pair.seen.flatten(0, 1)
        cells = encode(encoder, frame)
        read, limit = (cells, cells.new_zeros(())) if self.bottleneck is None else self.bottleneck(cells)
        cost = self.cost(self._decoded(encoder, read, pair), pair.target, pair.weight)
        losses = {"loss": cost + limit, "cost": cost}
        if self.bottleneck is not None:
            losses["bottleneck"] = limit
        if self.penalty is not None:
            losses["penalty"] = self.penalty(encoder, frame, cells)
            losses["loss"] = losses["loss"] + self.penalty_weight * losses["penalty"]
        return losses

    def refit(self, encoder: nn.Module, clips: Iterable[FrameClip]) -> None:
        self.cost.refit(gather(self.source(clip).target) for clip in clips)

    @torch.no_grad()
    def pictures(self, encoder: nn.Module, clip: FrameClip) -> Frames:
        """Returns the truth, the last frame seen if it differs, and what is given back where it was asked."""
        if not self.source.wants_frames:
            return {}
        pair = self.pair(clip)
        given = self.predict(encoder, pair)
        if pair.weight is not None:
            given = torch.lerp(pair.target, given, pair.weight.expand_as(given))
        last, channels = pair.seen[:, -1], pair.seen.shape[2]
        truth, given = pair.target[:, -channels:], given[:, -channels:]
        seen = {} if torch.equal(last, truth) else {"seen": last}
        return {"truth": truth, **seen, "given back": given}

    def pair(self, clip: FrameClip) -> Pair:
        """Returns what the encoder is shown of a clip, corrupted, and what is wanted of the decoder."""
        pair = self.source(clip)
        if self.corrupt is None:
            return pair
        seen, weight = self.corrupt(pair.seen.flatten(0, 1))
        return pair.corrupted(seen.unflatten(0, pair.seen.shape[:2]), weight)

    def predict(self, encoder: nn.Module, pair: Pair) -> Float[Tensor, "B C H W"]:
        """Returns what is given back of a pair, as a frame."""
        cells = encode(encoder, pair.seen.flatten(0, 1))
        read = cells if self.bottleneck is None else self.bottleneck(cells)[0]
        return self.cost.value(self._decoded(encoder, read, pair))

    def _decoded(
        self, encoder: nn.Module, cells: Float[Tensor, "B2 F H2 W2"], pair: Pair
    ) -> Float[Tensor, "B O H W"]:
        maps = cells.unflatten(0, pair.seen.shape[:2])
        if pair.visible is not None:
            maps = maps * pair.visible[..., None, None, None]
        read = maps.flatten(1, 2)
        if isinstance(self.decoder, TiedDecoder):
            return cropped(self.decoder(encoder, read), pair.target)
        return cropped(self.decoder(read), pair.target)
