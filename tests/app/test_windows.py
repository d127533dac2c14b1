"""Which held-out windows come beside which, and what of them is scored."""

from pathlib import Path

import numpy as np
import pytest

from tests.app.factories import save_small_store
from tests.models.factories import make_clip
from worldmodel.app.compose import UsageError, compose
from worldmodel.app.windows import Batches, held_out, only_middle, vehicles_apart
from worldmodel.evaluation.prediction import PredictionScores, score_predictions
from worldmodel.evaluation.probe import copied, probe_of
from worldmodel.models import ForwardModel
from worldmodel.scene import Channel, RasterSpec


def count_meetings(batches: list[np.ndarray], vehicle: np.ndarray) -> int:
    """Windows beside one of their own vehicle, the last beside the first."""
    return sum(int((vehicle[one] == vehicle[np.roll(one, 1)]).sum()) for one in batches)


@pytest.mark.parametrize("seed", range(3))
def test_neighbours_are_of_different_vehicles(seed: int) -> None:
    """Also in a ring of the first few windows; which windows there are and the sizes of batches stay."""
    generator = np.random.default_rng(seed)
    vehicle = generator.integers(5, size=100)
    before = np.array_split(generator.permutation(100)[:37], 3)
    after = list(vehicles_apart(before, vehicle, first=8))
    assert count_meetings(before, vehicle) > 0 == count_meetings([after[0][:8], *after], vehicle)
    assert [len(one) for one in after] == [13, 12, 12]
    assert sorted(np.concatenate(after)) == sorted(np.concatenate(before))


def test_what_is_apart_stays_and_one_vehicle_stays_together() -> None:
    batches = [np.array([3, 0]), np.array([1, 2])]
    for vehicle in (np.array([0, 0, 1, 1]), np.zeros(4, int)):
        after = vehicles_apart(batches, vehicle, first=8)
        assert [one.tolist() for one in after] == [[3, 0], [1, 2]]


def test_held_out_windows_are_the_same_in_another_order(tmp_path: Path) -> None:
    data = ["data=store", f"data.path={save_small_store(tmp_path)}", "checkpoint=none", "batch_size=4"]
    config, probe = compose("check", [*data, "horizon=10"]), probe_of(ForwardModel(channels=8))
    asked: dict[str, np.ndarray] = {}

    def backwards(batches: Batches, vehicle: np.ndarray) -> Batches:
        asked["vehicle"] = vehicle
        return [one[::-1] for one in batches[::-1]]

    dataset, drawn = held_out(config, probe, num=8)
    _, turned = held_out(config, probe, num=8, arrange=backwards)
    rows = [one.origin.tolist() for one in drawn]
    assert [one.origin.tolist() for one in turned] == [one[::-1] for one in rows[::-1]]
    assert len(asked["vehicle"]) == len(dataset)
    own = dataset.index[asked["vehicle"] == asked["vehicle"][0]]
    assert (own[:, :2] == dataset.index[0, :2]).all()


def test_only_what_lies_in_the_middle_is_scored(tmp_path: Path) -> None:
    data = ["data=store", f"data.path={save_small_store(tmp_path)}", "checkpoint=none", "batch_size=4"]
    config = compose("predict", [*data, "horizon=10"])

    def scores(spec: RasterSpec, scored_rows: int | None) -> PredictionScores:
        probe = probe_of(ForwardModel(channels=8, spec=spec))
        _, clips = held_out(config, probe, num=8, scored_rows=scored_rows)
        channel = spec.channels.index(Channel.VEHICLES)
        return score_predictions(
            lambda clip: copied(probe, clip).unsqueeze(0), clips, history=10, vehicle_channel=channel
        )

    short, long = RasterSpec(height=61), RasterSpec(height=117)
    wanted, found, all_rows = scores(short, None), scores(long, 61), scores(long, None)
    for name in ("mse", "iou", "sharpness"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=1e-6, err_msg=name)
    assert (all_rows.mse != wanted.mse).any()


def test_rows_that_are_not_in_the_middle_are_refused() -> None:
    clip = make_clip(2)
    height = clip.covered.shape[-1]
    assert only_middle(clip, None) is clip and only_middle(clip, height + 5) is clip
    middle = only_middle(clip, height - 4).covered
    assert middle[..., 2:-2].equal(clip.covered[..., 2:-2])
    assert not middle[..., :2].any() and not middle[..., -2:].any()
    with pytest.raises(UsageError, match=f"do not lie in the middle of {height}"):
        only_middle(clip, height - 3)
