"""Recordings and their split as Lightning's loaders. The only module here that knows Lightning."""

from collections.abc import Iterator, Sequence

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from worldmodel.data.dataset import FutureViews, WindowDataset, comoving_future, windows
from worldmodel.data.split import PARTS, Span, Split
from worldmodel.scene import RasterSpec, Recording, RoadSpec
from worldmodel.types import Clip


class MirrorSampler(Sampler[int]):
    """Goes through `num_windows` windows in random order, each with probability `mirror` as its mirror image.

    The mirror image of window `i` is item `i + num_windows` of the dataset. An epoch's order depends on
    `seed` and the epoch's number alone, so a resumed training sees what an uninterrupted one would have.
    """

    def __init__(self, num_windows: int, *, mirror: float, seed: int) -> None:
        self.num_windows, self.mirror, self.seed = num_windows, mirror, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next pass is; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_windows

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.epoch += 1
        order = torch.randperm(self.num_windows, generator=generator)
        mirrored = torch.rand(self.num_windows, generator=generator) < self.mirror
        yield from (order + mirrored * self.num_windows).tolist()


class TrafficDataModule(lightning.LightningDataModule):
    """Batches of windows (`Clip`) from recordings.

    Training windows come in random order, mirrored left to right with probability `mirror`; the `origin` of a
    mirrored window counts recordings on after the last (`dataset.recordings` has both). Validation and test
    windows come as recorded, in order.

    Args:
        recordings: consistent (`make_consistent`), with one common `dt`.
        split: which frames are for what.
        history: frames up to the present.
        horizon: frames after it.
        stride: between the training windows of a vehicle [frames].
        eval_stride: between its validation or test windows.
        batch_size: windows per batch.
        mirror: probability.
        spec: of the rasters.
        road_spec: of the road patch.
        future_views: where the future is drawn.
        num_workers: processes that draw; 0 draws in this one, which is fast enough for most models.
        seed: of the order and the mirroring.

    Example:
        >>> from worldmodel.data import make_recording
        >>> recording = make_recording(num_vehicles=3, num_frames=60)
        >>> split = Split(train=(Span(recording.name, 0, 60),))
        >>> module = TrafficDataModule([recording], split, batch_size=8)
        >>> next(iter(module.train_dataloader())).image.shape
        torch.Size([8, 40, 3, 117, 24])
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        split: Split,
        *,
        history: int = 10,
        horizon: int = 30,
        stride: int = 1,
        eval_stride: int = 10,
        batch_size: int = 64,
        mirror: float = 0.5,
        spec: RasterSpec = RasterSpec(),  # noqa: B008 - frozen
        road_spec: RoadSpec = RoadSpec(),  # noqa: B008 - frozen
        future_views: FutureViews = comoving_future,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1 or not 0.0 <= mirror <= 1.0:
            raise ValueError(
                f"batch_size={batch_size}, mirror={mirror}: expected at least 1, and a probability"
            )
        self.recordings, self.split = tuple(recordings), split
        self.history, self.horizon = history, horizon
        self.stride, self.eval_stride = stride, eval_stride
        self.batch_size, self.mirror = batch_size, mirror
        self.spec, self.road_spec, self.future_views = spec, road_spec, future_views
        self.num_workers, self.seed = num_workers, seed
        self._datasets: dict[str, WindowDataset] = {}

    def dataset(self, part: str) -> WindowDataset:
        """Returns the windows of `train`, `val` or `test`; in training their mirror images follow.

        Raises:
            ValueError: the split has no such part, or no window fits into it.
        """
        if part not in self._datasets:
            self._datasets[part] = self._make_dataset(part)
        return self._datasets[part]

    def train_dataloader(self) -> DataLoader[Clip]:
        """Returns the training batches."""
        dataset = self.dataset("train")
        num_windows = len(dataset) // 2 if self.mirror else len(dataset)
        sampler = MirrorSampler(num_windows, mirror=self.mirror, seed=self.seed)
        return self._loader(dataset, sampler, drop_last=num_windows >= self.batch_size)

    def val_dataloader(self) -> DataLoader[Clip]:
        """Returns the validation batches."""
        return self._loader(self.dataset("val"))

    def test_dataloader(self) -> DataLoader[Clip]:
        """Returns the test batches."""
        return self._loader(self.dataset("test"))

    def _make_dataset(self, part: str) -> WindowDataset:
        is_train = part == "train"
        index = self._index(part, self.stride if is_train else self.eval_stride)
        recordings = self.recordings
        if is_train and self.mirror:
            index = np.concatenate([index, index + np.array([len(recordings), 0, 0])])
            recordings = (*recordings, *(one.mirror() for one in recordings))
        return WindowDataset(
            recordings,
            index,
            history=self.history,
            horizon=self.horizon,
            spec=self.spec,
            road_spec=self.road_spec,
            future_views=self.future_views,
        )

    def _index(self, part: str, stride: int) -> np.ndarray:
        if part not in PARTS:
            raise ValueError(f"part {part!r}, expected one of {PARTS}")
        spans: tuple[Span, ...] = getattr(self.split, part)
        if not spans:
            raise ValueError(f"the split has no frames for {part}; split anew, or do without it")
        try:
            return windows(self.recordings, spans, history=self.history, horizon=self.horizon, stride=stride)
        except ValueError as error:
            raise ValueError(f"{part}: {error}") from None

    def _loader(
        self, dataset: WindowDataset, sampler: Sampler[int] | None = None, *, drop_last: bool = False
    ) -> DataLoader[Clip]:
        return DataLoader(
            dataset,  # type: ignore[arg-type]
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            collate_fn=dataset.collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )
