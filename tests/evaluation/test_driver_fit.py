"""Drivers whose parameters are known are found again."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from worldmodel.data import make_recording
from worldmodel.evaluation.driver_fit import (
    FAR,
    FIRST_MEAN,
    FIRST_STD,
    PARAMETERS,
    Piece,
    fit_drivers,
    following_pieces,
    population_of,
)
from worldmodel.scene.traffic import Drivers, TrafficRoad, TrafficState, advance

FRAMES, DT = 200, 0.1
KNOWN = np.array([22.0, 1.1, 2.5, 1.4, 2.0])
HEADWAY, GAP = PARAMETERS.index("headway"), PARAMETERS.index("gap")


def make_piece(values: np.ndarray, *, seed: int = 0, body: float = 4.5) -> Piece:
    """A driver of these parameters behind one who slows down and speeds up."""
    rng = np.random.default_rng(seed)
    time = DT * np.arange(FRAMES)
    speed = 10.0 + 5.0 * np.sin(2 * np.pi * time / rng.uniform(12.0, 20.0) + rng.uniform(0, 6.0))
    leader = np.stack([60.0 + np.cumsum(speed) * DT, speed], axis=1)
    start = np.array([60.0 - body - 4.0 - values[HEADWAY] * speed[0], speed[0]])
    piece = Piece(leader, np.tile(start, (FRAMES, 1)), body, DT)
    return replace(piece, own=piece.driven(values))


def test_a_fitted_driver_is_a_simulated_driver() -> None:
    x, speed = torch.tensor([[50.0, 85.0]]).double(), torch.tensor([[20.0, 8.0]]).double()
    road, lane = TrafficRoad.straight(num_lanes=1), torch.tensor([[0, 0]])
    state = TrafficState.on_lanes(x, lane, speed, centre=torch.from_numpy(road.centre))
    columns = {
        name: torch.full((1, 2), value).double() for name, value in zip(PARAMETERS, KNOWN, strict=True)
    }
    drivers = replace(Drivers.alike(columns["desired_speed"]), **columns, slowest=torch.zeros(1, 2).double())
    both = []
    for _ in range(FRAMES):
        both.append(torch.stack([state.x[0], state.speed[0]], dim=1).numpy())
        state = advance(state, drivers, road, dt=DT)
    way = np.stack(both)  # (T, 2 vehicles, 2)
    piece = Piece(way[:, 1], way[:, 0], 5.0, DT)
    np.testing.assert_allclose(piece.driven(KNOWN), way[:, 0], atol=1e-9)


def test_known_drivers_are_found_again() -> None:
    rng = np.random.default_rng(1)
    headways = rng.uniform(0.7, 1.8, 12)
    known = [np.concatenate([KNOWN[:1], [headway], KNOWN[2:]]) for headway in headways]
    drivers = [[make_piece(values, seed=seed)] for seed, values in enumerate(known)]
    fit = fit_drivers(drivers, rounds=4)
    found = np.exp(fit.drivers[:, HEADWAY])
    assert np.corrcoef(found, headways)[0, 1] > 0.95
    np.testing.assert_allclose(np.median(found / headways), 1.0, atol=0.15)
    assert fit.gap_error < 0.03
    assert fit.identified[HEADWAY] > 0.6
    assert fit.noise_std.max() < 0.2


def test_what_was_not_seen_stays_where_it_began() -> None:
    # Alone on the road: nothing says how he would follow.
    way = np.stack([15.0 * DT * np.arange(FRAMES), np.full(FRAMES, 15.0)], axis=1)
    free = Piece(np.tile([FAR, 0.0], (FRAMES, 1)), way, 5.0, DT)
    fit = fit_drivers([[free], [free]], rounds=2)
    np.testing.assert_allclose(fit.mean[[HEADWAY, GAP]], FIRST_MEAN[[HEADWAY, GAP]], atol=1e-3)
    np.testing.assert_allclose(fit.identified[[HEADWAY, GAP]], 0.0, atol=0.05)
    assert np.exp(fit.mean[0]) == pytest.approx(15.0, rel=0.1)
    assert fit.std[HEADWAY] == pytest.approx(FIRST_STD[HEADWAY], rel=0.05)


def test_pieces_are_behind_one_leader_on_one_lane() -> None:
    recording = make_recording(seed=1, num_vehicles=9, num_frames=100)
    drivers = following_pieces(recording)
    assert sum(len(one) for one in drivers) >= 6
    for piece in (piece for one in drivers for piece in one):
        assert len(piece.own) >= 50
        if not piece.is_free:
            gap = piece.leader[:, 0] - piece.own[:, 0]
            assert (gap > 10.0).all() and (gap < 40.0).all()  # slots of 30 m, half a one beside it
            assert 4.0 <= piece.body <= 5.5
    assert following_pieces(recording.crop(0, 40)) == []


def test_the_population_is_that_of_the_drivers_and_sizes() -> None:
    fit = fit_drivers([[make_piece(KNOWN, seed=seed)] for seed in range(4)], rounds=2)
    fit = replace(fit, mean=np.log(KNOWN), std=np.full(5, 0.2), noise_std=np.array([0.1, 0.2, 0.3, 9.0]))
    sizes = np.array([[4.5, 1.8]] * 8 + [[12.0, 2.5]] * 2)
    cars, trucks = population_of(fit, sizes).types
    assert (cars.share, trucks.share) == (0.8, 0.2)
    assert (cars.length.mean, trucks.length.mean) == (4.5, 12.0)
    assert cars.headway == trucks.headway
    # A normal distribution with the log-normal's 16 % and 84 % quantiles.
    assert cars.headway.mean - cars.headway.std == pytest.approx(1.1 * np.exp(-0.2), abs=2e-3)
    assert cars.headway.mean + cars.headway.std == pytest.approx(1.1 * np.exp(0.2), abs=2e-3)
    assert cars.noise_std.mean == 0.25


def test_one_driver_is_no_population() -> None:
    with pytest.raises(ValueError, match="1 drivers with pieces"):
        fit_drivers([[make_piece(KNOWN)]])
