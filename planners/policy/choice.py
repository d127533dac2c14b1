"""A head that chooses among a few actions: what value-based learners (DQN) end up with."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ChoiceHead(nn.Module):
    """The raw action with the highest score; as a density, that of the choice nearest to a raw action.

    Args:
        features: that it reads.
        accel: raw accelerations to choose from, 1 being full braking.
        curvature: raw curvatures, 1 being the tightest turn at the present speed; every pair is a choice.
    """

    num_noise = 0
    table: Tensor

    def __init__(
        self,
        features: int = 128,
        *,
        accel: Sequence[float] = (-0.5, -0.15, 0.0, 0.15, 0.3),
        curvature: Sequence[float] = (-0.15, 0.0, 0.15),
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "_target_": f"{__name__}.ChoiceHead",
            "features": features,
            "accel": list(accel),
            "curvature": list(curvature),
        }
        self.register_buffer("table", torch.tensor(list(product(accel, curvature))), persistent=False)
        self.linear = nn.Linear(features, len(self.table))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self, features: Float[Tensor, "B F"], noise: Float[Tensor, "B E"] | None = None
    ) -> Float[Tensor, "B 2"]:
        """Returns the best choice; there is no noise to use."""
        return self.table[self.linear(features).argmax(-1)]

    def log_prob(self, features: Float[Tensor, "B F"], raw: Float[Tensor, "B 2"]) -> Float[Tensor, " B"]:
        """Returns the log probability of the choice nearest to `raw`, scores being logits."""
        nearest = torch.cdist(raw, self.table).argmin(-1, keepdim=True)
        scores: Tensor = self.linear(features).log_softmax(-1)
        return scores.gather(1, nearest).squeeze(1)
