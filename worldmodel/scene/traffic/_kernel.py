"""The rules of traffic (`worldmodel.scene.traffic.rule`) as numba kernels: one scene at a time, in place.

One thread, without the GIL. `no_type_check` keeps jaxtyping's import hook from wrapping what numba is to
compile. Vehicles and lanes are records: one array of them is one argument, whatever they hold. Letters: `i j`
vehicles, `k p` places in the order along the road, `m` lanes. All in one file, however long: numba's cache
looks at the file of what it has compiled, and not at those of the functions that are called there.
"""

from math import asin, cos, exp, inf, pi, sin, sqrt
from typing import no_type_check

import numpy as np
from numba import njit

from worldmodel.scene.traffic.rule import (
    CHANGE_DELAY,
    END_MARGIN,
    LANE_MARGIN,
    LOOK_AHEAD,
    MAX_ACCEL,
    MAX_APPROACH,
    MAX_SIN_BETA,
    MAX_SPEED,
    MIN_CHANGE_SPEED,
    NOISE_TIME,
    SMALLEST,
)

SIN_APPROACH = sin(MAX_APPROACH)
NOBODY = -1


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def advance_scenes(cars, order, lanes, ring, driven, driven_to, noise, dt):
    """Advances every scene by `T` steps.

    Args:
        cars: of type `CAR` (`worldmodel.scene.traffic._car`), `(B, V)`, written to.
        order: of the vehicles along the road `(B, V)`, written to; any permutation will do.
        lanes: of type `LANE`, `(L,)`.
        ring: length of the ring, 0 for none [m].
        driven: vehicles that somebody else drives `(B, D)`.
        driven_to: their `x, y, heading, speed` after each step `(B, T, D, 4)`.
        noise: standard normal `(B, T, V)`, or of size 0: nobody misjudges anything.
        dt: [s]
    """
    num = cars.shape[1]
    key, changing = np.empty(num), np.empty(num, np.int64)
    ahead = np.empty((len(lanes), num + 1), np.int64)
    behind = np.empty((len(lanes), num + 1), np.int64)
    keep = exp(-dt / NOISE_TIME)
    fresh = sqrt(1.0 - keep * keep)
    for b in range(cars.shape[0]):
        scene = cars[b]
        for d in range(driven.shape[1]):
            scene[driven[b, d]].is_driven = True
        there = _sort(scene, order[b], key)
        for t in range(driven_to.shape[1]):
            if noise.size > 0:
                for i in range(num):
                    scene[i].noise = keep * scene[i].noise + fresh * noise[b, t, i]
            _look_around(scene, lanes, order[b], ahead, behind, there)
            _decide(scene, lanes, ring, order[b], key, ahead, behind, changing)
            for i in range(num):
                if scene[i].valid and not scene[i].is_driven:
                    _move(scene[i], lanes, ring, dt)
            for d in range(driven.shape[1]):
                _place(scene[driven[b, d]], driven_to[b, t, d], lanes)
            there = _sort(scene, order[b], key)
            _collide(scene, order[b], key, there, ring)


# --- Who is where -------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _sort(cars, order, key):
    """Orders the vehicles by `x`, those that are not there last; returns how many are there.

    Of vehicles at the same `x` the last comes first: so whoever looks ahead finds, like highway-env, the last
    of them, and whoever looks back the first.
    """
    there = 0
    for k in range(len(order)):
        i = order[k]
        x = inf
        if cars[i].valid:
            x = cars[i].x
            there += 1
        p = k
        while p > 0 and (key[p - 1] > x or (key[p - 1] == x and order[p - 1] < i)):
            key[p], order[p] = key[p - 1], order[p - 1]
            p -= 1
        key[p], order[p] = x, i
    return there


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _look_around(cars, lanes, order, ahead, behind, there):
    """Writes, for every place, the nearest place on every lane ahead and behind, itself included.

    The last column of `behind` holds the foremost of all.
    """
    for k in range(there):
        car = cars[order[k]]
        car.rank = k
        car.cosine, car.sine = cos(car.heading), sin(car.heading)
    for m in range(len(lanes)):
        reach, centre = lanes[m].half_width + LANE_MARGIN, lanes[m].centre
        first, last = lanes[m].start - END_MARGIN, lanes[m].end + END_MARGIN
        nearest = NOBODY
        for k in range(there):
            car = cars[order[k]]
            if abs(car.y - centre) <= reach and first <= car.x and car.x < last:
                nearest = k
            behind[m, k] = nearest
        behind[m, behind.shape[1] - 1] = nearest
        nearest = NOBODY
        ahead[m, there] = NOBODY
        for k in range(there - 1, -1, -1):
            if behind[m, k] == k:
                nearest = k
            ahead[m, k] = nearest


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _neighbours(k, m, ring, order, key, ahead, behind):
    """Returns the vehicles ahead of and behind place `k` on lane `m`, or `NOBODY`.

    Who is level with it is ahead. On a ring, the first of all is ahead of the last.
    """
    level = k
    while level > 0 and key[level - 1] == key[k]:
        level -= 1
    front = ahead[m, level]
    if front == k:
        front = ahead[m, k + 1]
    rear = behind[m, level - 1] if level > 0 else NOBODY
    if ring > 0:
        front = ahead[m, 0] if front == NOBODY else front
        rear = behind[m, behind.shape[1] - 1] if rear == NOBODY else rear
        front = NOBODY if front == k else front
        rear = NOBODY if rear == k else rear
    return order[front] if front != NOBODY else NOBODY, order[rear] if rear != NOBODY else NOBODY


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
@no_type_check
def _ahead_by(car, front, ring):
    """Returns how far `front` is ahead of `car` along the road [m]."""
    distance = front.x - car.x
    return distance + ring if ring > 0 and distance < 0 else distance


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
@no_type_check
def _nearest_lane(x, y, lanes):
    best, nearest = 0, inf
    for m in range(len(lanes)):
        beyond = max(x - lanes[m].end, 0.0) + max(lanes[m].start - x, 0.0)
        distance = abs(y - lanes[m].centre) + beyond
        if distance < nearest:
            best, nearest = m, distance
    return best


# --- Following ----------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
@no_type_check
def _not_zero(value):
    if abs(value) > SMALLEST:
        return value
    return SMALLEST if value >= 0 else -SMALLEST


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _free(judge, car, lanes):
    """Returns how `car` would accelerate on a free road with the parameters of `judge` [m/s^2]."""
    desired = min(max(car.desired_speed, 0.0), lanes[car.lane].limit)
    share = max(car.speed, 0.0) / abs(_not_zero(desired))
    return judge.accel * (1.0 - share**judge.delta)


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _wanted_gap(judge, car, front):
    """Returns `d*` of `car` behind `front` [m]."""
    closing = (car.speed * car.cosine - front.speed * front.cosine) * car.cosine
    closing += (car.speed * car.sine - front.speed * front.sine) * car.sine
    least = judge.gap + (car.length + front.length) / 2
    brake = 2.0 * sqrt(judge.accel * judge.decel)
    return least + car.speed * judge.headway + car.speed * closing / brake


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _held_back(judge, cars, i, j, ring):
    """Returns by how much `j` ahead holds `i` back [m/s^2]; nothing where `j` is nobody."""
    if j == NOBODY:
        return 0.0
    share = _wanted_gap(judge, cars[i], cars[j]) / _not_zero(_ahead_by(cars[i], cars[j], ring))
    return judge.accel * share * share


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _following(judge, cars, i, j, lanes, ring):
    """Returns the acceleration of `i` behind `j`, as `judge` sees it; zero where `i` is nobody [m/s^2]."""
    if i == NOBODY:
        return 0.0
    return _free(judge, cars[i], lanes) - _held_back(judge, cars, i, j, ring)


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _stopped(car, lanes, m):
    """Returns by how much the end of lane `m` holds `car` back: a standing vehicle to those who must stop."""
    left = lanes[m].stop - car.x
    if left > LOOK_AHEAD or car.exit == m:
        return 0.0
    brake = 2.0 * sqrt(car.accel * car.decel)
    wanted = car.gap + car.length / 2 + car.speed * car.headway + car.speed * car.speed / brake
    share = wanted / max(left, SMALLEST)
    return car.accel * share * share


# --- Deciding -----------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _decide(cars, lanes, ring, order, key, ahead, behind, changing):
    """Chooses lanes and actions, in the vehicles' own order: who gives a change up is seen by the next."""
    num = 0
    for i in range(len(cars)):
        if cars[i].valid and not cars[i].is_driven and cars[i].lane != cars[i].target:
            changing[num] = i
            num += 1
    for i in range(len(cars)):
        car = cars[i]
        if not car.valid or car.crashed or car.is_driven:
            continue
        if car.lane != car.target:
            if _is_in_the_way(cars, i, ring, changing, num):
                car.target = car.lane
        elif car.changes and car.timer > CHANGE_DELAY:
            car.timer = 0.0
            car.target = _choose_lane(cars, i, lanes, ring, order, key, ahead, behind)
            if car.target != car.lane:
                changing[num] = i
                num += 1
        _act(cars, i, lanes, ring, order, key, ahead, behind)


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _is_in_the_way(cars, i, ring, changing, num):
    """Returns whether somebody too close ahead of `i` is changing to the lane that it is changing to."""
    car = cars[i]
    for n in range(num):
        j = changing[n]
        other = cars[j]
        if j != i and other.target == car.target and other.lane != car.target:
            distance = _ahead_by(car, other, ring)
            if distance > 0 and distance < _wanted_gap(car, car, other):
                return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _choose_lane(cars, i, lanes, ring, order, key, ahead, behind):
    """Returns the lane that `i` wants to be in; right is asked last and wins."""
    car = cars[i]
    chosen, must = car.lane, _must_go(car, lanes)
    if abs(car.speed) < MIN_CHANGE_SPEED and must == 0:
        return chosen
    for side in (-1, 1):
        m = car.lane + side
        if m < 0 or m >= len(lanes) or not _is_reachable(car, lanes, m, side):
            continue
        if _is_better(cars, i, lanes, ring, order, key, ahead, behind, m, must * side):
            chosen = m
    return chosen


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _must_go(car, lanes):
    """Returns the side to which `car` has to change lanes by and by: -1 left, 1 right, 0 none."""
    if car.exit == car.lane:
        return 0
    if car.exit >= 0 and lanes[car.exit].start - LOOK_AHEAD <= car.x and car.x < lanes[car.exit].end:
        return 1 if car.exit > car.lane else -1
    return lanes[car.lane].escape if lanes[car.lane].stop - car.x < LOOK_AHEAD else 0


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _is_reachable(car, lanes, m, side):
    """Returns whether lane `m` is there, near, and may be changed to."""
    if abs(car.y - lanes[m].centre) > 4 * lanes[m].half_width:
        return False
    if car.x < lanes[m].start or car.x >= lanes[m].end + END_MARGIN:
        return False
    border = m if side > 0 else car.lane  # the crossing is that of the lane on the right
    if car.x < lanes[border].first_cross or car.x >= lanes[border].last_cross:
        return False
    is_dead_end = lanes[m].stop - car.x < LOOK_AHEAD and lanes[m].escape == -side
    return not is_dead_end or car.exit == m


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _is_better(cars, i, lanes, ring, order, key, ahead, behind, m, must):
    """MOBIL: returns whether a change to lane `m` is safe and worth it.

    Where it has to be made (`must` is 1) it need not be worth it; where another has (-1) it never is.
    """
    car = cars[i]
    front, rear = _neighbours(car.rank, m, ring, order, key, ahead, behind)
    rear_then = _following(car, cars, rear, i, lanes, ring)
    then = _following(car, cars, i, front, lanes, ring) - _stopped(car, lanes, m)
    if rear_then < -car.safe_decel or then < -car.own_decel or must < 0:
        return False
    if must > 0:
        return then >= -car.safe_decel
    old_front, old_rear = _neighbours(car.rank, car.lane, ring, order, key, ahead, behind)
    now = _following(car, cars, i, old_front, lanes, ring) - _stopped(car, lanes, car.lane)
    gain = then - now
    if car.politeness != 0:
        others = rear_then - _following(car, cars, rear, front, lanes, ring)
        others += _following(car, cars, old_rear, old_front, lanes, ring)
        others -= _following(car, cars, old_rear, i, lanes, ring)
        gain += car.politeness * others
    return gain >= car.min_gain


# --- Acting -------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _act(cars, i, lanes, ring, order, key, ahead, behind):
    """Writes acceleration and slip of `i`."""
    car = cars[i]
    front, _ = _neighbours(car.rank, car.lane, ring, order, key, ahead, behind)
    held = max(_held_back(car, cars, i, front, ring), _stopped(car, lanes, car.target))
    if car.lane != car.target:
        front, _ = _neighbours(car.rank, car.target, ring, order, key, ahead, behind)
        held = max(held, _held_back(car, cars, i, front, ring))
    accel = _free(car, car, lanes) - held + car.noise_std * car.noise
    car.pedal = min(max(accel, -MAX_ACCEL), MAX_ACCEL)
    speed = _not_zero(car.speed)
    approach = (lanes[car.target].centre - car.y) / car.lateral_time / speed
    approach = asin(min(max(approach, -SIN_APPROACH), SIN_APPROACH))
    error = approach - car.heading
    if error >= pi or error < -pi:
        error = (error + pi) % (2 * pi) - pi
    slip = car.length / 2 / speed * (error / car.heading_time)
    car.turn = min(max(slip, -MAX_SIN_BETA), MAX_SIN_BETA)


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _move(car, lanes, ring, dt):
    """Moves a car by its actions: the bicycle."""
    speed, accel, turn = car.speed, car.pedal, car.turn
    if car.crashed:
        accel, turn = -speed, 0.0
    if speed > MAX_SPEED:
        accel = min(accel, MAX_SPEED - speed)
    elif speed < -MAX_SPEED:
        accel = max(accel, -MAX_SPEED - speed)
    straight = sqrt(1.0 - turn * turn)
    x = car.x + speed * (car.cosine * straight - car.sine * turn) * dt
    if ring > 0:
        x -= ring * ((x >= ring) - (x < 0))
    car.x = x
    car.y += speed * (car.sine * straight + car.cosine * turn) * dt
    car.heading += speed * turn / (car.length / 2) * dt
    car.speed = max(speed + accel * dt, car.slowest)
    car.timer += dt
    car.lane = _nearest_lane(car.x, car.y, lanes)


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _place(car, state, lanes):
    """Puts a car where whoever drives it says; its lane is the one that it is on."""
    car.x, car.y, car.heading, car.speed = state[0], state[1], state[2], state[3]
    car.lane = _nearest_lane(car.x, car.y, lanes)
    car.target = car.lane


# --- Colliding ----------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _collide(cars, order, key, there, ring):
    """Marks all vehicles whose boxes overlap."""
    reach = 0.0
    for k in range(there):
        car = cars[order[k]]
        reach = max(reach, car.length * car.length + car.width * car.width)
    reach = sqrt(reach)
    for k in range(there):
        for p in range(k + 1, there):
            if key[p] - key[k] > reach:
                break
            _touch(cars[order[k]], cars[order[p]], 0.0, reach)
        if ring > 0 and key[k] + reach >= ring:
            for p in range(k):
                if key[p] + ring - key[k] > reach:
                    break
                _touch(cars[order[k]], cars[order[p]], ring, reach)


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _touch(a, b, shift, reach):
    """Marks `a` and `b`, which is `shift` farther along, if they overlap: four separating axes."""
    dx, dy = b.x + shift - a.x, b.y - a.y
    if abs(dy) > reach:
        return
    cos_a, sin_a, cos_b, sin_b = cos(a.heading), sin(a.heading), cos(b.heading), sin(b.heading)
    along, across = abs(cos_a * cos_b + sin_a * sin_b), abs(sin_a * cos_b - cos_a * sin_b)
    if (
        2 * abs(dx * cos_a + dy * sin_a) < a.length + b.length * along + b.width * across
        and 2 * abs(dy * cos_a - dx * sin_a) < a.width + b.width * along + b.length * across
        and 2 * abs(dx * cos_b + dy * sin_b) < b.length + a.length * along + a.width * across
        and 2 * abs(dy * cos_b - dx * sin_b) < b.width + a.width * along + a.length * across
    ):
        a.crashed = True
        b.crashed = True
