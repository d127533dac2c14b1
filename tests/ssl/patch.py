"""Small encoders and data for the proofs of reconstruction, and a fit that leaves nothing to chance."""

from functools import cache

import torch
from jaxtyping import Float
from sklearn.datasets import load_digits
from torch import Tensor, nn

from worldmodel.ssl import FrameClip, Objective


class PatchEncoder(nn.Module):
    """A linear code of each patch."""

    def __init__(self, channels: int, features: int, stride: tuple[int, int], *, bias: bool = False) -> None:
        super().__init__()
        self.features, self.stride = features, stride
        self.config = {"_target_": "tests.ssl.patch.PatchEncoder"}
        self.layers = nn.Sequential(nn.Conv2d(channels, features, stride, stride=stride, bias=bias))

    def forward(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F H2 W2"]:
        return self.layers(frame)


@cache
def digits() -> tuple[Float[Tensor, "B 1 8 8"], Tensor]:
    """Images in [0, 1], and which digit each shows."""
    found = load_digits()
    return torch.from_numpy(found.images).float()[:, None] / 16, torch.from_numpy(found.target)


def minimise(objective: Objective, encoder: nn.Module, clip: FrameClip, *, num_steps: int = 300) -> float:
    """Fits to one batch by L-BFGS, and returns the least loss found."""
    learnt = [*encoder.parameters(), *objective.parameters()]
    optimizer = torch.optim.LBFGS(
        learnt,
        max_iter=num_steps,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective(encoder, clip)["loss"]
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        return objective(encoder, clip)["loss"].item()


def learn(
    objective: Objective,
    encoder: nn.Module,
    clip: FrameClip,
    *,
    steps: int,
    lr: float = 3e-3,
    batch: int = 64,
) -> None:
    """Trains by Adam on rows drawn at random."""
    optimizer = torch.optim.Adam([*encoder.parameters(), *objective.parameters()], lr=lr)
    for _ in range(steps):
        chosen = torch.randint(clip.batch_size, (batch,))
        loss = objective(encoder, clip[chosen])["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
