"""Members: several models that disagree, as one `WorldModel` with `num` rows for each scene.

A member is *one function*: a model of its own (`EnsembleMembers`), or one draw of dropout masks that holds
for the whole trajectory and for every scene (`DropoutMembers`; Gal & Ghahramani 2016). Redrawing masks at
every step, as PPUU's code does, measures accumulated noise instead of disagreement.

Rows are scene-major: row `b * num + m` is member `m` in scene `b`, so `x.unflatten(0, (-1, num))` gives the
members a dimension of their own. What to do with their spread is not known here (`worldmodel.costs`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from worldmodel.models.context import Context, ContextSource, mean_and_variance
from worldmodel.models.coupled import CoupledModel
from worldmodel.models.coupled_world import CoupledWorld
from worldmodel.models.ego_split import EgoSplit
from worldmodel.models.forward_model import ForwardModel
from worldmodel.protocols import Hidden, WorldModel
from worldmodel.types import Indexed, Obs, Prediction, Rollout

Masks: TypeAlias = Sequence[Tensor]
"""Locked dropout masks, rows first: row `m` of every tensor belongs to member `m`."""

WorldFn: TypeAlias = Callable[[Masks], WorldModel]
"""Masks, one row for each row of the batch -> the world model that uses them."""


@runtime_checkable
class Members(WorldModel, Protocol):
    """A `WorldModel` that answers with `num` rows for each scene of the observation.

    `init` gives `B * num` rows, `step` and `unroll` take as many; in `sample_latent` the members of a scene
    share the random numbers.
    """

    num: int


@dataclass(frozen=True)
class MembersHidden(Indexed):
    """What the members carry, and whose each row is, so that rows can be picked and repeated freely."""

    hidden: Hidden
    member: Int[Tensor, " B"]

    def __getitem__(self, index):
        """Returns the rows `index`."""
        return MembersHidden(self.hidden[index], self.member[index])


class DropoutMembers:
    """One network under `num` draws of dropout masks.

    The history is encoded once per scene; encoders have no dropout.

    Args:
        world_fn: makes the world model that uses given masks, such as
            `lambda masks: EgoSplit(model, masks=masks)`.
        masks: of the members, one row each; drawn anew for every training step of a policy, kept while
            planning. `dropout_members` draws them.

    Example:
        >>> from worldmodel.models import ForwardModel
        >>> members = dropout_members(ForwardModel(), num=4, generator=torch.Generator().manual_seed(0))
        >>> members.num
        4
    """

    def __init__(self, world_fn: WorldFn, masks: Masks) -> None:
        self.world_fn, self.masks = world_fn, list(masks)
        self.num = len(self.masks[0])
        self.dt = world_fn(self.masks).dt

    def init(self, obs: Obs) -> MembersHidden:
        """Reads the history once per scene and repeats it for each member."""
        scene, member = _rows(obs.batch_size, self.num, obs.state.device)
        return MembersHidden(self._world(member[:: self.num]).init(obs)[scene], member)

    def sample_latent(
        self, hidden: MembersHidden, num_steps: int, generator: Generator | None = None
    ) -> Float[Tensor, "B T Z"]:
        """Draws once per scene; its members share the draw."""
        first = hidden[:: self.num]
        z = self._world(first.member).sample_latent(first.hidden, num_steps, generator)
        return z.repeat_interleave(self.num, 0)

    def step(
        self, hidden: MembersHidden, action: Float[Tensor, "B 2"], latent: Float[Tensor, "B Z"]
    ) -> tuple[MembersHidden, Prediction]:
        """Moves every row under its member's masks."""
        after, prediction = self._world(hidden.member).step(hidden.hidden, action, latent)
        return replace(hidden, hidden=after), prediction

    def unroll(
        self, hidden: MembersHidden, action: Float[Tensor, "B T 2"], latent: Float[Tensor, "B T Z"]
    ) -> Rollout:
        """Unrolls every row under its member's masks, all in one call."""
        return self._world(hidden.member).unroll(hidden.hidden, action, latent)

    def _world(self, member: Int[Tensor, " B"]) -> WorldModel:
        return self.world_fn([mask[member] for mask in self.masks])


class EnsembleMembers:
    """Models trained apart, of one architecture.

    A latent does not mean the same to two models: with stochastic members, average over latents before
    comparing members (`worldmodel.costs.split_variance`), or use deterministic ones.

    Args:
        worlds: one world model for each member, two or more.
    """

    def __init__(self, worlds: Sequence[WorldModel]) -> None:
        if len(worlds) < 2:
            raise ValueError(f"got {len(worlds)} world models; an ensemble needs at least two")
        self.worlds, self.num, self.dt = list(worlds), len(worlds), worlds[0].dt

    def init(self, obs: Obs) -> MembersHidden:
        """Lets every member read the history."""
        _, member = _rows(obs.batch_size, self.num, obs.state.device)
        return MembersHidden(_gather([world.init(obs) for world in self.worlds], member), member)

    def sample_latent(
        self, hidden: MembersHidden, num_steps: int, generator: Generator | None = None
    ) -> Float[Tensor, "B T Z"]:
        """Draws from each member's own prior with the same random numbers."""
        device = hidden.member.device
        seed = int(torch.randint(2**62, (), generator=generator, device=device))

        def draw(world: WorldModel, rows: Hidden) -> Tensor:
            return world.sample_latent(rows, num_steps, Generator(device).manual_seed(seed))

        return _gather(self._each(draw, hidden), hidden.member)

    def step(
        self, hidden: MembersHidden, action: Float[Tensor, "B 2"], latent: Float[Tensor, "B Z"]
    ) -> tuple[MembersHidden, Prediction]:
        """Moves every row by its own model."""
        found = self._each(lambda world, *rows: world.step(*rows), hidden, action, latent)
        after = _gather([one for one, _ in found], hidden.member)
        return replace(hidden, hidden=after), _gather([one for _, one in found], hidden.member)

    def unroll(
        self, hidden: MembersHidden, action: Float[Tensor, "B T 2"], latent: Float[Tensor, "B T Z"]
    ) -> Rollout:
        """Unrolls every row by its own model."""
        found = self._each(lambda world, *rows: world.unroll(*rows), hidden, action, latent)
        merged: Rollout = _gather(found, hidden.member)
        return merged

    def _each(self, call: Callable[..., Any], hidden: MembersHidden, *parts: Tensor) -> list[Any]:
        """What each world says about its rows; one without rows is not asked."""
        rows = [(hidden.member == m).nonzero().squeeze(1) for m in range(self.num)]
        return [
            call(world, hidden.hidden[own], *(part[own] for part in parts))
            for world, own in zip(self.worlds, rows, strict=True)
            if len(own)
        ]


class EnsembleContext:
    """The mean of several context sources, and their variance: a `ContextSource` for `FixedContext`.

    Args:
        sources: such as a `LearntContext` for each of several models.
    """

    def __init__(self, sources: Sequence[ContextSource]) -> None:
        if len(sources) < 2:
            raise ValueError(f"got {len(sources)} sources; an ensemble needs at least two")
        self.sources = list(sources)

    def __call__(self, obs: Obs, num_steps: int) -> Context:
        """Returns mean and unbiased variance over the sources' means."""
        return Context(*mean_and_variance([source(obs, num_steps).image for source in self.sources]))


def dropout_members(
    model: ForwardModel | CoupledModel, *, num: int = 10, generator: Generator | None = None
) -> DropoutMembers:
    """Returns `num` dropout members of a model, the gradient running from rasters to actions.

    Args:
        generator: of the masks, on the model's device.
    """
    like = next(model.parameters()).new_empty(num)
    return DropoutMembers(lambda masks: world_of(model, masks=masks), model.sample_masks(like, generator))


def ensemble_members(
    models: Sequence[ForwardModel | CoupledModel], *, generator: Generator | None = None
) -> EnsembleMembers:
    """Returns models that were trained apart as members.

    Args:
        generator: as `dropout_members` takes it; nothing is drawn, the members are always the same.
    """
    return EnsembleMembers([world_of(one) for one in models])


def world_of(model: ForwardModel | CoupledModel, *, masks: Masks | None = None) -> WorldModel:
    """Returns a network as the world model that has the gradient from rasters to actions."""
    if isinstance(model, CoupledModel):
        return CoupledWorld(model, masks=masks)
    return EgoSplit(model, masks=masks)


def _rows(num_scenes: int, num: int, device: torch.device) -> tuple[Int[Tensor, " R"], Int[Tensor, " R"]]:
    """Scene and member of every row."""
    row = torch.arange(num_scenes * num, device=device)
    return row // num, row % num


def _gather(parts: Sequence[Any], member: Int[Tensor, " B"]) -> Any:
    """Merges what the members say, in the order of the rows that `member` names."""
    order = torch.argsort(member, stable=True)
    return _concatenate(parts)[torch.argsort(order)]


def _concatenate(parts: Sequence[Any]) -> Any:
    """Tensors, and dataclasses of them, joined row by row; anything else is the same in all parts."""
    first = parts[0]
    if isinstance(first, Tensor):
        if len({part.shape[1:] for part in parts}) > 1:
            shapes = [tuple(part.shape) for part in parts]
            raise ValueError(f"members of different sizes {shapes}; an ensemble has one architecture")
        return torch.cat(list(parts))
    if is_dataclass(first):
        names = [one.name for one in fields(first)]
        joined = {name: _concatenate([getattr(part, name) for part in parts]) for name in names}
        return replace(first, **joined)  # type: ignore[type-var]
    return first
