"""Windows of recordings, drawn when a batch is put together.

A dataset stores which windows there are, three numbers each; `WindowDataset.collate` reads the states and
draws the rasters of a whole batch. Recordings must obey the integrator (`make_consistent`), so that the
action of every step is exactly what leads from its state to the next.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from worldmodel.data.split import Span
from worldmodel.scene import (
    RasterSpec,
    Recording,
    Renderer,
    RoadChannel,
    RoadField,
    RoadSpec,
    check_consistent,
    comoving_views,
    inverse,
)
from worldmodel.types import Clip

FutureViews = Callable[[Tensor, int, float], Tensor]
"""States `(B, F, 4)`, history `K`, dt -> the poses `(B, F - K, 3)` at which the future is drawn."""


def comoving_future(state: Float[Tensor, "B F 4"], history: int, dt: float) -> Float[Tensor, "B T 3"]:
    """Returns poses that keep the speed and heading of the newest history frame: for fixed-context models."""
    return comoving_views(state[:, history - 1], state.shape[1] - history, dt)


def ego_future(state: Float[Tensor, "B F 4"], history: int, dt: float) -> Float[Tensor, "B T 3"]:
    """Returns the recorded ego's own poses: for models whose view follows the ego."""
    return state[:, history:, :3]


def windows(
    recordings: Sequence[Recording],
    spans: Iterable[Span],
    *,
    history: int = 10,
    horizon: int = 30,
    stride: int = 1,
) -> Int[np.ndarray, "N 3"]:
    """Returns every window of the spans: recording, vehicle row, newest history frame.

    A window is `history + horizon` frames in which its vehicle is recorded throughout; it never crosses the
    borders of its span, and vehicles in `Span.exclude` have none.

    Args:
        stride: between the windows of a vehicle [frames].

    Raises:
        ValueError: an unknown recording, or no window at all.
    """
    if min(history, stride) < 1 or horizon < 0:
        raise ValueError(
            f"history={history}, horizon={horizon}, stride={stride}: expected at least 1, 0 and 1"
        )
    number = {one.name: index for index, one in enumerate(recordings)}
    found, longest = [np.empty((0, 3), dtype=np.int64)], 0
    spans = tuple(spans)
    for span in spans:
        if span.recording not in number:
            raise ValueError(f"span of {span.recording!r}, found {sorted(number)}; pass its recording")
        tracks = recordings[number[span.recording]].tracks
        excluded = set(span.exclude)
        for row, first, last in tracks.runs():
            first, last = max(first, span.first), min(last, span.last)
            if int(tracks.ids[row]) in excluded or last <= first:
                continue
            longest = max(longest, last - first)
            newest = np.arange(first + history - 1, last - horizon, stride)
            ones = np.ones_like(newest)
            found.append(np.stack([number[span.recording] * ones, row * ones, newest], axis=1))
    index = np.concatenate(found)
    if not len(index):
        raise ValueError(
            f"no window of history={history} + horizon={horizon} frames in {len(spans)} spans, where the "
            f"longest run of a vehicle has {longest}; lower them, or choose longer spans"
        )
    return index


class WindowDataset(Dataset[Int[np.ndarray, " 3"]]):
    """The windows `index` of some recordings; its items are rows of `index`, its `collate` makes the `Clip`.

    Args:
        recordings: consistent (`make_consistent`), with one common `dt`.
        index: as `windows` returns it.
        history: frames up to the present, `K`.
        horizon: frames after it, `T`.
        spec: of the rasters.
        road_spec: of the road patch.
        future_views: where the future is drawn.
        renderers: of the recordings, where they exist already.

    Example:
        >>> from worldmodel.data import Span, make_recording
        >>> recording = make_recording(num_vehicles=2, num_frames=60)
        >>> index = windows([recording], [Span(recording.name, 0, 60)])
        >>> dataset = WindowDataset([recording], index)
        >>> dataset.collate([dataset[0], dataset[1]]).image.shape
        torch.Size([2, 40, 3, 117, 24])
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        index: Int[np.ndarray, "N 3"],
        *,
        history: int = 10,
        horizon: int = 30,
        spec: RasterSpec = RasterSpec(),  # noqa: B008 - frozen
        road_spec: RoadSpec = RoadSpec(),  # noqa: B008 - frozen
        future_views: FutureViews = comoving_future,
        renderers: Sequence[Renderer] | None = None,
    ) -> None:
        self.recordings = tuple(recordings)
        self.index = np.ascontiguousarray(index, dtype=np.int64)
        self.history, self.horizon = history, horizon
        self.spec, self.road_spec = spec, road_spec
        self.future_views = future_views
        self.dt = _common_dt(self.recordings)
        for one in self.recordings:
            check_consistent(one)
        self._offsets = np.arange(1 - history, horizon + 1)
        self._check_index()
        self._renderers = tuple(renderers or (Renderer(one, spec) for one in self.recordings))
        self._fields = tuple(RoadField(one.lane_map) for one in self.recordings)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item: int) -> Int[np.ndarray, " 3"]:
        return self.index[item]

    def collate(self, items: Sequence[Int[np.ndarray, " 3"]]) -> Clip:
        """Returns the clip of the given windows, in their order; everything but the rasters in float32."""
        origin = np.stack(items).astype(np.int64)
        state, size = self._read(origin)
        view = self._views(state)
        image, covered, road = self._draw(origin, view)
        return Clip(
            image=torch.from_numpy(image),
            state=torch.from_numpy(state).float(),
            action=inverse(torch.from_numpy(state), self.dt).float(),
            view=torch.from_numpy(view).float(),
            covered=torch.from_numpy(covered),
            size=torch.from_numpy(size).float(),
            road=torch.from_numpy(road),
            origin=torch.from_numpy(origin),
        )

    def _read(self, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        state = np.empty((len(origin), len(self._offsets), 4))
        size = np.empty((len(origin), 2))
        for number in np.unique(origin[:, 0]):
            mine = origin[:, 0] == number
            rows, frames = origin[mine, 1], origin[mine, 2:] + self._offsets
            tracks = self.recordings[number].tracks
            state[mine] = tracks.state[rows[:, None], frames]
            size[mine] = tracks.size[rows]
        return state, size

    def _views(self, state: np.ndarray) -> Float[np.ndarray, "B F 3"]:
        future = self.future_views(torch.from_numpy(state), self.history, self.dt).numpy()
        return np.concatenate([state[:, : self.history, :3], future], axis=1)

    def _draw(self, origin: np.ndarray, view: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns rasters, covered rows and road patches; windows of one recording are drawn together."""
        spec, batch, num_frames = self.spec, *view.shape[:2]
        image = np.empty((batch * num_frames, len(spec.channels), spec.height, spec.width), dtype=np.uint8)
        covered = np.empty((batch, num_frames, spec.height), dtype=np.bool_)
        road = np.empty((batch, len(RoadChannel), self.road_spec.height, self.road_spec.width), np.float32)
        for number in np.unique(origin[:, 0]):
            mine = np.flatnonzero(origin[:, 0] == number)
            frames = (origin[mine, 2:] + self._offsets).reshape(-1)
            egos = np.repeat(origin[mine, 1], num_frames)
            where = (mine[:, None] * num_frames + np.arange(num_frames)).reshape(-1)
            poses, renderer = view[mine].reshape(-1, 3), self._renderers[number]
            renderer.render(poses, frames, egos, out=image, where=where)
            covered[mine] = renderer.covered_rows(poses, frames).reshape(-1, num_frames, spec.height)
            road[mine] = self._fields[number].crop(view[mine, self.history - 1], self.road_spec)
        return image.reshape(batch, num_frames, *image.shape[1:]), covered, road

    def _check_index(self) -> None:
        if not len(self.index):
            raise ValueError("the index holds no window; expected at least one (see `windows`)")
        for number in np.unique(self.index[:, 0]):
            rows, newest = self.index[self.index[:, 0] == number, 1:].T
            if not 0 <= number < len(self.recordings):
                raise ValueError(f"the index names recording {number} of {len(self.recordings)}")
            valid = self.recordings[number].tracks.valid
            first, last = newest.min() - self.history + 1, newest.max() + self.horizon
            if first < 0 or last >= valid.shape[1]:
                raise ValueError(
                    f"windows need frames {first} .. {last} of {self.recordings[number].name!r}, which has "
                    f"{valid.shape[1]}; lower history or horizon, or build the index with `windows`"
                )
            whole = valid[rows[:, None], newest[:, None] + self._offsets].all(axis=1)
            if not whole.all():
                bad = int(np.flatnonzero(~whole)[0])
                raise ValueError(
                    f"vehicle row {rows[bad]} of {self.recordings[number].name!r} is not recorded throughout "
                    f"the window at frame {newest[bad]}; build the index with `windows`, for the same lengths"
                )


def _common_dt(recordings: Sequence[Recording]) -> float:
    steps = {one.dt for one in recordings}
    if len(steps) != 1:
        raise ValueError(
            f"{len(recordings)} recordings with time steps {sorted(steps)} s, expected one; resample them"
        )
    return steps.pop()
