"""What every agent drives: recordings, episodes, the environment."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gymnasium.vector import VectorEnv

from worldmodel.app.compose import Config, UsageError, build
from worldmodel.data import Store
from worldmodel.evaluation.protocol import Episode, Protocol, episodes, spread
from worldmodel.scene import RasterSpec, Renderer


@dataclass(frozen=True)
class Course:
    """What every agent drives.

    Attributes:
        env: recordings, episodes, number of slots -> environment, as `configs/env` describes it.
    """

    store: Store
    episodes: tuple[Episode, ...]
    protocol: Protocol
    env: Any

    @property
    def spec(self) -> RasterSpec:
        """Of the rasters that the agents see."""
        return drawn_by(self.env)

    @cached_property
    def renderers(self) -> tuple[Renderer, ...]:
        return tuple(Renderer(one, self.spec) for one in self.store.recordings)

    def make_env(self, num_envs: int) -> VectorEnv:
        """Returns the environment with `num_envs` slots; all share the renderers."""
        made: VectorEnv = self.env(
            self.store.recordings, self.episodes, num_envs,
            protocol=self.protocol, renderers=self.renderers, autoreset_mode="Disabled",
        )  # fmt: skip
        return made


def drawn_by(env: Any) -> RasterSpec:
    """Returns what the rasters of an environment show, as `configs/env` describes it."""
    found: RasterSpec = env.keywords.get("raster_spec", RasterSpec())
    return found


def make_course(config: Config) -> Course:
    """Returns the episodes of `config.part`.

    Raises:
        UsageError: when the split has no such part, or the part is empty.
    """
    store: Store = build(config.data)
    spans = getattr(store.split, config.part, None)
    if not spans:
        raise UsageError(
            f"the split has no frames for {config.part!r}; give part= one of train, val, test that has some"
        )
    protocol: Protocol = build(config.protocol)
    found = spread(episodes(store.recordings, spans, protocol=protocol), config.max_episodes)
    return Course(store, tuple(found), protocol, build(config.env))
