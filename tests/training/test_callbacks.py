"""What goes around a training: time, best weights, numbers on disk, random numbers, the horizon."""

from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.training.toys import Counter, fit
from worldmodel.training import (
    CsvLogger,
    GrowingHorizon,
    GrowingShare,
    KeepBest,
    StepSeeds,
    TimeBudget,
    WarnOfCollapse,
)
from worldmodel.training import budget as budget_file
from worldmodel.training.csv_logger import read_metrics


def test_the_weights_with_the_lowest_score_are_kept(tmp_path: Path) -> None:
    module = Counter(goal=2.0)
    best = KeepBest(module.model)
    assert not best.restore()
    fit(module, 5, tmp_path, callbacks=[best])
    assert module.model.weight.item() == 5.0
    assert best.restore()
    assert module.model.weight.item() == 2.0
    assert (best.step, best.score) == (2, 0.0)


def test_a_worse_score_after_a_resumption_does_not_replace_the_best(tmp_path: Path) -> None:
    module = Counter(goal=2.0)
    best, again = KeepBest(module.model), KeepBest(module.model)
    fit(module, 2, tmp_path, callbacks=[best])
    again.load_state_dict(best.state_dict())
    fit(module, 2, tmp_path, callbacks=[again])
    again.restore()
    assert module.model.weight.item() == 2.0


def test_a_score_that_stays_much_worse_than_it_was_is_told_once(tmp_path: Path) -> None:
    module, said = Counter(goal=2.0), list[str]()  # the score is the distance of the step from the goal
    best = KeepBest(module.model)
    fit(module, 12, tmp_path, callbacks=[best, WarnOfCollapse(best, say=said.append, patience=3)])
    assert len(said) == 1
    assert "is 9 after 5 steps, it was 0 after 2" in said[0]


def test_a_score_that_recovers_is_no_collapse() -> None:
    best, said = KeepBest(Counter().model), list[str]()
    warn = WarnOfCollapse(best, say=said.append, patience=3)
    best.compare(1.0, step=1)
    for step, score in enumerate((1.3, 1.3, 1.2, 1.3, 1.3, 1.1), start=2):
        best.compare(score, step)
        warn.count(score, step)
    assert not said


@pytest.mark.parametrize(("score", "told"), [(-1.0, 0), (-0.85, 0), (-0.7, 1), (float("nan"), 1)])
def test_losses_below_zero_can_collapse_as_well(score: float, told: int) -> None:
    best, said = KeepBest(Counter().model), list[str]()
    warn = WarnOfCollapse(best, say=said.append, patience=2)
    best.compare(-1.0, step=1)
    for step in (2, 3, 4):
        warn.count(score, step)
    assert len(said) == told


def test_the_budget_ends_the_training_and_counts_what_was_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count()
    monkeypatch.setattr(budget_file, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    first = TimeBudget(8.0)
    assert fit(Counter(), 5, tmp_path, callbacks=[first]).global_step == 5
    assert (first.used, first.share()) == (5.0, 5 / 8)
    resumed = TimeBudget(8.0)
    resumed.load_state_dict(first.state_dict())
    assert fit(Counter(), 5, tmp_path, callbacks=[resumed]).global_step == 3
    endless = TimeBudget(None)
    assert fit(Counter(), 20, tmp_path, callbacks=[endless]).global_step == 20
    assert endless.share() == 0.0


def test_a_step_draws_the_same_whatever_was_drawn_before(tmp_path: Path) -> None:
    plain, validated, other = Counter(), Counter(), Counter()
    fit(plain, 4, tmp_path, callbacks=[StepSeeds(0)], limit_val_batches=0)
    torch.rand(7)
    fit(validated, 4, tmp_path, callbacks=[StepSeeds(0)])
    fit(other, 4, tmp_path, callbacks=[StepSeeds(1)])
    assert plain.noise == validated.noise
    assert len(set(plain.noise + other.noise)) == 8


def test_metrics_are_written_exactly_and_continued(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "metrics.csv"
    logger = CsvLogger(path)
    logger.keep(0)
    logger.log_metrics({"a": 0.1, "epoch": 0}, step=0)
    logger.log_metrics({"b": 1 / 3}, step=1)
    logger.log_metrics({"a": 2.0, "b": 5.0}, step=2)
    assert path.read_text().split() == ["step,a,b", "0,0.1,", f"1,,{1 / 3!r}", "2,2.0,5.0"]
    path.write_text(path.read_text() + "3,4.")  # killed while it wrote
    resumed = CsvLogger(path)
    resumed.keep(2)
    resumed.log_metrics({"a": 7.0}, step=2)
    assert path.read_text().split() == ["step,a,b", "0,0.1,", f"1,,{1 / 3!r}", "2,7.0,"]
    resumed.keep(0)
    assert path.read_text().split() == ["step"]


def test_the_horizon_grows_to_its_end_in_whole_multiples() -> None:
    horizon = GrowingHorizon(start=10, end=30, num_steps=100, multiple=5)
    found = [horizon(step) for step in range(120)]
    assert (found[0], found[24], found[25], found[99], found[100]) == (10, 10, 15, 25, 30)
    assert found == sorted(found) and {one % 5 for one in found} == {0}
    with pytest.raises(ValueError, match="start <= end"):
        GrowingHorizon(start=30, end=10, num_steps=100)


def test_a_growing_share_reaches_the_whole_horizon_in_every_phase() -> None:
    """Of the default phases' lengths, or of the time: half of it, then all frames."""
    horizon = GrowingShare(start=10, end=30, share=0.5, multiple=5)
    for num_steps in (700, 400, 8):
        found = [horizon(step, step / num_steps) for step in range(num_steps)]
        assert [found.count(frames) for frames in (10, 15, 20, 25)] == pytest.approx(
            [num_steps / 8] * 4, abs=1
        )
        assert found == sorted(found) and set(found[num_steps // 2 :]) == {30}
    assert horizon(0, 0.5) == horizon(0, 1.0) == 30
    with pytest.raises(ValueError, match="0 < share <= 1"):
        GrowingShare(start=10, end=30, share=0.0)


def test_a_kill_while_metrics_are_rewritten_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metric that comes later gives every row a column more: the file is written anew."""
    logger = CsvLogger(tmp_path / "metrics.csv")
    logger.keep(0)
    logger.log_metrics({"a": 1.0}, step=0)
    before = logger.path.read_text()

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("csv.DictWriter.writerows", killed)
    with pytest.raises(KeyboardInterrupt):
        logger.log_metrics({"a": 2.0, "b": 3.0}, step=1)
    assert logger.path.read_text() == before
    monkeypatch.undo()
    resumed = CsvLogger(logger.path)
    resumed.keep(1)
    resumed.log_metrics({"a": 2.0, "b": 3.0}, step=1)
    assert read_metrics(logger.path) == {"a": [(0, 1.0), (1, 2.0)], "b": [(1, 3.0)]}
