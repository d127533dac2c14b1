"""A learnt model as an environment: we act in its imagination.

An episode starts from a recorded history; from the hand-over on a `WorldModel` says who else is on the road
and where the ego gets. Observations, actions and info are those of `envs.replay`, so the same agents drive
here; the road is the recorded one, because it is known.

**Reward**: minus the cost of the step, and minus `CRASH_COST` for a collision or for leaving the road. A
collision is an ego over `CONTACT` of predicted cars: who it is and where it is hit is not known. `terminated`
means one of the two; `truncated` that `num_steps` are over, or the known road.

Episode `i + len(episodes) * j` is episode `i` in its future `j`: the latents of a stochastic model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Generator, Tensor, nn

from envs._core import ReplayCore, RoadCore
from envs._scenery import Scenery
from envs._vector import CRASH_COST, RoadEnv, RoadOptions, RoadVectorEnv
from worldmodel.evaluation.episode import Outcome
from worldmodel.evaluation.protocol import V1, Episode, Protocol
from worldmodel.evaluation.truth import Others
from worldmodel.models.view import move_view
from worldmodel.protocols import Cost, Hidden, Knowledge, WorldModel
from worldmodel.scene import (
    Channel,
    RasterSpec,
    Recording,
    Renderer,
    X,
    compose_pose,
    inverse,
    relative_pose,
)
from worldmodel.types import Indexed, Obs, Rollout

CONTACT = 0.5
"""Area of the ego's footprint, shrunk by the protocol, that must more likely be occupied than not [m^2]."""
NUM_FUTURES = 2**16
"""Of each episode."""
VEHICLES = 0
"""Channel of a predicted raster."""


@dataclass(frozen=True)
class Dream(Indexed):
    """What the model carries for slots that started together.

    Attributes:
        hidden: of the model.
        latent: of every step.
        start: world state of the ego at the hand-over; the planning frame.
        slot: whose row it is.
        tick: steps since.
    """

    hidden: Hidden
    latent: Float[Tensor, "B T Z"]
    start: Float[Tensor, "B 4"]
    slot: Int[Tensor, " B"]
    tick: int = 0

    def __getitem__(self, index):
        """Returns the rows `index`."""
        return replace(super().__getitem__(index), hidden=self.hidden[index])


class ImaginedCore(RoadCore):
    """`num_slots` egos in the imagination of a model; `dream` must follow `start`.

    Args:
        recordings: that episodes start from.
        episodes: where they start.
        model: imagines.
        protocol: how they are judged.
        num_slots: how many at a time.
        num_steps: after which an episode is over.
        spec: of the predicted rasters.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        episodes: Sequence[Episode],
        *,
        model: WorldModel,
        protocol: Protocol,
        num_slots: int,
        num_steps: int,
        spec: RasterSpec,
    ) -> None:
        self.log = ReplayCore(recordings, episodes, protocol=protocol, num_slots=num_slots)
        if abs(model.dt - self.log.dt) > 1e-9:
            raise ValueError(f"a model with dt={model.dt}, recordings with {self.log.dt}; resample them")
        self.model, self.num_steps, self.spec = model, num_steps, spec
        self.vehicles = torch.zeros(num_slots, spec.height, spec.width)  # as predicted, seen by the ego
        self._dreams: list[Dream] = []
        super().__init__(
            num_episodes=len(episodes) * NUM_FUTURES,
            num_history=self.log.num_history,
            protocol=protocol,
            num_slots=num_slots,
            dt=self.log.dt,
        )

    def dream(self, slots: Int[np.ndarray, " N"], obs: Obs) -> None:
        """Lets the model read what the egos of `slots` have seen."""
        with torch.no_grad():
            hidden = self.model.init(obs)
            latents = []
            for row, slot in enumerate(slots.tolist()):
                future = int(self.episode_id[slot]) // len(self.log.episodes)
                generator = Generator(obs.state.device).manual_seed(future)
                latents.append(self.model.sample_latent(hidden[row : row + 1], self.num_steps, generator))
        begun = Dream(
            hidden, torch.cat(latents), torch.from_numpy(self.state[slots]), torch.from_numpy(slots)
        )
        left = [one[~torch.isin(one.slot, begun.slot)] for one in self._dreams]
        self._dreams = [*(one for one in left if len(one.slot)), begun]

    def history(self, slots: np.ndarray, num_frames: int) -> Float[np.ndarray, "N K 4"]:
        """Returns the last `num_frames` recorded states up to the hand-over."""
        return self.log.history(slots, num_frames)

    def _hand_over(self, slots: np.ndarray) -> None:
        log = self.log
        log.start(slots, self.episode_id[slots] % len(log.episodes))
        for name in ("recording", "vehicle", "frame", "state", "size"):
            getattr(self, name)[slots] = getattr(log, name)[slots]
        self.last[slots] = self.frame[slots] + self.num_steps
        for slot in slots.tolist():
            track = log.recordings[self.recording[slot]].tracks.state[self.vehicle[slot]]
            known = min(int(self.last[slot]), int(log.last[slot]))
            self.human_distance[slot] = track[known, X] - self.state[slot, X]

    def _move(self, slots: np.ndarray, wanted: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        """Every dream takes a step; rows that are not driven any more end."""
        action = torch.zeros(self.num_slots, 2)
        action[slots] = torch.from_numpy(wanted).float()
        going = [one[torch.isin(one.slot, torch.from_numpy(slots))] for one in self._dreams]
        self._dreams = [self._advance(one, action) for one in going if len(one.slot)]
        self.distance[slots] = self.state[slots, X] - self.log.state[slots, X]
        return wanted

    def _advance(self, dream: Dream, action: Float[Tensor, "N 2"]) -> Dream:
        mine = dream.slot
        with torch.no_grad():
            hidden, seen = self.model.step(
                dream.hidden, action[mine].to(dream.latent.device), dream.latent[:, dream.tick]
            )
            image = move_view(
                seen.image[:, VEHICLES : VEHICLES + 1], relative_pose(seen.ego[:, :3], seen.view), self.spec
            )
        self.vehicles[mine] = image[:, 0].cpu()
        self.state[mine.numpy()] = compose_pose(seen.ego.cpu().double(), dream.start).numpy()
        return replace(dream, hidden=hidden, tick=dream.tick + 1)

    def _meet_others(self, slots: np.ndarray) -> None:
        """Collisions with predicted cars."""
        spec, size = self.spec, self.size[slots] / 2 - self.protocol.shrink
        ahead = np.abs(spec.row_positions()) < size[:, :1]
        aside = np.abs(spec.column_positions()) < size[:, 1:]
        footprint = ahead[:, :, None] & aside[:, None]
        area = ((self.vehicles[slots].numpy() > 0.5) & footprint).sum((1, 2)) * spec.resolution**2
        self.outcome[slots[area > CONTACT]] = Outcome.COLLISION

    def others(self, slots: np.ndarray) -> Others:
        raise NotImplementedError("a predicted raster does not say who the others are")

    def _edge_distance(self, slots: np.ndarray) -> Float[np.ndarray, " N"]:
        distance = np.empty(len(slots))
        for number in np.unique(self.recording[slots]):
            mine = self.recording[slots] == number
            lanes = self.log.recordings[number].lane_map
            distance[mine] = lanes.edge_distance(self.state[slots[mine], :2])
        return distance

    def _is_at_end(self, slots: np.ndarray) -> Bool[np.ndarray, " N"]:
        """The far end of the road that was ever covered."""
        ends = np.array([one.coverage[:, 1].max() for one in self.log.recordings])
        return np.asarray(self.state[slots, X] > ends[self.recording[slots]] - self.protocol.edge_margin)


class WorldModelVectorEnv(RoadVectorEnv):
    """`num_envs` egos at once in the imagination of a model.

    Args:
        recordings: consistent; episodes start from them.
        episodes: where they start: hand-overs in the training part, for learning.
        num_envs: how many at a time.
        model: imagines, on the CPU or elsewhere; one that is a module is put into eval mode.
        cost: of a step.
        num_steps: of an episode; at most the horizon of a model that has one.
        protocol: how egos are judged.
        renderers: one for each recording, where they exist already; they must draw `raster_spec`.
        device: of the model.
        options: `RoadOptions`; `history` and `raster_spec` as the model was trained on.
    """

    core: ImaginedCore
    knows = frozenset({Knowledge.LOG})

    def __init__(
        self,
        recordings: Sequence[Recording],
        episodes: Sequence[Episode],
        num_envs: int = 1,
        *,
        model: WorldModel,
        cost: Cost,
        num_steps: int = 30,
        protocol: Protocol = V1,
        renderers: Sequence[Renderer] | None = None,
        device: str = "cpu",
        **options: Unpack[RoadOptions],
    ) -> None:
        if isinstance(model, nn.Module):
            model.eval()
        core = ImaginedCore(
            recordings, episodes, model=model, protocol=protocol, num_slots=num_envs, num_steps=num_steps,
            spec=options.get("raster_spec", RasterSpec()),
        )  # fmt: skip
        super().__init__(core, **options)
        self.cost, self.device = cost, device
        self._before = np.zeros((num_envs, 2))  # the action before the newest; jerk needs it
        self._scenery = Scenery(recordings, self.raster_spec, renderers=renderers)

    def _start(self, slots: np.ndarray, wanted: Any = None) -> None:
        super()._start(slots, wanted)
        self.core.dream(slots, self._obs(slots))
        if self.history > 1:
            states = torch.from_numpy(self._state[slots, -2:])
            self._before[slots] = inverse(states, self.core.dt)[:, 0].numpy()

    def _drive(self, slots: np.ndarray, actions: np.ndarray) -> np.ndarray:
        if not len(slots):
            return np.zeros(0)
        super()._drive(slots, actions)
        cost = self._cost(slots)
        self._before[slots] = self.core.action[slots]
        crashed = np.isin(self.core.outcome[slots], (Outcome.COLLISION, Outcome.OFF_ROAD))
        return -cost - CRASH_COST * crashed

    def _cost(self, slots: np.ndarray) -> Float[np.ndarray, " N"]:
        """The cost of the step that was just taken, in the frame that the ego has now."""
        core = self.core
        here = np.zeros((len(slots), 1, 4))
        here[..., 3] = core.state[slots, 3:]
        ego, action, previous, size = (
            torch.from_numpy(one).float()
            for one in (here, core.action[slots, None], self._before[slots], core.size[slots])
        )
        rollout = Rollout(
            image=core.vehicles[slots, None, None],
            ego=ego,
            view=ego[..., :3],
            action=action,
            previous_action=previous,
            size=size,
            road=torch.from_numpy(self._road[slots]),
        )
        with torch.no_grad():
            total: np.ndarray = self.cost(rollout).total[:, 0].double().numpy()
        return total

    def _draw(
        self, slots: Int[np.ndarray, " N"], views: Float[np.ndarray, "N 3"], *, ago: Int[np.ndarray, " N"]
    ) -> UInt8[np.ndarray, "N C H W"]:
        """The recorded history, or the recorded road with the predicted cars."""
        core = self.core
        frames = core.log.frame[slots] - ago
        image = self._scenery.draw(core.recording[slots], views, frames, core.vehicle[slots])
        dreamt = core.steps[slots] > 0
        channel = self.raster_spec.channels.index(Channel.VEHICLES)
        predicted = (core.vehicles[slots[dreamt]] * 255).round().to(torch.uint8)
        image[dreamt, channel] = predicted.numpy()
        return image

    def _crop_road(self, slots: Int[np.ndarray, " N"]) -> Float[np.ndarray, "N R HR WR"]:
        core = self.core
        return self._scenery.crop_road(core.recording[slots], core.state[slots, :3], self.road_spec)

    def _obs(self, slots: Int[np.ndarray, " N"]) -> Obs:
        """What the egos of `slots`, which have just started, have seen."""
        parts = (self._image, self._state.astype(np.float32), self.core.size.astype(np.float32), self._road)
        image, state, size, road = (torch.from_numpy(one[slots]) for one in parts)
        origin = torch.from_numpy(self.core.origin[slots])
        return Obs(image, state, size, road, origin, torch.from_numpy(slots)).to(self.device)


class WorldModelEnv(RoadEnv):
    """One ego; arguments and options as in `WorldModelVectorEnv`.

    Example:
        >>> from worldmodel.costs import motorway_cost
        >>> from worldmodel.data.synthetic import make_recording
        >>> from worldmodel.evaluation.protocol import episodes
        >>> from worldmodel.models import EgoSplit, ForwardModel
        >>> recording = make_recording()
        >>> world, cost = EgoSplit(ForwardModel()), motorway_cost()
        >>> env = WorldModelEnv([recording], episodes([recording]), model=world, cost=cost)
        >>> observation, info = env.reset(seed=0)
        >>> observation["image"].shape
        (10, 3, 117, 24)
    """

    def __init__(self, recordings: Sequence[Recording], episodes: Sequence[Episode], **options: Any) -> None:
        super().__init__(partial(WorldModelVectorEnv, recordings, episodes), **options)
