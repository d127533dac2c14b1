"""Training on single patches: an encoder that is one linear map, and an objective, by Adam."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from worldmodel.ssl import FrameClip, Objective, Pretraining


class PatchEncoder(nn.Module):
    """A patch, and `reach` pixels around it -> a cell of features; linear, but for what comes after."""

    def __init__(
        self, channels: int, side: int, features: int, *, reach: int = 0, after: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.features, self.stride = features, (side, side)
        self.linear = nn.Conv2d(channels, features, side + 2 * reach, stride=side, padding=reach)
        self.after = nn.Identity() if after is None else after

    def forward(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F H2 W2"]:
        return self.after(self.linear(frame))


def clip_of(frames: Float[Tensor, "B C H W"], label: Int[Tensor, " B"] | None = None) -> FrameClip:
    return FrameClip(frames=frames[:, None], label=label)


def learn(
    objective: Objective,
    frames: Float[Tensor, "N C H W"],
    *,
    encoder: nn.Module,
    steps: int,
    lr: float = 0.03,
    batch: int = 256,
    label: Int[Tensor, " N"] | None = None,
) -> Pretraining:
    """Returns encoder and objective after steps on random frames."""
    model = Pretraining(encoder, objective, (1, *frames.shape[1:]))
    objective.refit(encoder, [clip_of(frames)])
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        chosen = torch.randint(len(frames), (batch,))
        loss = model(clip_of(frames[chosen], None if label is None else label[chosen]))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step(encoder)
    return model
