"""Recordings and their split as Lightning's loaders. The only module here that knows Lightning."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import lightning
import numpy as np
import torch
from torch.utils.data import Sampler

from worldmodel.data.background import BackgroundLoader
from worldmodel.data.dataset import FutureViews, WindowDataset, comoving_future, windows
from worldmodel.data.sampler import MirrorSampler, StepSampler, balanced
from worldmodel.data.split import PARTS, Span, Split
from worldmodel.scene import RasterSpec, Recording, RoadSpec
from worldmodel.types import Clip


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
        ahead: batches that a thread draws before they are asked for; 0: none.
        val_batches: how many batches of validation windows, spread evenly over all; None: all.
        curriculum: step and share of the training that is over -> frames of future that the training clips of
            that step are cut to; None: all.
        balance: draws a recording of `n` windows in proportion to `n ** (1 - balance)`, so that a long one
            does not drown the others: 0 as they are, 1 all recordings alike.
        seed: of the order and the mirroring.

    Attributes:
        steps: the training steps whose batches `train_dataloader` gives; None (at first): one epoch.
        augment: changes each training batch once it is where it is needed; None (at first): nothing does.
        elapsed: share of a time budget that is used up; at first there is none.

    With several processes (`Trainer(use_distributed_sampler=False)`) each gets its part of the training
    windows and all of the others.

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
        ahead: int = 0,
        val_batches: int | None = None,
        curriculum: Callable[[int, float], int] | None = None,
        balance: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1 or not 0.0 <= mirror <= 1.0 or not 0.0 <= balance <= 1.0:
            raise ValueError(
                f"batch_size={batch_size}, mirror={mirror}, balance={balance}: expected at least 1, and a "
                "probability and a share between 0 and 1"
            )
        self.recordings, self.split = tuple(recordings), split
        self.history, self.horizon = history, horizon
        self.stride, self.eval_stride = stride, eval_stride
        self.batch_size, self.mirror = batch_size, mirror
        self.spec, self.road_spec, self.future_views = spec, road_spec, future_views
        self.num_workers, self.ahead, self.val_batches = num_workers, ahead, val_batches
        self.curriculum, self.balance, self.seed = curriculum, balance, seed
        self.steps: range | None = None
        self.augment: Callable[[Clip], Clip] | None = None
        self.elapsed: Callable[[], float] = lambda: 0.0
        self._datasets: dict[str, WindowDataset] = {}

    def dataset(self, part: str) -> WindowDataset:
        """Returns the windows of `train`, `val` or `test`; in training their mirror images follow.

        Raises:
            ValueError: the split has no such part, or no window fits into it.
        """
        if part not in self._datasets:
            self._datasets[part] = self._make_dataset(part)
        return self._datasets[part]

    def train_dataloader(self) -> BackgroundLoader:
        """Returns the training batches: those of `steps`, or of one epoch."""
        return self.train_batches(self.steps)

    def train_batches(self, steps: range | None) -> BackgroundLoader:
        """Returns the training batches of some steps, or of one epoch."""
        dataset = self.dataset("train")
        num_windows = len(dataset) // 2 if self.mirror else len(dataset)
        rank, num_ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        recording = torch.as_tensor(dataset.index[:num_windows, 0])
        sampler = MirrorSampler(
            num_windows,
            mirror=self.mirror,
            seed=self.seed,
            rank=rank,
            num_ranks=num_ranks,
            weights=balanced(recording, self.balance) if self.balance else None,
        )
        batch_size = min(self.batch_size, len(sampler))
        if steps is None:
            return self._loader(dataset, sampler, batch_size=batch_size, drop_last=True)
        chosen = StepSampler(sampler, batch_size, steps=steps)
        return self._loader(dataset, chosen, batch_size=batch_size, drop_last=True)

    def val_dataloader(self) -> BackgroundLoader:
        """Returns the validation batches."""
        return self._loader(self.dataset("val"), batch_size=self.batch_size)

    def on_after_batch_transfer(self, batch: Clip, dataloader_idx: int) -> Clip:
        """Augments a training batch, and cuts its clips to the horizon of the step; Lightning calls it."""
        if self.trainer is None or not self.trainer.training:
            return batch
        if self.augment is not None:
            batch = self.augment(batch)
        if self.curriculum is None:
            return batch
        step = self.trainer.global_step
        over = max(step / self.trainer.max_steps, self.elapsed())  # below 0 where the steps are not limited
        return crop(batch, self.history + min(self.curriculum(step, over), self.horizon))

    def test_dataloader(self) -> BackgroundLoader:
        """Returns the test batches."""
        return self._loader(self.dataset("test"), batch_size=self.batch_size)

    def _make_dataset(self, part: str) -> WindowDataset:
        is_train = part == "train"
        index = self._index(part, self.stride if is_train else self.eval_stride)
        recordings = self.recordings
        if part == "val" and self.val_batches is not None:
            wanted = min(self.val_batches * self.batch_size, len(index))
            index = index[np.linspace(0, len(index) - 1, wanted).round().astype(np.int64)]
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
            known = [one for one in PARTS if getattr(self.split, one)]
            raise ValueError(f"the split has no frames for {part}; it has some for {' and '.join(known)}")
        try:
            return windows(self.recordings, spans, history=self.history, horizon=self.horizon, stride=stride)
        except ValueError as error:
            raise ValueError(f"{part}: {error}") from None

    def _loader(
        self,
        dataset: WindowDataset,
        sampler: Sampler[int] | None = None,
        *,
        batch_size: int,
        drop_last: bool = False,
    ) -> BackgroundLoader:
        return BackgroundLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=drop_last,
            collate_fn=dataset.collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            ahead=self.ahead,
        )


def crop(clip: Clip, num_frames: int) -> Clip:
    """Returns the first `num_frames` frames of a clip."""
    return replace(
        clip,
        image=clip.image[:, :num_frames],
        state=clip.state[:, :num_frames],
        action=clip.action[:, : num_frames - 1],
        view=clip.view[:, :num_frames],
        covered=clip.covered[:, :num_frames],
    )
