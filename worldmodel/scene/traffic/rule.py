"""How simulated drivers drive: highway-env's IDM and MOBIL drivers, as formulas and numbers.

**Following** (IDM; Treiber, Hennecke, Helbing 2000), `d` from centre to centre:

    accel = a [1 - (v / v0)^delta] - a (d* / d)^2,   d* = d0 + v T + v dv / (2 sqrt(a b))

with `v0` capped by the lane's limit, `d0` the gap at standstill plus half of both lengths, and `dv` the
difference of the velocities along the driver's heading. While changing lanes, the smaller of the
accelerations behind the leaders of both lanes; never beyond `MAX_ACCEL` in either direction.

**Changing lanes** (MOBIL; Kesting, Treiber, Helbing 2007): once a second, left before right (so right wins),
if the new follower need not brake harder than `safe_decel` and the change wins `min_gain`, politeness
included. What others would do is judged by one's own parameters and their desired speed. A vehicle within
`LANE_MARGIN` of a lane's border is on that lane, too, so that it may have followers in two. A change is
given up when somebody closer than `d*` ahead is changing to the same lane.

**Steering**: lateral error to lateral speed to heading to yaw rate, each in proportion, then a kinematic
bicycle with slip angle, explicit Euler:

    x += v cos(heading + beta) dt,  y += v sin(heading + beta) dt,  heading += 2 v sin(beta) / length dt

highway-env computes `beta = atan(tan(steering) / 2)` from `steering = atan(2 tan(slip))` clipped to 60
degrees; so `sin(beta)` is `sin(slip)` clipped, and no tangent is needed.

All actions are decided before anybody moves. `worldmodel.scene.traffic._kernel` (numba) and `._torch`
write this down twice, for speed; tests hold both to highway-env's own code. Beyond highway-env: lanes that
end, exits, rings, noise, and vehicles of different sizes. What differs: after a collision highway-env pushes
the cars apart, and here they roll to a stop where they are.
"""

import math

MAX_APPROACH = math.pi / 4
"""Steepest angle at which a lane is steered to [rad]."""
MAX_SIN_BETA = math.sin(math.atan(math.tan(math.pi / 3) / 2))
"""Of the slip angle at full steering, 60 degrees."""
MAX_ACCEL = 6.0
"""Drivers neither accelerate nor brake harder [m/s^2]."""
MAX_SPEED = 40.0
"""Vehicles beyond it, in either direction, are slowed by what they exceed it per second [m/s]."""
SMALLEST = 1e-2
"""Divisors closer to zero are replaced by it, with their sign."""
CHANGE_DELAY = 1.0
"""Time between decisions about lanes [s]."""
LANE_MARGIN = 1.0
"""A vehicle whose centre is this close to a lane is on it, beside its own [m]."""
END_MARGIN = 5.0
"""Lanes are taken to be this much longer, at both ends for who is on them and ahead for who wants to [m]."""
MIN_CHANGE_SPEED = 1.0
"""Slower vehicles do not change lanes unless they must [m/s]."""
LOOK_AHEAD = 300.0
"""From this distance on drivers care about the end of their lane and about their exit [m]."""
NOISE_TIME = 2.0
"""Time over which a driver's misjudgement persists [s]; an Ornstein-Uhlenbeck process."""
