"""Held-out windows for the commands that question a trained model."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int

from worldmodel.app.compose import Config, UsageError, build, require
from worldmodel.app.precheck import check_device
from worldmodel.data import Store
from worldmodel.data.datamodule import TrafficDataModule
from worldmodel.data.dataset import WindowDataset
from worldmodel.evaluation.probe import Probe, probe_of
from worldmodel.models import load_model
from worldmodel.types import Clip

Batches = Sequence[Int[np.ndarray, " _"]]
"""Which windows of a data set come together."""
Arrange = Callable[[Batches, Int[np.ndarray, " W"]], Batches]
"""Batches, and the vehicle of every window of the data set -> the same windows in another order."""


def load_probe(config: Config) -> Probe:
    """Returns what asks the model of `config.checkpoint`, on `config.device`.

    Raises:
        UsageError: no checkpoint is given, or there is no such device.
    """
    require(config, "checkpoint")
    check_device(config.device)
    return probe_of(load_model(config.checkpoint, device=config.device))


def held_out(
    config: Config,
    probe: Probe,
    *,
    num: int,
    arrange: Arrange | None = None,
    scored_rows: int | None = None,
) -> tuple[WindowDataset, list[Clip]]:
    """Returns the windows of `config.part`, and batches of `num` of them in random order.

    They are drawn as the model expects them, and are on `config.device`.

    Args:
        arrange: what comes beside what; None leaves it to chance.
        scored_rows: see `only_middle`, as far as models of longer rasters are to be compared with others.

    Raises:
        UsageError: when the split has no such part, or fewer than two windows in it.
    """
    store: Store = build(config.data)
    module = TrafficDataModule(
        store.recordings,
        store.split,
        history=probe.model.history,
        horizon=config.horizon,
        stride=config.stride,
        eval_stride=config.stride,
        mirror=0.0,
        spec=probe.model.spec,
        future_views=probe.views,
    )
    try:
        dataset = module.dataset(config.part)
    except ValueError as error:
        raise UsageError(f"part={config.part}: {error}") from error
    order = np.random.default_rng(config.seed).permutation(len(dataset))[:num]
    if len(order) < 2:
        raise UsageError(f"{len(order)} window to look at, two are needed; raise windows= or lower stride=")
    vehicle = np.unique(dataset.index[:, :2], axis=0, return_inverse=True)[1].ravel()
    batches: Batches = np.array_split(order, -(-len(order) // config.batch_size))
    batches = arrange(batches, vehicle) if arrange else batches
    clips = [dataset.collate([dataset[int(i)] for i in batch]) for batch in batches]
    return dataset, [only_middle(clip, scored_rows).to(config.device) for clip in clips]


def only_middle(clip: Clip, num_rows: int | None) -> Clip:
    """Returns the clip as if only the middle rows of its rasters had been recorded: no score sees others.

    Args:
        num_rows: that stay; None, or as many as there are: all.

    Raises:
        UsageError: the middle of the rasters is not that of so many rows.
    """
    height = clip.covered.shape[-1]
    if num_rows is None or num_rows >= height:
        return clip
    cut, uneven = divmod(height - num_rows, 2)
    if uneven:
        raise UsageError(
            f"scored_rows={num_rows} do not lie in the middle of {height}; make both odd or both even"
        )
    covered = torch.zeros_like(clip.covered)
    covered[..., cut : height - cut] = clip.covered[..., cut : height - cut]
    return replace(clip, covered=covered)


def vehicles_apart(batches: Batches, vehicle: Int[np.ndarray, " W"], *, first: int) -> Batches:
    """Swaps windows until those that exchange something are of different vehicles, as far as swaps get.

    Neighbours in a batch do, its last window with its first, and so do the `first` windows of the first batch
    among themselves. The windows of all batches together, and the sizes of the batches, stay.

    Example:
        >>> vehicles_apart([np.array([0, 1, 2, 3])], np.array([7, 7, 8, 9]), first=4)
        [array([3, 1, 2, 0])]
    """
    order, ends = np.concatenate(batches), np.cumsum([len(one) for one in batches])[:-1]
    places = np.split(np.arange(len(order)), ends)
    rings = [places[0][:first], *places]
    pairs = np.concatenate([np.stack([ring, np.roll(ring, -1)], axis=1) for ring in rings])
    while (better := _with_fewer_meetings(order, vehicle, pairs)) is not None:
        order = better
    return np.split(order, ends)


def _with_fewer_meetings(
    order: Int[np.ndarray, " N"], vehicle: Int[np.ndarray, " W"], pairs: Int[np.ndarray, "P 2"]
) -> Int[np.ndarray, " N"] | None:
    """Swaps two windows so that fewer pairs are of one vehicle; None where no swap does."""

    def meets(one: Int[np.ndarray, " N"]) -> np.ndarray:
        met: np.ndarray = vehicle[one[pairs[:, 0]]] == vehicle[one[pairs[:, 1]]]
        return met

    now = meets(order)
    for here in np.unique(pairs[now]):
        for there in range(len(order)):
            swapped = order.copy()
            swapped[[here, there]] = order[[there, here]]
            if meets(swapped).sum() < now.sum():
                return swapped
    return None
