"""Which of the shipped latents a gradient may move, and which are discrete."""

from pathlib import Path

import pytest

from tests.models.latent.test_conformance import WITH_Z, make, name_of
from worldmodel.models.latent import (
    CategoricalLatent,
    GaussianLatent,
    LatentDropout,
    LocalLatent,
    is_discrete,
    takes_any_value,
)

RESTRICTED = {
    "categorical",
    "l0",
    "sparse",
    "sparse_coding",
    "sparse_coding_ista",
    "truncated",
    "vector_quantised",
    "winners",
}


@pytest.mark.parametrize("path", WITH_Z, ids=name_of)
def test_values_that_limit_z_are_not_to_be_left(path: Path) -> None:
    assert takes_any_value(make(path)) == (path.stem not in RESTRICTED)


@pytest.mark.parametrize("path", WITH_Z, ids=name_of)
def test_one_of_finitely_many_values_is_discrete(path: Path) -> None:
    assert is_discrete(make(path)) == (path.stem in {"categorical", "vector_quantised"})


def test_the_latent_within_decides() -> None:
    assert takes_any_value(LocalLatent(LatentDropout(GaussianLatent(4, 4, dim=2))))
    wrapped = LocalLatent(LatentDropout(CategoricalLatent(4, 4)))
    assert is_discrete(wrapped) and not takes_any_value(wrapped)
