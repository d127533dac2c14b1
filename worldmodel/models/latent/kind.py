"""Which latents a gradient may move: those that are not limited by the values they take."""

from torch import nn

from worldmodel.models.latent.base import Latent
from worldmodel.models.latent.discrete import CategoricalLatent, VectorQuantisedLatent
from worldmodel.models.latent.sparse import L0Latent, SparseLatent, WinnerTakeAllLatent
from worldmodel.models.latent.wrapper import TruncatedLatent

RESTRICTED = (
    CategoricalLatent,
    VectorQuantisedLatent,
    WinnerTakeAllLatent,
    SparseLatent,
    L0Latent,
    TruncatedLatent,
)
"""Latents that are limited by the values they take: one of a set, or few entries that are not zero."""


def takes_any_value(latent: Latent) -> bool:
    """Returns whether every value near one of z's is one that z could take, so that descent in z makes sense.

    False for one of a set (categories, codes, winners), and where most entries are zero: a step along the
    gradient would leave the values that limit such a z, and what it finds says nothing of it. A latent within
    another (patches, dropout) decides.

    Example:
        >>> from worldmodel.models import GaussianLatent
        >>> takes_any_value(GaussianLatent(4, 4, dim=2)), takes_any_value(CategoricalLatent(4, 4))
        (True, False)
    """
    assert isinstance(latent, nn.Module)
    return not any(isinstance(part, RESTRICTED) for part in latent.modules())
