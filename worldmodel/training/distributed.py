"""What several processes that train together have to agree on."""

import torch
from jaxtyping import Float
from torch import Tensor


def mean_over_processes(count: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Returns the mean of a number without gradient over all processes; itself where there is only one."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return count
    total = count.detach().clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()
