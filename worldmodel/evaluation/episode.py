"""How an episode went: one row of a results table."""

from dataclasses import dataclass
from enum import IntEnum


class Outcome(IntEnum):
    """Why an episode ended; `RUNNING` while it has not."""

    RUNNING = 0
    FINISHED = 1
    TIME_OUT = 2
    OFF_ROAD = 3
    COLLISION = 4

    @property
    def is_safe(self) -> bool:
        """Neither collision nor off-road."""
        return self in (Outcome.FINISHED, Outcome.TIME_OUT)


@dataclass(frozen=True)
class EpisodeResult:
    """One agent's drive of one episode.

    Attributes:
        agent: name in the table.
        protocol: name and version, as `v1`.
        recording: name of the recording.
        vehicle_id: the source's number of the vehicle that was replaced.
        scene: name and piece of the recording; episodes of a scene see the same traffic.
        first_frame: newest recorded frame.
        seed: of the agent.
        steps: actions executed.
        outcome: name of the `Outcome`, lower case; `time_out` is a safe end short of the required distance.
        safe: neither collision nor off-road to the end.
        success: safe, and as far as the protocol demands.
        distance: progress along the road [m].
        human_distance: the recorded driver's over the same episode [m].
        min_ttc: smallest time-to-collision with the vehicle ahead [s]; infinite if never closing in.
        mean_jerk: mean absolute jerk of the executed actions [m/s^3].
        collision_side: `front`, `side`, `rear` or `none`.
        hit_id: the source's number of the vehicle that was hit, or -1.
        off_road: left the road (also where it collided in the same step).
        reverse: drove backwards at some time.
        plan_ms: planning time per decision in the batch [ms]; the latency of a single scene is measured
            apart.
    """

    agent: str
    protocol: str
    recording: str
    vehicle_id: int
    scene: str
    first_frame: int
    seed: int
    steps: int
    outcome: str
    safe: bool
    success: bool
    distance: float
    human_distance: float
    min_ttc: float
    mean_jerk: float
    collision_side: str
    hit_id: int
    off_road: bool
    reverse: bool
    plan_ms: float
