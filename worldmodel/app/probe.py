"""`worldmodel probe CKPT`: what does an encoder see of a traffic scene?

Labels that cost nothing in recorded traffic (gaps, offset, neighbours, urgency) are read off the embedding of
two frames by ridge regression and by the most similar scenes, fitted on one part of the split and scored on
another; beside an encoder that has learnt nothing and beside the pixels themselves. A page shows the scenes
that the encoder takes for similar, and a map of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from rich.console import Console
from rich.table import Table as Printed
from torch import Tensor, nn

from worldmodel.app.compose import Config, UsageError, build, require, show
from worldmodel.app.report import write_report
from worldmodel.app.run import Run, versions
from worldmodel.data import Store
from worldmodel.data.datamodule import TrafficDataModule
from worldmodel.data.dataset import WindowDataset
from worldmodel.evaluation.linear_probe import effective_rank, fit_ridge, nearest, r_squared
from worldmodel.evaluation.scene_label import LABELS, scene_labels
from worldmodel.models import load_encoder, load_model, read_checkpoint
from worldmodel.models.checkpoint import build as rebuild
from worldmodel.models.checkpoint import plain
from worldmodel.scene import Channel, RasterSpec
from worldmodel.ssl import Frames, Pretraining, embed_all, from_window
from worldmodel.viz import (
    Media,
    ReportInputs,
    Section,
    Table,
    encode_png,
    filter_grid,
    grid,
    paint_raster,
    scene_map,
)


@dataclass(frozen=True)
class Scenes:
    """Windows of two frames, their labels, the vehicle that saw them (recording, row), and what they show."""

    frames: Float[Tensor, "N T C H W"]
    label: Float[Tensor, "N L"]
    vehicle: Int[Tensor, "N 2"]
    spec: RasterSpec


@dataclass(frozen=True)
class Scores:
    """How well the labels are read off, each `(L,)`, and in how many directions embeddings vary."""

    ridge: Float[Tensor, " L"]
    similar: Float[Tensor, " L"]
    rank: float
    dim: int


def main(config: Config) -> None:
    """Embeds, fits, scores, prints, draws."""
    require(config, "checkpoint")
    torch.set_num_threads(config.threads)
    encoder, spec = load_encoder(config.checkpoint), spec_of(config.checkpoint)
    known = scenes(config, build(config.known), config.fit, spec=spec, seed=config.seed)
    asked = scenes(config, build(config.data), config.part, spec=spec, seed=config.seed)
    run = Run.start(config, "probe")
    torch.manual_seed(config.seed)
    rivals: dict[str, nn.Module] = {
        "encoder": encoder,
        "untrained": rebuild(plain(encoder.config)),
        "pixels": Pixels(tuple(encoder.stride), features=len(spec.channels)),  # type: ignore[arg-type]
    }
    with run.timed("probe"):
        found = {name: score(config, one, known, asked) for name, one in rivals.items()}
    run.write("probe.json", as_json(config, found, asked))
    with run.timed("draw"):
        frames = pictures(config, asked.spec)
        write_report(page(config, encoder, found, asked, frames=frames), run.folder)
    print_scores(found, len(asked.label), alarm=config.alarm)
    run.close()


class Pixels(nn.Module):
    """The frame itself as a map: pixels averaged over the cells of an encoder."""

    def __init__(self, stride: tuple[int, int], *, features: int) -> None:
        super().__init__()
        self.stride, self.features = stride, features
        self.pool = nn.AvgPool2d(stride)

    def forward(self, frame: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H2 W2"]:
        return self.pool(frame)


def raster_spec(channels: Sequence[str]) -> RasterSpec:
    """Returns the rasters that show these channels.

    Raises:
        UsageError: no such channel.
    """
    known = {one.name.lower(): one for one in Channel}
    if not channels or not set(channels) <= set(known):
        raise UsageError(f"channels={list(channels)}, expected some of {', '.join(known)}")
    return RasterSpec(channels=tuple(known[name] for name in channels))


def spec_of(checkpoint: str) -> RasterSpec:
    """Returns the rasters that the encoder of a checkpoint has learnt from."""
    channels = read_checkpoint(checkpoint)["extra"].get("channels")
    return RasterSpec() if channels is None else raster_spec(channels)


def scenes(config: Config, store: Store, part: str, *, spec: RasterSpec, seed: int) -> Scenes:
    """Returns `config.windows` random windows of a part of the split.

    Raises:
        UsageError: the split has no such part, or hardly a window in it.
    """
    dataset = windows_of(config, store, part, spec=spec, history=config.spacing + 1)
    order = np.random.default_rng(seed).permutation(len(dataset))[: config.windows]
    if len(order) < 2 * config.neighbours:
        raise UsageError(f"part={part} has {len(order)} windows; lower stride= or choose another part")
    batches = np.array_split(order, -(-len(order) // config.batch_size))
    clips = [dataset.collate([dataset[int(i)] for i in batch]) for batch in batches]
    frames = torch.cat([from_window(clip, spacing=config.spacing).frames for clip in clips])
    origin = torch.cat([clip.origin for clip in clips])
    label = scene_labels(store.recordings, origin.numpy(), spec=spec)
    return Scenes(frames, torch.from_numpy(label), origin[:, :2], spec)


def windows_of(config: Config, store: Store, part: str, *, spec: RasterSpec, history: int) -> WindowDataset:
    """Returns the windows of a part of the split.

    Raises:
        UsageError: the split has no such part.
    """
    module = TrafficDataModule(
        store.recordings, store.split, history=history, horizon=0, mirror=0.0,
        stride=config.stride, eval_stride=config.stride, spec=spec,
    )  # fmt: skip
    try:
        return module.dataset(part)
    except ValueError as error:
        raise UsageError(f"part={part}: {error}") from error


def score(config: Config, encoder: nn.Module, known: Scenes, asked: Scenes) -> Scores:
    """Returns the shares of the labels' variance that can be read off an encoder's maps."""
    cells = tuple(config.grid)
    old, new = (embed_all(encoder, one.frames.split(config.batch_size), grid=cells) for one in (known, asked))
    centre, scale = old.mean(0), old.std(0).clamp_min(1e-6)
    _, rows = nearest((new - centre) / scale, (old - centre) / scale, num=config.neighbours)
    return Scores(
        ridge=r_squared(fit_ridge(old, known.label)(new), asked.label),
        similar=r_squared(known.label[rows].mean(1), asked.label),
        rank=effective_rank(old),
        dim=old.shape[1],
    )


def as_json(config: Config, found: dict[str, Scores], asked: Scenes) -> dict[str, Any]:
    """Returns what `probe.json` holds."""
    return {"checkpoint": str(config.checkpoint), "part": config.part, "windows": len(asked.label)} | {
        name: {
            "mean_r2": float(one.ridge.mean()),
            "ridge_r2": dict(zip(LABELS, one.ridge.tolist(), strict=True)),
            "similar_r2": dict(zip(LABELS, one.similar.tolist(), strict=True)),
            "effective_rank": one.rank,
            "dim": one.dim,
            "is_collapsed": one.rank < config.alarm,
        }
        for name, one in found.items()
    }


def print_scores(found: dict[str, Scores], num: int, *, alarm: float) -> None:
    """Prints the table, and the alarm."""
    table = Printed("R2 by ridge / by similar scenes", title=f"{num} held-out windows")
    for name in found:
        table.add_column(name, justify="right", no_wrap=True)
    for row, label in enumerate(LABELS):
        table.add_row(label, *(f"{one.ridge[row]:.2f} / {one.similar[row]:.2f}" for one in found.values()))
    table.add_row("mean", *(f"{one.ridge.mean():.2f} / {one.similar.mean():.2f}" for one in found.values()))
    table.add_row("effective rank", *(f"{one.rank:.1f} of {one.dim}" for one in found.values()))
    Console().print(table)
    if found["encoder"].rank < alarm:
        Console(stderr=True).print(
            f"[red]collapsed: embeddings vary in {found['encoder'].rank:.1f} directions, "
            f"fewer than alarm={alarm:g}[/red]"
        )


# -- the page


def page(
    config: Config, encoder: nn.Module, found: dict[str, Scores], asked: Scenes, *, frames: Frames
) -> ReportInputs:
    """Returns what the page shows; `frames` are what the objective makes of some scenes."""
    rows: tuple[tuple[str, ...], ...] = tuple(
        (label.replace("_", " "), *(f"{one.ridge[row]:.2f}" for one in found.values()))
        for row, label in enumerate(LABELS)
    )
    embedding = embed_all(encoder, asked.frames.split(config.batch_size), grid=tuple(config.grid))
    return ReportInputs(
        title="What the encoder sees",
        headline="Mean R2: " + ", ".join(f"{name} {one.ridge.mean():.2f}" for name, one in found.items()),
        question=f"{config.checkpoint}, on {len(asked.label)} held-out windows.",
        sections=(
            Section("Labels", "R2 of a linear map from the embedding.", Table(("label", *found), rows)),
            *learnt_filters(encoder),
            *side_by_side(frames, asked.spec),
            Section("Similar scenes", SIMILAR, media=(similar_scenes(embedding, asked, seed=config.seed),)),
            Section("Map of scenes", MAP, media=(Media(_map(embedding, asked.label), "Scenes, projected."),)),
        ),
        made={"command": "worldmodel probe", "seed": str(config.seed), **versions()},
        config=show(config),
    )


SIMILAR = "Left a scene, then those of other vehicles whose embeddings are nearest to its."
MAP = "Every held-out scene, on the two directions in which embeddings vary most, coloured by labels."


def similar_scenes(
    embedding: Float[Tensor, "N D"], asked: Scenes, *, seed: int, num: int = 5, columns: int = 4
) -> Media:
    """Returns a picture of scenes and the scenes of other vehicles that are nearest to each."""
    picked = np.random.default_rng(seed).choice(len(embedding), size=num, replace=False).tolist()
    pictures = []
    for row in picked:
        others = (asked.vehicle != asked.vehicle[row]).any(1).nonzero().flatten()
        _, near = nearest(embedding[row : row + 1], embedding[others], num=min(columns - 1, len(others)))
        pictures.append(
            [
                paint_raster(asked.frames[one, -1].numpy(), asked.spec, scale=2)
                for one in (row, *others[near[0]].tolist())
            ]
        )
    titles = ["scene", *(f"{rank}." for rank in range(1, len(pictures[0])))]
    return Media(encode_png(grid(pictures, columns=titles)), "Scenes and their neighbours.")


def learnt_filters(encoder: nn.Module) -> tuple[Section, ...]:
    """Returns a picture of the kernels of the encoder's first convolution, if it has one."""
    layers = [one for one in encoder.modules() if isinstance(one, nn.Conv2d)]
    if not layers:
        return ()
    kernels = layers[0].weight.detach().cpu().transpose(0, 1)  # (C, F, h, w)
    picture = filter_grid(kernels.flatten(0, 1).numpy(), columns=kernels.shape[1], scale=10)
    lead = "Kernels of the first layer: a column each, a row for each channel of the raster."
    return (Section("Filters", lead, media=(Media(encode_png(picture), "White is positive."),)),)


def pictures(config: Config, spec: RasterSpec, *, num: int = 6) -> Frames:
    """Returns what the objective of a checkpoint, if it holds one, makes of held-out clips."""
    model = load_model(config.checkpoint)
    if not isinstance(model, Pretraining):
        return {}
    spacing = read_checkpoint(config.checkpoint)["extra"].get("spacing", config.spacing)
    dataset = windows_of(
        config, build(config.data), config.part, spec=spec, history=(model.shape[0] - 1) * spacing + 1
    )
    rows = np.random.default_rng(config.seed).permutation(len(dataset))[:num]
    clip = from_window(dataset.collate([dataset[int(row)] for row in rows]), spacing=spacing)
    torch.manual_seed(config.seed)
    frames = model.objective.pictures(model.encoder, clip)
    return {name: one[:: len(one) // len(rows)] for name, one in frames.items()}


def side_by_side(frames: Frames, spec: RasterSpec) -> tuple[Section, ...]:
    """Returns a picture with a row for each scene and a column for each name, if there are any."""
    if not frames:
        return ()
    rows = zip(*frames.values(), strict=True)
    painted = [[paint_raster(one.numpy(), spec, scale=2) for one in row] for row in rows]
    picture = encode_png(grid(painted, columns=list(frames)))
    lead = "What the objective that the encoder has learnt by makes of held-out scenes."
    return (Section("Frames given back", lead, media=(Media(picture, "A scene in each row."),)),)


def _map(embedding: Float[Tensor, "N D"], label: Float[Tensor, "N L"]) -> bytes:
    centred = embedding.double() - embedding.double().mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    at = (centred @ directions[:2].T).numpy()
    shown: Sequence[str] = ("gap_ahead", "num_vehicles", "urgency")
    return scene_map(at, {name: label[:, LABELS.index(name)].numpy() for name in shown})
