"""How fast the forward models train, and how well they predict after the same time: ours against PPUU's own.

PPUU's network is restated in `_ppuu.py`. Training steps of 8 windows x 20 frames, taken in turns on one
thread, rasters drawn before:

  *_samples       windows a second (CPU time, median)
  speedup_train   the split model's over PPUU's
  speedup_coupled the small coupled model's over PPUU's
  speedup_tracking the split model's with measured velocities (`model=tracking`) over PPUU's

Then PPUU's and both split models are each trained for the same CPU time on block A of US-101, drawing
included, each with its own learning rate, and predict the vehicle channel 2 s ahead on held-out windows
under the recorded actions, seen from the ego, with latents from the prior:

  *_error         mean squared error over covered pixels, in thousandths; `copy_error` repeats a frame
  error_ratio     the split model's over PPUU's; PPUU is born grey, so a short training says little: try
                  `--seconds 600`
  tracking_ratio  likewise, with measured velocities
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import _ppuu
import _report
import torch
from _default import default_model
from torch import Tensor, nn

from worldmodel.app.source import shipped
from worldmodel.data import Stats, compute_stats
from worldmodel.data.datamodule import TrafficDataModule
from worldmodel.data.dataset import comoving_future, ego_future
from worldmodel.evaluation.prediction import squared_error
from worldmodel.models import CoupledModel, EgoSplit, GaussianLatent, occupancy_loss
from worldmodel.scene import Channel, RasterSpec
from worldmodel.training import CoupledModule, set_motion_normalisation, set_normalisation, warmup_cosine
from worldmodel.types import Clip

BATCH, HORIZON = 8, 20
VEHICLES = RasterSpec().channels.index(Channel.VEHICLES)
FRAMES_DECODED = 2
"""Of the five of a core step of the split model, as `worldmodel train` does."""

Loss = Callable[[Clip], Tensor]
Predict = Callable[[Clip], Tensor]


class PPUULearner:
    """PPUU's inputs, loss and prediction from our windows."""

    history = _ppuu.HISTORY

    def __init__(self, stats: Stats) -> None:
        self.model = _ppuu.PPUU()
        self.mean, self.std = torch.tensor(stats.action_mean), torch.tensor(stats.action_std)
        self.speed = (stats.state_mean[3], stats.state_std[3])

    def loss(self, clip: Clip) -> Tensor:
        image, state, action = self._read(clip)
        future = image[:, self.history :]
        past = (image[:, : self.history], state[:, : self.history], action)
        return _ppuu.loss(self.model(*past, target=future), future, state[:, self.history :])

    def predict(self, clip: Clip) -> Tensor:
        """Returns the vehicle channel `(B, T, 1, H, W)`."""
        image, state, action = self._read(clip)
        past = (image[:, : self.history], state[:, : self.history], action)
        return self.model(*past).image[:, :, VEHICLES : VEHICLES + 1]

    def _read(self, clip: Clip) -> tuple[Tensor, Tensor, Tensor]:
        """Images, normalised positions and velocities, and the actions of the future."""
        x, y, heading, speed = clip.state.unbind(-1)
        x, y = (x - x[:, :1]) / 50.0, (y - y[:, :1]) / 3.7
        ahead, aside = speed * heading.cos(), speed * heading.sin()
        state = torch.stack([x, y, (ahead - self.speed[0]) / self.speed[1], aside], dim=-1)
        action = (clip.action[:, self.history - 1 :] - self.mean) / self.std
        return clip.image.float() / 255, state, action


class SplitLearner:
    """The split model as `worldmodel train` has it in its second phase, all of the latent's penalty paid."""

    history = 10

    def __init__(self, stats: Stats, *overrides: str) -> None:
        self.model = default_model(*overrides)
        set_normalisation(self.model, stats)

    def loss(self, clip: Clip) -> Tensor:
        frames = torch.randperm(self.model.stride)[:FRAMES_DECODED].sort().values.tolist()
        unroll = self.model.unroll_clip(clip, frames=frames)
        decoded = self.model.decoded_frames(HORIZON, frames)
        target, covered = vehicles(clip)[:, -HORIZON:], clip.covered[:, -HORIZON:]
        return occupancy_loss(unroll.logits, target[:, decoded], covered[:, decoded]) + unroll.penalty.mean()

    def predict(self, clip: Clip) -> Tensor:
        """Returns the vehicle channel as seen from the ego."""
        world = EgoSplit(self.model)
        hidden = world.init(recent(clip, self.history).obs(self.history))
        return world.unroll(hidden, clip.action[:, -HORIZON:], world.sample_latent(hidden, HORIZON)).image


class CoupledLearner:
    """The small coupled model, as the preset has it."""

    history = 10

    def __init__(self, stats: Stats) -> None:
        self.model = CoupledModel(
            latent=GaussianLatent(16, 16), history=10, lags=(0, 1, 2, 4, 8), features=(16, 32, 64), width=128
        )
        set_motion_normalisation(self.model, stats)
        self.module = CoupledModule(self.model, optimizer=torch.optim.AdamW, num_steps=1)

    def loss(self, clip: Clip) -> Tensor:
        return self.module.loss(clip)[0]


def samples_per_second(losses: dict[str, Loss], models: dict[str, nn.Module], clips: dict[str, Clip]) -> dict:
    """CPU time of training steps, taken in turns so that a busy machine slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in losses}
    optimizers = {name: torch.optim.AdamW(model.parameters(), 1e-4) for name, model in models.items()}
    for name in [*losses] * 4:
        start = time.process_time()
        optimizers[name].zero_grad()
        losses[name](clips[name]).backward()
        optimizers[name].step()
        times[name].append(time.process_time() - start)
    return {name: BATCH / statistics.median(taken[1:]) for name, taken in times.items()}


def train(
    loss: Loss, model: nn.Module, batches: Iterator[Clip], *, optimizer: torch.optim.Optimizer, seconds: float
) -> int:
    """Trains for so much CPU time, drawing included; returns the number of steps."""
    start = time.process_time()

    def elapsed() -> float:
        return (time.process_time() - start) / seconds

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(10**9, warmup=5, elapsed=elapsed))
    for step in itertools.count():
        if elapsed() >= 1:
            return step
        optimizer.zero_grad()
        loss(next(batches)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), _ppuu.GRADIENT_CLIP)
        optimizer.step()
        schedule.step()
    raise AssertionError


@torch.no_grad()
def held_out_error(predict: Predict, clips: list[Clip]) -> float:
    """Mean squared error of the vehicle channel over covered pixels and 20 steps, in thousandths."""
    torch.manual_seed(0)
    errors = [
        squared_error(predict(clip), vehicles(clip)[:, -HORIZON:], clip.covered[:, -HORIZON:, None, :, None])
        for clip in clips
    ]
    return 1e3 * torch.cat(errors).mean().item()


def vehicles(clip: Clip) -> Tensor:
    return clip.image[:, :, VEHICLES : VEHICLES + 1].float() / 255


def recent(clip: Clip, history: int) -> Clip:
    """Drops the oldest frames of a window until `history` are left before the future."""
    first = clip.state.shape[1] - HORIZON - history
    cut = {name: getattr(clip, name)[:, first:] for name in ("image", "state", "action", "view", "covered")}
    return replace(clip, **cut)


def copy(clip: Clip) -> Tensor:
    return vehicles(clip)[:, -HORIZON - 1 : -HORIZON].expand(-1, HORIZON, -1, -1, -1)


def main() -> None:
    parser = _report.parser(__doc__ or "")
    parser.add_argument("--seconds", type=float, default=20.0, help="of training for each model; 0: none")
    parser.add_argument("--windows", type=int, default=64, help="that are predicted")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    store = shipped()
    stats = compute_stats(store.recordings, store.split.train)
    data = partial(TrafficDataModule, store.recordings, store.split, horizon=HORIZON, batch_size=BATCH)
    ppuu, split, coupled = PPUULearner(stats), SplitLearner(stats), CoupledLearner(stats)
    tracking = SplitLearner(stats, "model=tracking")
    modules = {
        "ppuu": data(history=ppuu.history, future_views=ego_future),
        "split": data(history=split.history, future_views=comoving_future),
        "tracking": data(history=tracking.history, future_views=comoving_future),
        "coupled": data(history=coupled.history, future_views=ego_future),
    }
    learners = {"ppuu": ppuu, "split": split, "tracking": tracking, "coupled": coupled}
    rates = samples_per_second(
        {name: one.loss for name, one in learners.items()},
        {name: one.model for name, one in learners.items()},
        {name: next(iter(one.train_dataloader())) for name, one in modules.items()},
    )
    rows = {f"{name}_samples": value for name, value in rates.items()}
    rows |= {
        "speedup_train": rates["split"] / rates["ppuu"],
        "speedup_coupled": rates["coupled"] / rates["ppuu"],
        "speedup_tracking": rates["tracking"] / rates["ppuu"],
    }
    if args.seconds:
        rows |= compare(stats, modules, seconds=args.seconds, num_windows=args.windows)
    _report.report("forward_model", rows, args.json)


def compare(
    stats: Stats, modules: dict[str, TrafficDataModule], *, seconds: float, num_windows: int
) -> dict[str, float]:
    """Trains all three from scratch for the same time and scores them on the same held-out windows."""
    torch.manual_seed(0)
    clips = spread(modules["ppuu"], num_windows)
    ppuu = PPUULearner(stats)
    ours = {"split": SplitLearner(stats), "tracking": SplitLearner(stats, "model=tracking")}
    optimizers: dict[str, torch.optim.Optimizer] = {
        "ppuu": torch.optim.Adam(ppuu.model.parameters(), _ppuu.LEARNING_RATE),
    }
    for name, one in ours.items():
        optimizers[name] = torch.optim.AdamW(one.model.parameters(), 4e-3, weight_decay=1e-4)
    rows = {"copy_error": held_out_error(copy, clips)}
    for name, one in {"ppuu": ppuu, **ours}.items():
        batches = itertools.chain.from_iterable(iter(modules[name].train_dataloader, None))
        optimizer = optimizers[name]
        rows[f"{name}_steps"] = train(one.loss, one.model, batches, optimizer=optimizer, seconds=seconds)
        one.model.eval()
        rows[f"{name}_error"] = held_out_error(one.predict, clips)
    return rows | {
        "error_ratio": rows["split_error"] / rows["ppuu_error"],
        "tracking_ratio": rows["tracking_error"] / rows["ppuu_error"],
    }


def spread(module: TrafficDataModule, num_windows: int) -> list[Clip]:
    """Returns windows from all over the test part."""
    dataset = module.dataset("test")
    picks = torch.linspace(0, len(dataset) - 1, num_windows).long().tolist()
    return [
        dataset.collate([dataset[item] for item in picks[first : first + BATCH]])
        for first in range(0, num_windows, BATCH)
    ]


if __name__ == "__main__":
    main()
