"""Where a policy's imagination starts: which world model, and which latents.

A start function makes a `Start` of a training window. `ContextStart` predicts the others once and drives
through that (`FixedContext`): the cheapest. `WorldStart` drives in any world model (`EgoSplit`,
`CoupledWorld`). Which latents the horizon gets is a part of its own: `prior` is what works, the posterior is
disastrous for policy learning (Henaff et al. 2019, appendix) but needed by MPER, `Adversarial` looks for bad
luck.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from planners.policy.imagine import Start, imagine, noise_for, repeat_rows
from planners.policy.network import Policy
from worldmodel.models import Context, FixedContext, ForwardModel, LearntContext, load_model
from worldmodel.protocols import Cost, Knowledge, WorldModel
from worldmodel.types import Clip, Obs


@runtime_checkable
class StartFn(Protocol):
    """Training window -> start."""

    history: int

    def __call__(self, policy: Policy, clip: Clip, *, horizon: int, generator: Generator) -> Start:
        """Returns the start at the newest history frame, for so many steps."""
        ...


@runtime_checkable
class LatentFn(Protocol):
    """Chooses the latents of an imagination that has none yet."""

    def __call__(
        self, policy: Policy, start: Start, *, clip: Clip, generator: Generator
    ) -> Float[Tensor, "B T Z"]:
        """Returns latents for every row of `start`, which holds latents from the prior."""
        ...


@dataclass(frozen=True)
class ContextStart:
    """Starts in a `FixedContext` whose latents and dropout masks are drawn anew for every batch.

    Attributes:
        model: predicts the others.
        num_latents: futures averaged into the context; 1 drives through single ones.
        num_masks: dropout copies, whose variance the cost may read; 0 for none.
    """

    model: ForwardModel
    num_latents: int = 1
    num_masks: int = 0

    @property
    def history(self) -> int:
        return self.model.history

    def check_latent(self) -> None:
        """Checks that the others' future is drawn.

        Raises:
            ValueError: the model has no latent.
        """
        if not self.model.latent.dim:
            raise ValueError(
                "this policy draws its actions, and this model has no latent to draw the others' future "
                "from; train one with latent=local, or take policy=vg"
            )

    def __call__(self, policy: Policy, clip: Clip, *, horizon: int, generator: Generator) -> Start:
        seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        source = LearntContext(self.model, num_latents=self.num_latents, num_masks=self.num_masks, seed=seed)
        return _fixed(source, clip.obs(self.history), horizon=horizon, dt=self.model.dt)


@dataclass(frozen=True)
class PosteriorContextStart:
    """Starts in a `FixedContext` that knows the latents of the recorded future: for MPER and ablations.

    Attributes:
        model: predicts the others.
    """

    needs = frozenset({Knowledge.FUTURE})
    model: ForwardModel

    @property
    def history(self) -> int:
        return self.model.history

    def __call__(self, policy: Policy, clip: Clip, *, horizon: int, generator: Generator) -> Start:
        def source(obs: Obs, num_steps: int) -> Context:
            latents = self.model.infer_latents(clip, generator)
            frames = self.model.unroll_clip(clip, latents=latents).logits.sigmoid()
            return Context(frames[:, :num_steps])

        return _fixed(source, clip.obs(self.history), horizon=horizon, dt=self.model.dt)


@dataclass(frozen=True)
class WorldStart:
    """Starts in a world model that follows the ego.

    Attributes:
        world: to drive in.
        history: frames that it reads.
        num_futures: rows for each scene, which differ by their latents.
        latent_fn: chooses the latents; None leaves those of the prior.
    """

    world: WorldModel
    history: int = 10
    num_futures: int = 1
    latent_fn: LatentFn | None = None

    def __post_init__(self) -> None:
        if isinstance(self.world, nn.Module):  # no weight of it is to be trained, or dropped out
            self.world.eval().requires_grad_(False)

    def __call__(self, policy: Policy, clip: Clip, *, horizon: int, generator: Generator) -> Start:
        obs, rows = repeat_rows(clip.obs(self.history), self.num_futures)
        with torch.no_grad():
            hidden = self.world.init(clip.obs(self.history))[rows]
            latent = self.world.sample_latent(hidden, horizon, generator)
        start = Start(self.world, hidden, obs, latent)
        if self.latent_fn is None:
            return start
        return replace(start, latent=self.latent_fn(policy, start, clip=clip[rows], generator=generator))


@dataclass(frozen=True)
class Posterior:
    """The latents of the recorded future.

    Attributes:
        model: infers them (`infer_latents`), one for every `stride` steps.
        stride: of the model.

    Raises:
        ValueError: the model has another.
    """

    needs = frozenset({Knowledge.FUTURE})
    model: ForwardModel
    stride: int

    def __post_init__(self) -> None:
        if self.stride != self.model.stride:
            raise ValueError(
                f"latents held for stride={self.stride} steps, but a latent of this model lasts "
                f"{self.model.stride}; add module.loss_fn.start_fn.latent_fn.stride={self.model.stride}"
            )

    def __call__(
        self, policy: Policy, start: Start, *, clip: Clip, generator: Generator
    ) -> Float[Tensor, "B T Z"]:
        found = self.model.infer_latents(clip, generator)
        return found.repeat_interleave(self.stride, 1)[:, : start.horizon]


@dataclass(frozen=True)
class Adversarial:
    """Latents of the prior, some of them moved to where the policy's drive costs most.

    Adam ascends the cost of the actions that the policy takes under the prior's latents, held back by how far
    the latents leave the prior: `cost - strength |z - z0|^2 / dim` (PPUU's *dreaming*: 0.5 of the batch, rate
    0.1).

    Attributes:
        cost: to ascend.
        share: of the rows that are moved.
        num_iterations: of Adam.
        learning_rate: Adam's.
        strength: of the pull back to the prior's draw.

    Raises:
        ValueError: on use, the world has no latent.
    """

    cost: Cost
    share: float = 0.5
    num_iterations: int = 5
    learning_rate: float = 0.1
    strength: float = 0.1

    def __call__(
        self, policy: Policy, start: Start, *, clip: Clip, generator: Generator
    ) -> Float[Tensor, "B T Z"]:
        if not start.latent.shape[-1]:
            raise ValueError(
                "this model has no latent to move; train one with latent=local, or take policy=mpur_split"
            )
        with torch.no_grad():
            dream = imagine(policy, start, noise=noise_for(policy, start, generator))
        action = dream.rollout.action
        latent = start.latent.clone().requires_grad_()
        optimizer = torch.optim.Adam([latent], lr=self.learning_rate, maximize=True)
        for _ in range(self.num_iterations):
            with torch.enable_grad():  # in validation, too
                total = self.cost(start.world.unroll(start.hidden, action, latent)).total.mean(1)
                away = (latent - start.latent).square().mean((1, 2))
                (latent.grad,) = torch.autograd.grad((total - self.strength * away).sum(), latent)
            optimizer.step()
        drawn = torch.rand(len(latent), generator=generator, device=generator.device)
        is_moved = (drawn < self.share).to(latent.device)
        return torch.where(is_moved[:, None, None], latent.detach(), start.latent)


def load_frozen(path: str) -> nn.Module:
    """Returns the model saved at `path`, its parameters taking no gradient."""
    return load_model(path).requires_grad_(False)


def load_ensemble(paths: Sequence[str]) -> list[nn.Module]:
    """Returns the models saved at `paths`, to measure how much they disagree.

    Raises:
        ValueError: fewer than two; or one has a latent, which does not mean the same to two models.
    """
    if len(paths) < 2:
        raise ValueError(f"got {len(paths)} checkpoints; an ensemble needs at least two, trained apart")
    models = [load_frozen(path) for path in paths]
    stochastic = [path for path, one in zip(paths, models, strict=True) if one.latent.dim]
    if stochastic:
        raise ValueError(
            f"{stochastic[0]} has a latent, which does not mean the same to two models; give the run's "
            "model_deterministic.pt, or train with latent=none"
        )
    return models


def _fixed(source: Callable[[Obs, int], Context], obs: Obs, *, horizon: int, dt: float) -> Start:
    world = FixedContext(source, horizon=horizon, dt=dt)
    hidden = world.init(obs)
    return Start(world, hidden, obs, world.sample_latent(hidden, horizon))
