"""`python -m tests.ssl.pictures`: the filters shown in docs/ssl.md, learnt from photographs; some minutes."""

from pathlib import Path

import torch

from tests.ssl.patch_training import PatchEncoder, learn
from tests.ssl.photos import patches
from worldmodel.ssl import FISTA, L1, Latent, PatchDictionary, Topographic
from worldmodel.viz.filters import filter_grid
from worldmodel.viz.layout import encode_png

IMAGES = Path(__file__).parents[2] / "docs" / "images"


def edges() -> Latent:
    """Predictive sparse decomposition of patches of 12 x 12 pixels (B4)."""
    objective = Latent(PatchDictionary(196), penalty=L1(1.0), infer=FISTA(12), pull=0.3)
    learn(objective, patches(20_000, 12), encoder=PatchEncoder(1, 12, 196), steps=300)
    return objective


def sheet() -> Latent:
    """Units on a sheet, in pools that overlap (B14)."""
    penalty = Topographic(12, 12, weight=0.3, side=3, floor=0.1)
    objective = Latent(PatchDictionary(144), penalty=penalty, infer=FISTA(15))
    learn(objective, patches(5000, 12), encoder=PatchEncoder(1, 12, 16), steps=300, lr=0.05, batch=200)
    return objective


if __name__ == "__main__":
    for name, make in (("psd", edges), ("topographic", sheet)):
        torch.manual_seed(0)
        filters = make().dictionary.weight.detach().T.unflatten(1, (12, 12))
        (IMAGES / f"{name}.png").write_bytes(encode_png(filter_grid(filters.numpy(), scale=3)))
