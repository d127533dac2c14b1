"""Who is at fault when the ego and another vehicle touch: a rule about two tracks, as a pure function.

**Whoever came is at fault; if nobody came, whoever is behind.** Looked at are the last `WINDOW` seconds:

1. Sideways, along the lane, the two were *in line* wherever their boxes overlap across the road. If they were
   in line all the time, one has driven into the other: the one behind is at fault.
2. Otherwise they have come into line by moving sideways. From when they were last clear of each other, and
   `LEAD` before, each has moved so far towards the other; who moved farther is at fault: the one who cut in
   and was hit from behind, the one who changed lanes into a car beside it. If the lesser one moved at least
   `SHARE` of the greater one's way, both are.

Nothing is known of before the hand-over. Motion along a curving lane is not sideways: what counts is the
speed across the direction of the lane. The rule is the same for both, and knows no traffic law.
"""

from enum import IntEnum

import numpy as np
from jaxtyping import Float

from worldmodel.scene import LaneMap

WINDOW = 3.0
"""Who has changed lanes longer ago has not cut in [s]."""
LEAD = 1.0
"""A move sideways began so long before it led into line, or later [s]."""
SHARE = 0.5
"""Who has moved this share of the other's way is at fault, too."""


class Fault(IntEnum):
    """Whose fault a collision is."""

    NONE = 0
    EGO = 1
    OTHER = 2
    BOTH = 3


def fault(
    offset: Float[np.ndarray, "2"],
    reach: float,
    sideways: Float[np.ndarray, "T 2"],
    *,
    dt: float,
) -> Fault:
    """Returns who is at fault for a contact.

    Args:
        offset: of the other from the ego at the contact, along and across the lane (left positive) [m].
        reach: distance across the lane below which the two are in line: their half widths together [m].
        sideways: speed across the lane (left positive) of the ego and the other in the steps that led to the
            contact, the newest last, of the last `WINDOW` or fewer [m/s].
        dt: [s]

    Example:
        The ego has changed to the left in front of a car that then hits it from behind.

        >>> steps = np.zeros((30, 2))
        >>> steps[5:25, 0] = 2.0
        >>> fault(np.array([-5.0, 0.0]), 2.0, steps, dt=0.1).name
        'EGO'
        >>> fault(np.array([-5.0, 0.0]), 2.0, 0 * steps, dt=0.1).name
        'OTHER'
    """
    along, across = offset
    sideways = sideways[-round(WINDOW / dt) :]
    moved = sideways * dt
    # Offset across the lane at the start of each step: what it is now, less what has happened since.
    gained = (moved[:, 1] - moved[:, 0])[::-1].cumsum()[::-1]
    clear = np.flatnonzero(np.abs(across - gained) >= reach)
    if not len(clear):
        return Fault.EGO if along > 0 else Fault.OTHER
    last = int(clear[-1])
    towards = np.sign(across - gained[last]) * np.array([1.0, -1.0])
    first = max(0, last - round(LEAD / dt))
    ego, other = np.maximum((moved[first:] * towards).sum(axis=0), 0.0)
    if min(ego, other) >= SHARE * max(ego, other):
        return Fault.BOTH
    return Fault.EGO if ego > other else Fault.OTHER


def fault_of_tracks(
    ego: Float[np.ndarray, "T 4"],
    other: Float[np.ndarray, "T 4"],
    sizes: Float[np.ndarray, "2 2"],
    *,
    lane_map: LaneMap,
    dt: float,
) -> Fault:
    """Returns who is at fault for the contact at the end of two tracks of states.

    Args:
        ego: `x, y, heading, speed` in every frame since the hand-over, or since the other is there.
        other: likewise.
        sizes: length and width of both [m].
        lane_map: whose lanes say what is sideways.
        dt: [s]
    """
    tracks = np.stack([ego, other], axis=1)  # (T, 2, 4)
    lane = lane_map.query(tracks[..., :2].reshape(-1, 2)).heading.reshape(tracks.shape[:2])
    sideways = tracks[..., 3] * np.sin(tracks[..., 2] - lane)
    delta, heading = other[-1, :2] - ego[-1, :2], lane[-1, 0]
    cos, sin = np.cos(heading), np.sin(heading)
    offset = np.array([cos * delta[0] + sin * delta[1], cos * delta[1] - sin * delta[0]])
    return fault(offset, float(sizes[:, 1].sum() / 2), sideways[1:], dt=dt)
