"""The vehicles of many frames in the order in which the kernels look for them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from worldmodel.scene.track import HEADING, X, Y


@dataclass(frozen=True)
class FrameIndex:
    """The vehicles of every frame, adjacent and ordered by `x`.

    Attributes:
        offsets: where each frame's begin, and where the last one's end.
        rows: theirs.
        boxes: x, y, cos, sin, half length, half width.
        reach: largest half diagonal [m].
    """

    offsets: Int[np.ndarray, " T1"]
    rows: Int[np.ndarray, " S"]
    boxes: Float[np.ndarray, "S 6"]
    reach: float

    @classmethod
    def of(
        cls,
        boxes: Float[np.ndarray, "S 5"],
        frames: Int[np.ndarray, " S"],
        rows: Int[np.ndarray, " S"],
        *,
        num_frames: int,
    ) -> "FrameIndex":
        """Returns the index of boxes `x, y, heading, length, width`, each in a frame."""
        order = np.lexsort((boxes[:, X], frames))
        frames, rows, boxes = frames[order], rows[order], boxes[order]
        cos, sin, half = np.cos(boxes[:, HEADING]), np.sin(boxes[:, HEADING]), boxes[:, 3:] / 2
        turned = np.stack([boxes[:, X], boxes[:, Y], cos, sin, half[:, 0], half[:, 1]], axis=1)
        reach = float(np.hypot(*half.T).max(initial=0.0))
        return cls(np.searchsorted(frames, np.arange(num_frames + 1)), rows, turned, reach)
