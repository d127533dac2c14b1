"""A decoder that listens only: what an embedding says of some channels, without changing the embedding."""

from torch import nn

from worldmodel.nn import BinaryCrossEntropy, MapDecoder, cropped, encode, features_of, stride_of
from worldmodel.ssl.clip import FrameClip
from worldmodel.ssl.objective import Losses, Objective


class ReadOut(Objective):
    """Some channels of each frame, decoded from the map; no gradient reaches the encoder.

    It makes an embedding that was never trained to reconstruct legible to costs. Beside another objective in
    a `Sum` only: alone, the encoder learns nothing.

    Args:
        channel: of the frame that is read.
        width: channels of the decoder's hidden layer.
    """

    decoder: MapDecoder

    def __init__(self, channel: int = 1, *, width: int = 32) -> None:
        super().__init__()
        self.channel, self.width = channel, width
        self.cost = BinaryCrossEntropy()

    def attach(self, encoder: nn.Module, clip: FrameClip) -> None:
        self.decoder = MapDecoder(features_of(encoder), 1, stride_of(encoder), width=self.width)

    def forward(self, encoder: nn.Module, clip: FrameClip) -> Losses:
        frame = clip.frames.flatten(0, 1)
        logits = self.decoder(encode(encoder, frame).detach())
        target = frame[:, self.channel : self.channel + 1]
        return {"loss": self.cost(cropped(logits, target), target)}
