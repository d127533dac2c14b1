"""Training clips recorded per second and core, beside highway-env with PPUU's drawing, in one run.

Both simulate a hundred cars on four lanes at 10 Hz with IDM and MOBIL drivers, as dense as highway-v0, where
nobody enters; every vehicle's own view is drawn in every frame, and a clip is 40 such frames. Theirs:
`road.act`, `road.step`, and a crop for each car drawn as PPUU does it (see `raster.py` for what is spared
there). Ours: what `worldmodel prepare source=traffic` does, which checks and writes a store, and the crops
then drawn from what was read back. `tracks` is recording alone: clips are drawn when a batch is put together,
so this is what the store takes to make. `open` is the same for a road with traffic that enters and leaves,
half a minute of warm-up included.
"""

import resource
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from _report import parse, rate, report
from highway_env.road.road import Road, RoadNetwork
from highway_env.vehicle.behavior import IDMVehicle
from raster import Ppuu  # sets what pygame wants to know before it is imported

from worldmodel.data import load_store
from worldmodel.data.record import Scenes, Simulate, record
from worldmodel.scene import LaneMap, Recording, Renderer, Tracks
from worldmodel.scene.traffic import Scenario, TrafficRoad, simulate

CARS, LANES, GAP, DT = 100, 4, 22.0, 0.1
CLIP = 40
"""Frames, ten of them history."""
FRAMES, SCENES = 220, 32


def make_road() -> Road:
    rng = np.random.RandomState(0)
    road = Road(RoadNetwork.straight_road_network(LANES, speed_limit=30), np_random=rng)
    for number, x in enumerate(np.cumsum(rng.uniform(0.8 * GAP, 1.2 * GAP, CARS))):
        car = IDMVehicle(road, [x, 4.0 * (number % LANES)], 0.0, rng.uniform(18, 28))
        car.target_speed = rng.uniform(20, 30)
        road.vehicles.append(car)
    return road


def boxes(road: Road) -> np.ndarray:
    state = np.array([[*car.position, car.heading] for car in road.vehicles])
    return np.concatenate([state * [1.0, -1.0, -1.0], np.tile([5.0, 2.0], (CARS, 1))], axis=1)


def theirs() -> tuple[float, float]:
    """Clips per CPU second: simulated and drawn, simulated alone."""
    road = make_road()
    state = np.concatenate([boxes(road)[:, :3], np.zeros((CARS, 1))], axis=1)
    tracks = Tracks(np.arange(CARS), state[:, None], np.ones((CARS, 2)), np.ones((CARS, 1), dtype=bool))
    map_ = LaneMap.straight(length=1.2 * GAP * CARS + 500.0, num_lanes=LANES, lane_width=4.0)
    ppuu = Ppuu(Recording("highway-env", tracks, map_, DT, np.zeros((1, 2))))

    def drive() -> None:
        road.act()
        road.step(DT)

    def drive_and_draw() -> None:
        drive()
        ppuu.boxes = boxes(road)
        ppuu.outlines = np.stack([ppuu.outline(box) for box in ppuu.boxes])
        for ego in range(CARS):
            ppuu.draw(ego)

    return tuple(rate(work, count=CARS, repeats=5) / CLIP for work in (drive_and_draw, drive))


def ours(folder: Path, make: Simulate) -> tuple[float, float, float]:
    """Clips per CPU second: recorded and drawn, recorded alone; bytes of a clip on disk."""
    record(Scenes(make, num=2, together=2), folder / "compiled")
    start = time.process_time()
    record(Scenes(make, num=SCENES, together=SCENES), folder / "store")
    recorded = time.process_time() - start
    store = load_store(folder / "store")
    Renderer(store.recordings[0]).texture  # noqa: B018 - once for all scenes of a road
    start, frames = time.process_time(), 0
    for one in store.recordings:
        renderer = Renderer(one)
        row, frame = np.nonzero(one.tracks.valid)
        for part in np.array_split(np.arange(len(row)), len(row) // 2000 + 1):
            renderer.render(one.tracks.state[row[part], frame[part], :3], frame[part], row[part])
        frames += len(row)
    drawn = time.process_time() - start
    size = sum(path.stat().st_size for path in (folder / "store").glob("*.parquet"))
    clips = frames / CLIP
    return clips / (recorded + drawn), clips / recorded, size / clips


def closed() -> Simulate:
    """As many cars on as much road as highway-env's, with room to drive on."""
    stretch = CARS * GAP
    lanes = TrafficRoad.straight(num_lanes=LANES, length=stretch)
    density = CARS / LANES / (stretch / 1000.0)
    scenario = Scenario("closed", lanes, density=density, inflow=0.0)
    return partial(simulate, scenario, num_frames=FRAMES, warm_up=0.0)


def busy() -> Simulate:
    """A kilometre of road that fills up at its start."""
    scenario = Scenario("open", TrafficRoad.straight(num_lanes=LANES, length=1000.0), density=25.0)
    return partial(simulate, scenario, num_frames=FRAMES)


def main(json_path: Path | None = None) -> None:
    theirs_drawn, theirs_driven = theirs()
    with tempfile.TemporaryDirectory() as folder:
        drawn, tracks, size = ours(Path(folder) / "closed", closed())
        open_drawn, open_tracks, _ = ours(Path(folder) / "open", busy())
    rows = {
        "clips_per_s_core": drawn,
        "highway_env_ppuu_clips_per_s_core": theirs_drawn,
        "speedup_recording": drawn / theirs_drawn,
        "tracks_clips_per_s_core": tracks,
        "speedup_tracks": tracks / theirs_drawn,
        "highway_env_undrawn_clips_per_s_core": theirs_driven,
        "open_clips_per_s_core": open_drawn,
        "speedup_open": open_drawn / theirs_drawn,
        "open_tracks_clips_per_s_core": open_tracks,
        "bytes_per_clip": size,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }
    report("recording", rows, json_path)


if __name__ == "__main__":
    main(parse(__doc__))
