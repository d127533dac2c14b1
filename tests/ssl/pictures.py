"""`python -m tests.ssl.pictures`: the pictures of docs/ssl.md, or those that are named; some minutes."""

import io
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from skimage import data
from torch import Tensor, nn

from tests.ssl import patch
from tests.ssl import test_autoencoder_energy as plane_codes
from tests.ssl.patch import digits
from tests.ssl.patch_training import PatchEncoder, learn
from tests.ssl.photos import patches
from tests.ssl.test_reconstruct import squares
from tests.ssl.toys import distance_to, plane, spiral
from worldmodel.app.compose import compose
from worldmodel.data import Span
from worldmodel.data.dataset import WindowDataset, windows
from worldmodel.data.sample import us101
from worldmodel.data.smooth import make_consistent
from worldmodel.models.checkpoint import build
from worldmodel.nn import FrameCost, QuantisedCrossEntropy, SquaredError
from worldmodel.scene import RasterSpec
from worldmodel.ssl import (
    FISTA,
    L1,
    Colours,
    FrameClip,
    GaussianNoise,
    Guess,
    Latent,
    Means,
    Nearest,
    NonNegative,
    NonNegativeUnit,
    PatchDictionary,
    Reconstruct,
    Topographic,
    blank,
    coloured,
    from_window,
)
from worldmodel.viz.draw import paint_raster
from worldmodel.viz.filters import filter_grid
from worldmodel.viz.layout import encode_png, grid

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


def strokes() -> Latent:
    """A sparse auto-encoder of digits, nothing below zero (B6)."""
    objective = Latent(
        PatchDictionary(64, columns=NonNegativeUnit()), penalty=NonNegative(0.05), infer=Guess()
    )
    learn(objective, digits()[0], encoder=PatchEncoder(1, 8, 64), steps=300, lr=0.02, batch=200)
    return objective


def clusters() -> bytes:
    """The energy of k-means on a spiral, half the squared distance from the nearest centre (D2)."""
    rows = spiral(1000)
    objective = Latent(PatchDictionary(20, columns=Means()), infer=Nearest())
    model = learn(objective, rows[..., None, None], encoder=PatchEncoder(2, 1, 8), steps=0)
    points = plane(241)
    with torch.no_grad():
        problem = objective.problem(model.encoder, points[..., None, None])
        energy = 0.5 * (objective.dictionary(objective.infer(problem)) - problem.target).square().sum(1)
    figure, axis = of_the_plane(energy)
    axis.scatter(*rows[::3].T, s=3, color="tab:red")
    axis.scatter(*objective.dictionary.weight.detach(), s=28, color="black", marker="x")
    return png(figure)


def denoised() -> bytes:
    """Where a denoising auto-encoder takes points near a spiral (half of the way), over its energy (D6)."""
    rows, encoder = spiral(1000), plane_codes.Points(32)
    objective = plane_codes.made(
        encoder, Reconstruct(cost=SquaredError(), corrupt=GaussianNoise(std=0.2)), rows
    )
    plane_codes.learn(encoder, objective, rows, num_steps=1500, lr=5e-3)

    def moves(points: Tensor) -> Tensor:
        return plane_codes.given_back(encoder, objective, points) - points

    figure, axis = of_the_plane(moves(plane(161)).square().sum(-1))
    points = plane(33)
    points = points[distance_to(points, rows) < 0.35]  # noise leads no further
    axis.quiver(*points.T, *moves(points).T, angles="xy", scale_units="xy", scale=2.0, width=0.004)
    axis.scatter(*rows[::3].T, s=3, color="tab:red")
    return png(figure)


def of_the_plane(energy: Tensor) -> tuple[Figure, Axes]:
    """A figure of an energy of the points of `plane`, dark where it is high."""
    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    axis = figure.add_subplot()
    side = round(len(energy) ** 0.5)
    shown = energy.unflatten(0, (side, side)).T.sqrt()
    axis.imshow(shown, extent=(-1.2, 1.2, -1.2, 1.2), origin="lower", cmap="Blues", vmax=0.5)
    axis.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), xticks=[], yticks=[])
    return figure, axis


def colourings() -> bytes:
    """One of the photographs learnt from: what is seen, its colours by two costs, and the truth (G5)."""
    classes = {"num_levels": 11, "low": -1.0, "high": 1.0, "channels": 2}
    costs: dict[str, FrameCost] = {
        "squared error": SquaredError(),
        "classes, rare ones weighted": QuantisedCrossEntropy(**classes, rebalance=0.5),
    }
    photo = data.coffee()
    tiles = torch.cat([squares(one, 16) for one in (data.astronaut(), data.chelsea(), data.rocket(), photo)])
    wanted = squares(photo, 16)
    shown = {}
    for name, cost in costs.items():
        torch.manual_seed(0)
        encoder = patch.PatchEncoder(3, 32, (4, 4))
        encoder.layers.extend([nn.SiLU(), nn.Conv2d(32, 32, 3, padding=1)])
        objective = Reconstruct(width=0, source=Colours(), cost=cost)
        objective.attach(encoder, blank((1, 3, 16, 16)))
        clip = FrameClip(frames=tiles[:, None])
        objective.refit(encoder, [clip])
        patch.learn(objective, encoder, clip, steps=400, lr=5e-3, batch=32)
        with torch.no_grad():
            pair = objective.pair(FrameClip(frames=wanted[:, None]))
            shown[name] = coloured(pair.seen[:, 0], objective.predict(encoder, pair))
    shown = {"seen": coloured(pair.seen[:, 0], torch.zeros_like(pair.target)), **shown, "truth": wanted}
    figure = Figure(figsize=(9.0, 1.9), layout="constrained")
    for axis, (name, frames) in zip(figure.subplots(1, len(shown)), shown.items(), strict=True):
        axis.imshow(together(frames, columns=photo.shape[1] // 4 // 16).clip(0, 1))
        axis.set_title(name, fontsize=9)
        axis.set_axis_off()
    return png(figure)


def given_back() -> bytes:
    """Traffic of block B of US-101, given back by systems that have seen block A."""
    known, new = traffic("A", 500), traffic("B", 3)
    shown = {"truth": new}
    for system, encoder in {
        "autoencoder": "small",
        "variational": "small",
        "sparse_coding": "small",
        "mae": "patches",
    }.items():
        torch.manual_seed(0)
        config = compose("pretrain", [f"ssl={system}", f"encoder={encoder}"])
        net, objective = (
            build(OmegaConf.to_container(one, resolve=True)) for one in (config.encoder, config.ssl)
        )
        model = learn(objective, known, encoder=net, steps=200, lr=4e-3, batch=24).eval()
        frames = model.objective.pictures(model.encoder, FrameClip(frames=new[:, None]))
        shown |= {f"{system}: {name}": frames[name] for name in ("seen", "given back") if name in frames}
    painted = [
        [paint_raster(one.numpy(), RasterSpec(), scale=2) for one in frames] for frames in shown.values()
    ]
    return encode_png(grid(painted, rows=[name.replace("_", " ") for name in shown]))


def traffic(block: str, number: int) -> Tensor:
    """Frames of a block of US-101, evenly drawn from all of it, `(N, C, H, W)` in [0, 1]."""
    recording = make_consistent(us101(block))
    index = windows([recording], [Span(recording.name, 0, recording.tracks.num_frames)], history=1, horizon=0)
    dataset = WindowDataset([recording], index, history=1, horizon=0)
    chosen = np.linspace(0, len(dataset) - 1, number).astype(int)
    return from_window(dataset.collate([dataset[int(row)] for row in chosen])).frames[:, 0]


def together(tiles: Tensor, *, columns: int) -> np.ndarray:
    """Square tiles, row by row, as one picture."""
    rows = tiles.unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2)  # (R, H, K, W, C)
    return rows.flatten(2, 3).flatten(0, 1).numpy()


def png(figure: Figure) -> bytes:
    """The figure as a file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()


def filters(objective: Latent) -> bytes:
    """Atoms of square patches."""
    atoms = objective.dictionary.weight.detach().T
    side = round(atoms.shape[1] ** 0.5)
    return encode_png(filter_grid(atoms.unflatten(1, (side, side)).numpy(), scale=40 // side))


PICTURES = {
    "psd": lambda: filters(edges()),
    "topographic": lambda: filters(sheet()),
    "strokes": lambda: filters(strokes()),
    "clusters": clusters,
    "denoised": denoised,
    "colourings": colourings,
    "given_back": given_back,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        torch.manual_seed(0)
        (IMAGES / f"{name}.png").write_bytes(PICTURES[name]())
