"""Mean and standard deviation of what a model is fed, from the training frames only."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from worldmodel.data.split import Span
from worldmodel.scene import SPEED, Recording, inverse

LISTS = ("state_mean", "state_std", "action_mean", "action_std")
MIN_STD = 1e-3
"""No standard deviation is smaller, so that nothing is divided by zero."""


@dataclass(frozen=True)
class Stats:
    """Normalisation of states and actions.

    Attributes:
        state_mean: of the displacement along and across the heading [m], the turn [rad] from one frame to the
            next, and the speed [m/s].
        state_std: likewise.
        action_mean: of acceleration [m/s^2] and curvature [1/m].
        action_std: likewise.
        num_steps: how many steps they were taken from.

    Example:
        >>> from worldmodel.data import Span, make_recording
        >>> recording = make_recording(num_vehicles=2, num_frames=20)
        >>> compute_stats([recording], [Span(recording.name, 0, 20)]).num_steps
        38
    """

    state_mean: tuple[float, ...]
    state_std: tuple[float, ...]
    action_mean: tuple[float, ...]
    action_std: tuple[float, ...]
    num_steps: int

    def to_json(self) -> str:
        """Returns the numbers as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Stats":
        """Returns what `to_json` wrote.

        Raises:
            ValueError: where the text is something else.
        """
        try:
            found: Mapping = json.loads(text)
            means = {name: tuple(float(value) for value in found[name]) for name in LISTS}
            return cls(**means, num_steps=int(found["num_steps"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"not statistics ({error!r}), expected the JSON that Stats.to_json writes"
            ) from error


def compute_stats(recordings: Iterable[Recording], spans: Sequence[Span]) -> Stats:
    """Returns the statistics of all steps within the spans (the training's), without excluded vehicles.

    Actions are those of `worldmodel.scene.inverse`; take smoothed recordings (`make_consistent`), or they
    measure noise.

    Raises:
        ValueError: where the spans hold no step.
    """
    known = {one.name: one for one in recordings}
    states, actions = [], []
    for span in spans:
        if span.recording not in known:
            raise ValueError(f"span of {span.recording!r}, found {sorted(known)}; pass its recording")
        cut = known[span.recording].crop(span.first, span.last)
        for row, first, last in cut.tracks.runs():
            if int(cut.tracks.ids[row]) not in span.exclude and last - first > 1:
                run = cut.tracks.state[row, first:last]
                actions.append(inverse(torch.from_numpy(run), cut.dt).numpy())
                states.append(_moves(run))
    if not states:
        raise ValueError(f"{len(spans)} spans without a vehicle that is there for two frames; lengthen them")
    state, action = np.concatenate(states), np.concatenate(actions)
    return Stats(
        state_mean=_numbers(state.mean(axis=0)),
        state_std=_numbers(_spread(state)),
        action_mean=_numbers(action.mean(axis=0)),
        action_std=_numbers(_spread(action)),
        num_steps=len(action),
    )


def _moves(run: np.ndarray) -> np.ndarray:
    """Returns displacement in the earlier frame's heading, turn and speed `(T - 1, 4)`."""
    delta, heading = np.diff(run[:, :3], axis=0), run[:-1, 2]
    along = np.cos(heading) * delta[:, 0] + np.sin(heading) * delta[:, 1]
    across = np.cos(heading) * delta[:, 1] - np.sin(heading) * delta[:, 0]
    turn = (delta[:, 2] + np.pi) % (2 * np.pi) - np.pi
    return np.stack([along, across, turn, run[1:, SPEED]], axis=1)


def _spread(values: np.ndarray) -> np.ndarray:
    return np.maximum(values.std(axis=0), MIN_STD)


def _numbers(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
