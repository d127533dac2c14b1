"""k-means: the energy `min_k |y - w_k|^2`, lowered by turns (Lloyd 1982)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def k_means(
    rows: Float[Tensor, "N D"], num_clusters: int, *, num_steps: int = 30
) -> tuple[Float[Tensor, "K D"], Int[Tensor, " N"]]:
    """Returns the centres and the nearest centre of each row; no cluster is empty.

    Starts from rows far apart (k-means++), drawn from torch's global generator. A cluster that loses its last
    row starts again at the row that is farthest from its centre.

    Raises:
        ValueError: there are fewer rows than clusters.
    """
    if len(rows) < num_clusters:
        raise ValueError(f"{len(rows)} rows for {num_clusters} clusters; give more rows")
    centres = _spread(rows, num_clusters)
    for _ in range(num_steps):
        far, label = torch.cdist(rows, centres).min(1)
        count = torch.bincount(label, minlength=num_clusters)
        total = torch.zeros_like(centres).index_add_(0, label, rows)
        centres = total / count.clamp_min(1)[:, None]
        empty = (count == 0).nonzero()[:, 0]
        centres[empty] = rows[far.topk(len(empty)).indices]
    return centres, torch.cdist(rows, centres).argmin(1)


def _spread(rows: Float[Tensor, "N D"], num_clusters: int) -> Float[Tensor, "K D"]:
    """Draws rows by the square of the distance from those before (Arthur and Vassilvitskii 2007)."""
    centres = [rows[torch.randint(len(rows), (1,), device=rows.device)[0]]]
    for _ in range(num_clusters - 1):
        far = torch.cdist(rows, torch.stack(centres)).min(1).values.square()
        centres.append(rows[torch.multinomial(far + 1e-12, 1)[0]])
    return torch.stack(centres)
