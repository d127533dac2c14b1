"""Questions about frames and clips whose answers come for free: turned how, in which order, what is where."""

from itertools import permutations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodel.ssl.classify import Question, Transform
from worldmodel.ssl.clip import FrameClip


class Rotated(Transform):
    """By how many quarters was it turned? For square frames (Gidaris et al. 2018)."""

    num_classes = 4

    def forward(self, clip: FrameClip) -> Question:
        frame = clip.frames.flatten(0, 1)
        if frame.shape[-2] != frame.shape[-1]:
            raise ValueError(
                f"a frame of {tuple(frame.shape[-2:])}, expected a square; use Flipped for others"
            )
        turned = torch.stack([frame.rot90(quarters, (-2, -1)) for quarters in range(4)], 1)
        return _drawn(turned)


class Flipped(Transform):
    """Was it flipped ahead, sideways or both (turned by 180 degrees)? For frames that are no squares."""

    num_classes = 4

    def forward(self, clip: FrameClip) -> Question:
        frame = clip.frames.flatten(0, 1)
        return _drawn(torch.stack([frame, frame.flip(-2), frame.flip(-1), frame.flip(-2, -1)], 1))


class Jigsaw(Transform):
    """In which order are the strips of the frame?

    Noroozi and Favaro 2016, with strips for tiles: a road is longer than wide.

    Args:
        num_strips: along the road; there are as many classes as permutations of them.
        gap: rows cut off each strip at its ends, lest edges that fit give the order away [px].
    """

    def __init__(self, *, num_strips: int = 4, gap: int = 1) -> None:
        super().__init__()
        self.num_strips, self.gap = num_strips, gap

    @property
    def num_classes(self) -> int:
        return len(_orders(self.num_strips))

    def forward(self, clip: FrameClip) -> Question:
        frame = clip.frames.flatten(0, 1)
        rows = frame.shape[-2] // self.num_strips
        if rows <= 2 * self.gap:
            raise ValueError(f"strips of {rows} rows with gaps of {self.gap}; use fewer strips or no gap")
        strips = frame[:, :, : rows * self.num_strips].unflatten(2, (self.num_strips, rows)).movedim(2, 1)
        return _shuffled(strips[..., self.gap : rows - self.gap, :])


class ShuffledFrames(Transform):
    """In which order are the frames of the clip?

    Misra et al. 2016 ask whether they are in order at all.

    Args:
        num_frames: the first of a clip; there are as many classes as permutations of them.
    """

    def __init__(self, *, num_frames: int = 3) -> None:
        super().__init__()
        self.num_frames = num_frames

    @property
    def num_classes(self) -> int:
        return len(_orders(self.num_frames))

    def forward(self, clip: FrameClip) -> Question:
        return _shuffled(clip.frames[:, : self.num_frames])


class ArrowOfTime(Transform):
    """Does the clip run forwards or backwards?

    Wei et al. 2018.
    """

    num_classes = 2

    def forward(self, clip: FrameClip) -> Question:
        return _drawn(torch.stack([clip.frames, clip.frames.flip(1)], 1), views=True)


class RelativePatch(Transform):
    """Where around the first patch is the second one? Eight answers (Doersch et al. 2015).

    Args:
        gap: between two patches, as a share of the room of one.
        jitter: greatest shift of a patch from its place [px]; within half of the gap they never touch.
    """

    num_classes = 8

    def __init__(self, *, gap: float = 0.3, jitter: int = 1) -> None:
        super().__init__()
        self.gap, self.jitter = gap, jitter

    def forward(self, clip: FrameClip) -> Question:
        frame = clip.frames.flatten(0, 1)
        room = (frame.shape[-2] // 3, frame.shape[-1] // 3)
        size = [max(1, round(one * (1 - self.gap))) for one in room]
        label = torch.randint(8, (frame.shape[0],), device=frame.device)
        place = torch.where(label < 4, label, label + 1)  # 0 to 8 of the grid, without the centre
        around = torch.stack([place // 3, place % 3], 1)
        views = []
        for cell in (torch.ones_like(around), around):
            corner = []
            for dim in (0, 1):
                shift = torch.randint(-self.jitter, self.jitter + 1, label.shape, device=frame.device)
                first = cell[:, dim] * room[dim] + (room[dim] - size[dim]) // 2 + shift
                corner.append(first.clamp(0, frame.shape[dim - 2] - size[dim]))
            views.append(crops(frame, torch.stack(corner, 1), (size[0], size[1])))
        return Question(torch.stack(views, 1), label)


def crops(
    frame: Float[Tensor, "B C H W"], corner: Int[Tensor, "B 2"], size: tuple[int, int]
) -> Float[Tensor, "B C H2 W2"]:
    """Returns a window of each frame, from its upper left corner."""
    rows = corner[:, 0, None] + torch.arange(size[0], device=frame.device)
    columns = corner[:, 1, None] + torch.arange(size[1], device=frame.device)
    row = torch.arange(frame.shape[0], device=frame.device)[:, None, None]
    return frame.movedim(1, -1)[row, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def _drawn(choices: Float[Tensor, "B K *R"], *, views: bool = False) -> Question:
    """Returns one of the choices for each row; the number is the answer."""
    batch, count = choices.shape[:2]
    label = torch.randint(count, (batch,), device=choices.device)
    chosen = choices[torch.arange(batch, device=choices.device), label]
    return Question(chosen if views else chosen[:, None], label)


def _shuffled(views: Float[Tensor, "B V C H W"]) -> Question:
    """Returns the views in an order drawn for each row; the number of the order is the answer."""
    orders = torch.tensor(_orders(views.shape[1]), device=views.device)
    label = torch.randint(len(orders), (views.shape[0],), device=views.device)
    row = torch.arange(views.shape[0], device=views.device)[:, None]
    return Question(views[row, orders[label]], label)


def _orders(count: int) -> list[tuple[int, ...]]:
    return list(permutations(range(count)))
