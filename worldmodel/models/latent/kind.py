"""What values a latent may take: any, few, or one of a set."""

from torch import nn

from worldmodel.models.latent.base import Latent
from worldmodel.models.latent.discrete import CategoricalLatent, VectorQuantisedLatent
from worldmodel.models.latent.sparse import L0Latent, SparseLatent, WinnerTakeAllLatent
from worldmodel.models.latent.wrapper import TruncatedLatent

DISCRETE = (CategoricalLatent, VectorQuantisedLatent)
"""Latents that are one of finitely many values."""
RESTRICTED = (
    *DISCRETE,
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
    return not _holds(latent, RESTRICTED)


def is_discrete(latent: Latent) -> bool:
    """Returns whether z is one of finitely many values, so that a number along one of its dimensions is none.

    A latent within another (patches, dropout) decides.

    Example:
        >>> from worldmodel.models import GaussianLatent
        >>> is_discrete(CategoricalLatent(4, 4)), is_discrete(GaussianLatent(4, 4, dim=2))
        (True, False)
    """
    return _holds(latent, DISCRETE)


def _holds(latent: Latent, kinds: tuple[type[nn.Module], ...]) -> bool:
    assert isinstance(latent, nn.Module)
    return any(isinstance(part, kinds) for part in latent.modules())
