"""Who wants to enter: a queue of drivers before each lane of each scene.

Every scene draws from random numbers of its own, many drivers at a time, because drawing one takes as long.
So a scene's traffic is the same whatever other scenes are simulated with it.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from worldmodel.scene.traffic.population import Population
from worldmodel.scene.traffic.rule import CHANGE_DELAY

QUEUE = 16
"""Drivers drawn at a time, for a lane."""


class Inflow:
    """Queues before the lanes of `num_scenes` scenes; the intervals between drivers are exponential.

    Attributes:
        due: time until the first of each queue would enter; negative while it waits for room [s].
    """

    def __init__(
        self,
        population: Population,
        *,
        num_scenes: int,
        entries: Bool[np.ndarray, " L"],
        interval: float,
        exits: tuple[int, ...] = (),
    ) -> None:
        """Prepares the queues; `begin` fills those of a scene.

        Args:
            entries: lanes by which one enters.
            interval: mean time between the vehicles of a lane; infinite where nobody comes [s].
        """
        self._population, self._entries, self._exits = population, entries, exits
        self._interval = interval
        shape = (num_scenes, len(entries))
        self.due: Float[np.ndarray, "B L"] = np.full(shape, np.inf)
        self._next = np.zeros(shape, dtype=np.int64)
        self._queue: dict[str, np.ndarray] = {}  # (B, L, QUEUE)

    def begin(self, scene: int, rng: np.random.Generator) -> None:
        """Draws a scene's queues anew."""
        if not np.isfinite(self._interval):
            self.due[scene] = np.inf
            return
        num = len(self._entries)
        for name, values in self._draw(rng, num * QUEUE).items():
            queue = self._queue.setdefault(name, np.zeros((*self.due.shape, QUEUE), values.dtype))
            queue[scene] = values.reshape(num, QUEUE)
        self._next[scene] = 0
        self.due[scene] = np.where(self._entries, rng.exponential(size=num) * self._interval, np.inf)

    def wait(
        self, scenes: Int[np.ndarray, " N"], dt: float
    ) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
        """Lets `dt` pass; returns scene and lane of whoever is due."""
        self.due[scenes] -= dt
        row, lane = np.nonzero(self.due[scenes] <= 0.0)
        return scenes[row], lane

    def first(
        self, scene: Int[np.ndarray, " P"], lane: Int[np.ndarray, " P"]
    ) -> dict[str, np.ndarray]:  # each (P,)
        """Returns the first driver of each queue, column by column as in `Drivers`, and his `timer`."""
        at = self._next[scene, lane]
        return {name: queue[scene, lane, at] for name, queue in self._queue.items() if name != "wait"}

    def leave(
        self,
        scene: Int[np.ndarray, " P"],
        lane: Int[np.ndarray, " P"],
        generators: list[np.random.Generator],
    ) -> None:
        """Takes the first driver out of each queue; his successor is due some time later."""
        self.due[scene, lane] += self._queue["wait"][scene, lane, self._next[scene, lane]] * self._interval
        self._next[scene, lane] += 1
        empty = self._next[scene, lane] == QUEUE
        for b, m in zip(scene[empty].tolist(), lane[empty].tolist(), strict=True):
            for name, values in self._draw(generators[b], QUEUE).items():
                self._queue[name][b, m] = values
            self._next[b, m] = 0

    def _draw(self, rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
        columns = self._population.draw(rng, num, exits=self._exits)
        timer, wait = rng.uniform(0.0, CHANGE_DELAY, num), rng.exponential(size=num)
        return {**columns, "timer": timer, "wait": wait}
