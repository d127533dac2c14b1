"""Vehicle-steps per second and core of simulated traffic, beside highway-env's and SUMO's, in one run.

highway-env moves one scene (`road.act`, `road.step`), ours moves batches of some 25,000 vehicles, on the same
four straight lanes with IDM and MOBIL drivers at 10 Hz; nobody draws or observes. The traffic is as
dense as highway-v0: a car every 22 m, whatever its lane. SUMO is left out where libsumo is not installed.
"""

import tempfile
from functools import partial
from pathlib import Path

import _report
import numpy as np
import torch
from highway_env.road.road import Road, RoadNetwork
from highway_env.vehicle.behavior import IDMVehicle

from worldmodel.scene.traffic import Drivers, TrafficRoad, TrafficState, advance, advance_torch

LANES, GAP, DT = 4, 22.0, 0.1
SIZES = (20, 50, 100, 150, 300)
VEHICLES = 25_000
STEPS = 20


def make_scenes(num_scenes: int, num: int, road: TrafficRoad) -> tuple[TrafficState, Drivers]:
    g = torch.Generator().manual_seed(0)
    shape = (num_scenes, num)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.float64).uniform_(low, high, generator=g)

    # Lane after lane, so that nobody begins within another.
    lane = torch.arange(num).remainder(LANES).expand(shape)
    x = 100.0 + torch.cumsum(uniform(0.8 * GAP, 1.2 * GAP), 1)
    timer = uniform(0.0, 1.0)
    state = TrafficState.on_lanes(x, lane, uniform(18, 28), centre=torch.from_numpy(road.centre), timer=timer)
    return state, Drivers.alike(uniform(20, 30), delta=uniform(3.5, 4.5))


def make_highway(state: TrafficState, drivers: Drivers) -> Road:
    road = Road(RoadNetwork.straight_road_network(LANES, speed_limit=30), np_random=np.random.RandomState(0))
    for i in range(state.num_vehicles):
        position = [float(state.x[0, i]), -float(state.y[0, i])]
        car = IDMVehicle(road, position, 0.0, float(state.speed[0, i]), timer=float(state.timer[0, i]))
        car.target_speed, car.DELTA = float(drivers.desired_speed[0, i]), float(drivers.delta[0, i])
        road.vehicles.append(car)
    return road


def highway_rate(state: TrafficState, drivers: Drivers) -> float:
    road = make_highway(state, drivers)
    steps = max(2, 1000 // state.num_vehicles)

    def drive() -> None:
        for _ in range(steps):
            road.act()
            road.step(DT)

    return _report.rate(drive, count=steps * state.num_vehicles, repeats=5)


def sumo_rate(num: int) -> float | None:
    """Returns SUMO's rate with IDM drivers and every vehicle's position read, or None without libsumo."""
    try:
        import libsumo
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "nodes.xml").write_text(
            '<nodes><node id="a" x="0" y="0"/><node id="b" x="9000" y="0"/></nodes>'
        )
        edges = f'<edges><edge id="e" from="a" to="b" numLanes="{LANES}" speed="30"/></edges>'
        (folder / "edges.xml").write_text(edges)
        flows = "".join(
            f'<vehicle id="{i}" type="t" depart="0" departLane="{i % LANES}" departPos="{100 + GAP * i}" '
            'departSpeed="20"><route edges="e"/></vehicle>'
            for i in range(num)
        )
        (folder / "routes.xml").write_text(f'<routes><vType id="t" carFollowModel="IDM"/>{flows}</routes>')
        import subprocess

        net = [f"--node-files={folder}/nodes.xml", f"--edge-files={folder}/edges.xml"]
        subprocess.run(
            ["netconvert", *net, f"--output-file={folder}/net.xml"], check=True, capture_output=True
        )
        options = ["-n", f"{folder}/net.xml", "-r", f"{folder}/routes.xml", "--step-length", str(DT)]
        libsumo.start(["sumo", *options, "--no-step-log", "--no-warnings"])

        def drive() -> None:
            for _ in range(STEPS):
                libsumo.simulationStep()
                for vehicle in libsumo.vehicle.getIDList():
                    libsumo.vehicle.getPosition(vehicle)

        found = _report.rate(drive, count=STEPS * num, repeats=5)
        there = libsumo.vehicle.getIDCount()
        libsumo.close()
    if there != num:
        raise RuntimeError(f"SUMO had {there} vehicles at the end, expected {num}; the rate counts {num}")
    return found


def main(json_path: Path | None = None) -> None:
    torch.set_num_threads(1)
    road = TrafficRoad.straight(num_lanes=LANES)
    rows: dict[str, float] = {}
    for num in SIZES:
        state, drivers = make_scenes(VEHICLES // num, num, road)
        rates = {"highway_env": highway_rate(state, drivers)}
        for name, backend in (("torch", advance_torch), ("numba", advance)):
            drive = partial(backend, state, drivers, road, num_steps=STEPS)
            rates[name] = _report.rate(drive, count=STEPS * state.x.numel(), repeats=5)
        rows |= {f"{name}_vehicle_steps_per_s_core_{num}": value for name, value in rates.items()}
        for name in ("torch", "numba"):
            rows[f"speedup_{name}_{num}"] = rates[name] / rates["highway_env"]
    sumo = sumo_rate(50)
    if sumo is None:
        print("libsumo is not installed: SUMO is left out")
    else:
        rows["sumo_vehicle_steps_per_s_core_50"] = sumo
        rows["numba_over_sumo_50"] = rows["numba_vehicle_steps_per_s_core_50"] / sumo
    _report.report("traffic", rows, json_path)


if __name__ == "__main__":
    main(_report.parse(__doc__.splitlines()[0]))
