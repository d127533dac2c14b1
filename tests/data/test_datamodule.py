"""Loaders: what they hold, in which order, and what they say when they cannot be made."""

import pytest
import torch

from worldmodel.data import Span, Split, make_recording
from worldmodel.data.datamodule import TrafficDataModule
from worldmodel.data.sampler import MirrorSampler
from worldmodel.scene import RasterSpec, Recording, RoadSpec

SPEC = RasterSpec(height=16, width=8, resolution=2.0)
ROAD = RoadSpec(ahead=20.0, behind=10.0, aside=8.0)


def recording() -> Recording:
    return make_recording(num_vehicles=3, num_frames=60, name="road")


SPLIT = Split(train=(Span("road", 0, 30),), val=(Span("road", 30, 45),), test=(Span("road", 45, 60, (100,)),))


def make_module(split: Split = SPLIT, **options) -> TrafficDataModule:
    settings = {
        "history": 4,
        "horizon": 6,
        "batch_size": 8,
        "spec": SPEC,
        "road_spec": ROAD,
        "eval_stride": 3,
    }
    return TrafficDataModule([recording()], split, **(settings | options))


def origins(loader: torch.utils.data.DataLoader) -> list[tuple[int, ...]]:
    return [tuple(window) for clip in loader for window in clip.origin.tolist()]


def test_an_epoch_holds_every_training_window_once() -> None:
    module = make_module(batch_size=9)
    found = origins(module.train_dataloader())
    assert len(found) == 63  # 21 windows of 3 vehicles: seven batches
    assert {window[1:] for window in found} == {(row, newest) for row in range(3) for newest in range(3, 24)}
    mirrored = sum(number == 1 for number, _, _ in found)
    assert 15 < mirrored < 48


def test_without_mirroring_only_the_recordings_themselves_come() -> None:
    assert {window[0] for window in origins(make_module(mirror=0.0).train_dataloader())} == {0}
    assert {window[0] for window in origins(make_module(mirror=1.0).train_dataloader())} == {1}


@pytest.mark.slow
def test_the_seed_and_the_epoch_fix_the_order() -> None:
    module, again, other = make_module(), make_module(), make_module(seed=1)
    loader, same = module.train_dataloader(), again.train_dataloader()
    first, second = origins(loader), origins(loader)
    assert first != second
    assert [origins(same), origins(same)] == [first, second]
    assert origins(other.train_dataloader()) != first


def test_a_resumed_epoch_is_the_one_it_would_have_been() -> None:
    straight, resumed = (MirrorSampler(50, mirror=0.5, seed=3) for _ in range(2))
    epochs = [list(straight) for _ in range(4)]
    resumed.set_epoch(2)
    assert [list(resumed), list(resumed)] == epochs[2:]
    assert sorted(item % 50 for item in epochs[0]) == list(range(50))
    assert max(epochs[0]) < 100


def test_evaluation_windows_come_in_order_as_recorded() -> None:
    module = make_module()
    assert origins(module.val_dataloader()) == [(0, row, newest) for row in range(3) for newest in (33, 36)]
    assert origins(module.test_dataloader()) == [(0, row, newest) for row in (1, 2) for newest in (48, 51)]


def test_parts_share_no_frame() -> None:
    module = make_module(stride=1, eval_stride=1)
    frames = [
        {frame for _, _, newest in origins(loader) for frame in range(newest - 3, newest + 7)}
        for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader())
    ]
    assert frames == [set(range(30)), set(range(30, 45)), set(range(45, 60))]


def test_a_small_training_set_still_gives_a_batch() -> None:
    module = make_module(batch_size=500)
    assert [len(clip.origin) for clip in module.train_dataloader()] == [63]


@pytest.mark.slow
def test_workers_draw_the_same() -> None:
    alone, helped = make_module(), make_module(num_workers=1)
    for one, two in zip(alone.train_dataloader(), helped.train_dataloader(), strict=True):
        assert torch.equal(one.image, two.image) and torch.equal(one.action, two.action)


@pytest.mark.parametrize(
    ("split", "options", "message"),
    [
        (Split(train=()), {}, "no frames for train"),
        (SPLIT, {"horizon": 60}, "train: no window of history=4 .* has 30"),
        (Split(train=(Span("elsewhere", 0, 30),)), {}, "train: span of 'elsewhere'"),
    ],
)
def test_training_without_windows_is_refused(split: Split, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_module(split, **options).train_dataloader()


def test_a_missing_part_is_refused_when_asked_for() -> None:
    module = make_module(Split(train=SPLIT.train))
    module.train_dataloader()
    with pytest.raises(ValueError, match="no frames for val"):
        module.val_dataloader()
    with pytest.raises(ValueError, match="no frames for test"):
        module.test_dataloader()


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"mirror": 1.5}])
def test_impossible_options_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="batch_size="):
        make_module(**options)
