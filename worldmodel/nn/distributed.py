"""What several processes that train together have to share in the middle of a loss."""

import torch
from jaxtyping import Float
from torch import Tensor


def gather(rows: Float[Tensor, "B *D"]) -> Float[Tensor, "B2 *D"]:
    """Returns the rows of all processes, in their order, with gradient; the same where there is only one.

    Losses that look at a whole batch (its variance, its other rows) gather their embeddings first. Averaged
    over the processes, as DDP does, their gradients are then those of one process with the whole batch.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    return _Gather.apply(rows)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        whole = gradients[0].contiguous()
        torch.distributed.all_reduce(whole)
        return whole.chunk(torch.distributed.get_world_size())[torch.distributed.get_rank()]
