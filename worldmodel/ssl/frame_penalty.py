"""What an auto-encoder's map may cost besides the frame that it gives back.

A penalty is called with the encoder, frames `(B, C, H, W)` and their map `(B, F, H, W)`, and is a scalar.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldmodel.nn import Configured, encode


class Contraction(Configured):
    """`|dh / dx|_F^2`, the mean over the batch, along random directions (Rifai et al. 2011).

    Args:
        num_probes: directions of the map, each of mean zero and covariance one; more of them: less noise.
    """

    def __init__(self, *, num_probes: int = 1) -> None:
        super().__init__()
        self.num_probes = num_probes

    def forward(
        self, encoder: nn.Module, frame: Float[Tensor, "B C H W"], cells: Float[Tensor, "B F H2 W2"]
    ) -> Float[Tensor, ""]:
        return jacobian_norm(lambda at: encode(encoder, at), frame, num_probes=self.num_probes)


def jacobian_norm(
    function: Callable[[Float[Tensor, "B *D"]], Float[Tensor, "B *E"]],
    point: Float[Tensor, "B *D"],
    *,
    num_probes: int,
) -> Float[Tensor, ""]:
    """Returns Hutchinson's estimate of `|d function / d point|_F^2`, differentiable; the mean of the rows."""
    with torch.enable_grad():
        at = point.detach().requires_grad_()
        out = function(at)
        total = out.new_zeros(())
        for _ in range(num_probes):
            signs = torch.randint(2, out.shape, device=out.device).to(out) * 2 - 1
            (pulled,) = torch.autograd.grad((out * signs).sum(), at, create_graph=True)
            total = total + pulled.square().sum()
    return total / (num_probes * len(point))


def sigmoid_jacobian_norm(weight: Float[Tensor, "E D"], hidden: Float[Tensor, "B E"]) -> Float[Tensor, ""]:
    """Returns `|dh / dx|_F^2 = sum_j (h_j (1 - h_j))^2 |w_j|^2` of `h = sigmoid(W x + b)`, exactly."""
    return ((hidden * (1 - hidden)).square() @ weight.square().sum(1)).mean()
