"""Where recorded vehicles are on their lanes, and who follows whom.

A map has lanelets; a driver sees lanes, which are chains of them. Everything here holds for any `Recording`,
recorded or simulated. Knows neither models nor files.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from worldmodel.scene import HEADING, LENGTH, SPEED, LaneMap, Recording, X

LINK = 1.0
"""A lanelet goes on in the one that begins this close to its end [m]."""


@dataclass(frozen=True, eq=False)
class Lanes:
    """The lanes of a map: chains of lanelets, each going on in at most one other.

    Attributes:
        point: on the centre lines [m].
        lane: number of the lane of each point.
        along: distance from the lane's beginning [m].
        heading: of the lane [rad].
        half_width: of the lane [m].
    """

    point: Float[np.ndarray, "N 2"]
    lane: Int[np.ndarray, " N"]
    along: Float[np.ndarray, " N"]
    heading: Float[np.ndarray, " N"]
    half_width: Float[np.ndarray, " N"]

    @classmethod
    def of(cls, lane_map: LaneMap) -> "Lanes":
        """Returns the lanes of a map."""
        lines = [one.centre() for one in lane_map.lanelets]
        parts = []
        for lane, chain in enumerate(_chains([centre for centre, _ in lines])):
            point = np.concatenate([lines[index][0] for index in chain])
            half_width = np.concatenate([lines[index][1] for index in chain])
            steps = np.linalg.norm(np.diff(point, axis=0), axis=1)
            tangent = np.concatenate([np.gradient(lines[index][0], axis=0) for index in chain])
            heading = np.arctan2(tangent[:, 1], tangent[:, 0])
            along = np.concatenate([[0.0], np.cumsum(steps)])
            parts.append((point, np.full(len(point), lane), along, heading, half_width))
        return cls(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.point)

    def nearest(self, points: Float[np.ndarray, "N 2"]) -> Int[np.ndarray, " N"]:
        """Returns the index of the nearest centre point."""
        return np.asarray(self._tree.query(points)[1])


@dataclass(frozen=True)
class Placed:
    """Every vehicle in every frame in which it is there: `N` rows, sorted by vehicle and time.

    Attributes:
        vehicle: row in the tracks.
        frame: of the recording.
        lane: that it is on.
        along: distance from the lane's beginning [m].
        offset: from the lane's centre to the left [m].
        half_width: of the lane [m].
        speed: [m/s]
        length: of the vehicle [m].
        ahead: how far ahead the road was being recorded [m].
    """

    vehicle: Int[np.ndarray, " N"]
    frame: Int[np.ndarray, " N"]
    lane: Int[np.ndarray, " N"]
    along: Float[np.ndarray, " N"]
    offset: Float[np.ndarray, " N"]
    half_width: Float[np.ndarray, " N"]
    speed: Float[np.ndarray, " N"]
    length: Float[np.ndarray, " N"]
    ahead: Float[np.ndarray, " N"]

    @property
    def is_same(self) -> Bool[np.ndarray, " N1"]:
        """Whether a row and the next are the same vehicle in successive frames."""
        return (np.diff(self.vehicle) == 0) & (np.diff(self.frame) == 1)


def place(recording: Recording, lanes: Lanes | None = None) -> Placed:
    """Returns where everybody is on the lanes (by default, those of the recording's map).

    Example:
        >>> from worldmodel.data import make_recording
        >>> placed = place(make_recording(num_vehicles=4, num_frames=20))
        >>> bool((abs(placed.offset) < 5.0).all())
        True
    """
    lanes = lanes or Lanes.of(recording.lane_map)
    tracks = recording.tracks
    vehicle, frame = np.nonzero(tracks.valid)
    state = tracks.state[vehicle, frame]
    index = lanes.nearest(state[:, :2])
    delta, heading = state[:, :2] - lanes.point[index], lanes.heading[index]
    cos, sin = np.cos(heading), np.sin(heading)
    return Placed(
        vehicle=vehicle,
        frame=frame,
        lane=lanes.lane[index],
        along=lanes.along[index] + cos * delta[:, 0] + sin * delta[:, 1],
        offset=cos * delta[:, 1] - sin * delta[:, 0],
        half_width=lanes.half_width[index],
        speed=state[:, SPEED] * np.cos(state[:, HEADING] - heading),
        length=tracks.size[vehicle, LENGTH],
        ahead=recording.coverage[frame, 1] - state[:, X],
    )


def leader(placed: Placed) -> Int[np.ndarray, " N"]:
    """Returns the row of the next vehicle ahead on the same lane in the same frame; -1 where nobody is."""
    order = np.lexsort((placed.along, placed.lane, placed.frame))
    behind, front = order[:-1], order[1:]
    follows = (placed.frame[behind] == placed.frame[front]) & (placed.lane[behind] == placed.lane[front])
    found = np.full(len(order), -1)
    found[behind[follows]] = front[follows]
    return found


def _chains(centres: list[Float[np.ndarray, "_ 2"]]) -> list[list[int]]:
    """Indices of the lanelets of each lane, in driving direction.

    Two are linked if the one's end and the other's start are each other's nearest.
    """
    starts, ends = np.stack([one[0] for one in centres]), np.stack([one[-1] for one in centres])
    distance = np.linalg.norm(ends[:, None] - starts[None], axis=2)  # from the end of the row's lanelet
    following = {}
    for one, other in enumerate(distance.argmin(axis=1).tolist()):
        is_mutual = distance[:, other].argmin() == one
        if is_mutual and one != other and distance[one, other] < LINK:
            following[one] = other
    heads = [index for index in range(len(centres)) if index not in following.values()]
    chains: list[list[int]] = []
    seen: set[int] = set()
    for index in (*heads, *range(len(centres))):  # the latter for rings of several lanelets
        if index in seen:
            continue
        chain = [index]
        while following.get(chain[-1], index) not in (index, *chain):
            chain.append(following[chain[-1]])
        seen.update(chain)
        chains.append(chain)
    return chains
