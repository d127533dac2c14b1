"""Training windows of 30 frames per second and core, drawn from the shipped recording batch by batch."""

from itertools import islice

import numpy as np
import torch
from _report import parse, rate, report

from worldmodel.data import us101, us101_split
from worldmodel.data.datamodule import TrafficDataModule
from worldmodel.data.smooth import make_consistent

BATCH, BATCHES = 64, 10


def main() -> None:
    json_path = parse(__doc__)
    torch.set_num_threads(1)
    recordings = [make_consistent(us101(block)) for block in "AB"]
    module = TrafficDataModule(recordings, us101_split(), history=10, horizon=20, batch_size=BATCH)
    dataset, loader = module.dataset("train"), module.train_dataloader()
    items = np.random.default_rng(0).permutation(len(dataset))[: BATCH * BATCHES].reshape(BATCHES, BATCH)

    def collate() -> None:
        for batch in items:
            dataset.collate([dataset[item] for item in batch])

    def pass_once() -> None:
        for _ in islice(loader, BATCHES):
            pass

    rows = {
        "windows_per_s_core": rate(collate, count=items.size),
        "loader_windows_per_s_core": rate(pass_once, count=BATCHES * BATCH, repeats=3),
        "windows": len(dataset),
        "vehicles_per_frame": float(recordings[0].tracks.valid.sum(0).mean()),
    }
    report("loader", rows, json_path)


if __name__ == "__main__":
    main()
