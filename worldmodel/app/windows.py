"""Held-out windows for the commands that question a trained model."""

import numpy as np

from worldmodel.app.compose import Config, UsageError, build
from worldmodel.data import Store
from worldmodel.data.datamodule import TrafficDataModule
from worldmodel.data.dataset import WindowDataset
from worldmodel.evaluation.probe import Probe
from worldmodel.types import Clip


def held_out(config: Config, probe: Probe, *, num: int) -> tuple[WindowDataset, list[Clip]]:
    """Returns the windows of `config.part`, and batches of `num` of them in random order.

    They are drawn as the model expects them.

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
    batches = np.array_split(order, -(-len(order) // config.batch_size))
    return dataset, [dataset.collate([dataset[int(i)] for i in batch]) for batch in batches]
