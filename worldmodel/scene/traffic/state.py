"""Batches of traffic: what `V` vehicles in each of `B` scenes do, and what their drivers are like.

Frozen tensors in the road's own coordinates (`worldmodel.scene.traffic.road`). Where `valid` is false there
is no vehicle and the other fields mean nothing.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from worldmodel.scene.traffic.rule import MAX_SPEED
from worldmodel.types import Indexed

NO_EXIT = -1
"""The exit of drivers who stay on the road."""


@dataclass(frozen=True)
class TrafficState(Indexed):
    """What changes from step to step.

    Attributes:
        x: along the road [m].
        y: to the left of the reference line [m].
        heading: against the reference line, counter-clockwise [rad].
        speed: signed [m/s].
        lane: nearest lane; its drivers are followed.
        target: lane that is steered to; differs from `lane` during a change.
        timer: since the last decision about lanes [s].
        noise: what the driver misjudges, in standard deviations.
        valid: whether there is a vehicle.
        crashed: whether it has touched another; it then rolls to a stop.
        order: vehicles by `x`, kept because it hardly changes; any permutation will do.
    """

    x: Float[Tensor, "B V"]
    y: Float[Tensor, "B V"]
    heading: Float[Tensor, "B V"]
    speed: Float[Tensor, "B V"]
    lane: Int[Tensor, "B V"]
    target: Int[Tensor, "B V"]
    timer: Float[Tensor, "B V"]
    noise: Float[Tensor, "B V"]
    valid: Bool[Tensor, "B V"]
    crashed: Bool[Tensor, "B V"]
    order: Int[Tensor, "B V"]

    @property
    def num_scenes(self) -> int:
        return self.x.shape[0]

    @property
    def num_vehicles(self) -> int:
        return self.x.shape[1]

    @classmethod
    def on_lanes(
        cls,
        x: Float[Tensor, "B V"],
        lane: Int[Tensor, "B V"],
        speed: Float[Tensor, "B V"],
        *,
        centre: Float[Tensor, " L"],
        timer: Float[Tensor, "B V"] | None = None,
    ) -> "TrafficState":
        """Returns vehicles that drive on the centres of their lanes.

        Args:
            centre: lateral position of the lanes' centres [m].
            timer: zero by default: nobody thinks about lanes in the first second.
        """
        zero = torch.zeros_like(x)
        return cls(
            x=x,
            y=centre.to(x)[lane],
            heading=zero,
            speed=speed,
            lane=lane,
            target=lane,
            timer=zero if timer is None else timer,
            noise=zero,
            valid=torch.ones_like(lane, dtype=torch.bool),
            crashed=torch.zeros_like(lane, dtype=torch.bool),
            order=torch.arange(x.shape[1], device=x.device).expand_as(lane).contiguous(),
        )


@dataclass(frozen=True)
class Drivers(Indexed):
    """What does not change: vehicles and the people in them. Defaults are highway-env's.

    Attributes:
        length, width: of the vehicle [m].
        desired_speed: [m/s]
        headway: desired time gap [s].
        gap: desired distance between bumpers at standstill [m].
        accel: largest comfortable acceleration [m/s^2].
        decel: comfortable deceleration, positive [m/s^2].
        delta: exponent of the free-road term.
        politeness: weight of what a lane change does to others.
        min_gain: acceleration that a lane change has to win [m/s^2].
        safe_decel: hardest braking that a lane change may impose, positive [m/s^2].
        own_decel: hardest braking that a lane change may ask of oneself; highway-env's drivers do not mind.
        lateral_time: in which an offset from the lane's centre is to be made good [s].
        heading_time: in which a heading is [s]; a third of `lateral_time` or less, lest the car sways.
        slowest: a vehicle is never slower; highway-env's drivers back away from what is too close [m/s].
        noise_std: standard deviation of the misjudged acceleration [m/s^2].
        exit: lane by which the driver leaves the road, or `NO_EXIT`.
        changes: whether the driver ever changes lanes.
    """

    length: Float[Tensor, "B V"]
    width: Float[Tensor, "B V"]
    desired_speed: Float[Tensor, "B V"]
    headway: Float[Tensor, "B V"]
    gap: Float[Tensor, "B V"]
    accel: Float[Tensor, "B V"]
    decel: Float[Tensor, "B V"]
    delta: Float[Tensor, "B V"]
    politeness: Float[Tensor, "B V"]
    min_gain: Float[Tensor, "B V"]
    safe_decel: Float[Tensor, "B V"]
    own_decel: Float[Tensor, "B V"]
    lateral_time: Float[Tensor, "B V"]
    heading_time: Float[Tensor, "B V"]
    slowest: Float[Tensor, "B V"]
    noise_std: Float[Tensor, "B V"]
    exit: Int[Tensor, "B V"]
    changes: Bool[Tensor, "B V"]

    @classmethod
    def alike(cls, desired_speed: Float[Tensor, "B V"], **changed: Tensor) -> "Drivers":
        """Returns highway-env's drivers, who differ in their desired speed and in what is `changed`."""

        def full(value: float) -> Tensor:
            return torch.full_like(desired_speed, value)

        drivers = cls(
            length=full(5.0),
            width=full(2.0),
            desired_speed=desired_speed,
            headway=full(1.5),
            gap=full(5.0),
            accel=full(3.0),
            decel=full(5.0),
            delta=full(4.0),
            politeness=full(0.0),
            min_gain=full(0.2),
            safe_decel=full(2.0),
            own_decel=full(math.inf),
            lateral_time=full(0.6),
            heading_time=full(0.2),
            slowest=full(-MAX_SPEED),
            noise_std=full(0.0),
            exit=torch.full_like(desired_speed, NO_EXIT, dtype=torch.int64),
            changes=torch.ones_like(desired_speed, dtype=torch.bool),
        )
        return replace(drivers, **changed)
