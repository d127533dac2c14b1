"""Checks of models whose faults are known; the command, its files and its one-line errors."""

import functools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from tests.app.factories import save_small_store
from tests.models.factories import HISTORY, HORIZON, SPEC, make_clip
from worldmodel.app.check_members import load_ensemble, member_disagreement
from worldmodel.app.check_table import disagreement_table, horizon_table, inference_table, recalibration_table
from worldmodel.app.cli import main
from worldmodel.costs import VarianceParts
from worldmodel.evaluation.probe import Findings, Probe, copied, doubt, manoeuvres, measure, predict, probe_of
from worldmodel.evaluation.reliability import Bins
from worldmodel.evaluation.verdict import by_horizon, energies_of, growth, judge, judge_latent, longest_run
from worldmodel.models import (
    CoupledModel,
    EnergyGap,
    ForwardModel,
    GaussianLatent,
    Inference,
    InferredLatent,
    Latent,
    LatentUse,
    masked_bce,
    save_model,
)
from worldmodel.models.latent import CategoricalLatent, RegularisedLatent
from worldmodel.scene import kinematics
from worldmodel.types import Clip


def make_model(*, dim: int = 0, std: float = 0.0, dropout: float = 0.1, categories: int = 0) -> ForwardModel:
    torch.manual_seed(0)
    latent: Latent | None = GaussianLatent(8, 16, dim=dim) if dim else None
    if categories:
        latent = CategoricalLatent(8, 16, groups=2, classes=categories)
    model = ForwardModel(spec=SPEC, history=HISTORY, channels=8, latent=latent, dropout=dropout)
    if std:
        for name, part in model.named_parameters():
            if name.startswith(("core", "decoder", "expander")) and part.ndim > 1:
                torch.nn.init.normal_(part, std=std)
    return model.eval().requires_grad_(False)


def make_coupled() -> CoupledModel:
    torch.manual_seed(0)
    latent = GaussianLatent(4, 4, dim=2)
    model = CoupledModel(spec=SPEC, history=HISTORY, latent=latent, features=(4, 8, 8), width=8, channels=4)
    return model.eval().requires_grad_(False)


def make_clips(num: int = 2) -> list[Clip]:
    clips = [make_clip(4, seed=i, relative_speed=3.0 * i - 2) for i in range(num)]
    return [
        replace(clip, origin=clip.origin + 10 * i * torch.tensor([0, 1, 0])) for i, clip in enumerate(clips)
    ]


def find(model: ForwardModel | CoupledModel, clips: list[Clip], *, gap_steps: int = 1) -> Findings:
    return measure(
        probe_of(model),
        clips,
        num_samples=2,
        num_draws=2,
        num_members=2,
        gap_steps=gap_steps,
        num_candidates=2,
    )


def make_spread() -> Bins:
    """Predicted variances of 1 and squared errors of 16."""
    one = torch.ones(HORIZON, 6)
    return Bins(one, one, 16 * one)


@functools.cache
def copying_findings() -> Findings:
    """Of an untrained model, to be changed by tests of what is made of findings."""
    return find(make_model(dim=2), make_clips(2))


def no_cost(z: torch.Tensor) -> torch.Tensor:
    return z.new_zeros(len(z))


def make_free_model(clip: Clip, *, num_steps: int) -> ForwardModel:
    """A model whose z is limited by nothing, which has begun to learn what the clip shows."""
    torch.manual_seed(0)
    latent = RegularisedLatent(8, 16, regulariser=no_cost, dim=32, weight=0.0, noise=0.0)
    model = ForwardModel(spec=SPEC, history=HISTORY, channels=8, depth=1, latent=latent, dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    target = clip.image[:, HISTORY:, 1:2].float() / 255
    for _ in range(num_steps):
        loss = masked_bce(model.unroll_clip(clip).logits, target, clip.covered[:, HISTORY:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def test_an_untrained_model_is_found_to_be_copying() -> None:
    found = copying_findings()
    for name in ("model", "shuffled", "posterior", "prior", "zero"):
        np.testing.assert_allclose(found.error[name], found.error["copy"], atol=2e-3)
    answers = {one.name: one for one in judge(found, 0.1, miss=0.5)}
    assert answers["action"].verdict.startswith("ignored") and answers["action"].is_good is False
    assert answers["latent"].verdict.startswith("ignored")
    assert answers["range"].is_good is False
    assert "none" in answers["spread"].verdict


def test_a_model_that_knows_the_future_passes() -> None:
    """Targets are the model's own predictions: it uses what it is given, beats copying, and is sure of it."""
    model, clips = make_model(std=0.3, dropout=0.0), []
    probe = probe_of(model)
    for clip in make_clips(4):
        generator = torch.Generator().manual_seed(len(clips))
        action = torch.randn(4, HORIZON, 2, generator=generator) * torch.tensor([4.0, 0.02])
        clip = probe.redirect(clip, action)
        clip = replace(clip, action=torch.cat([clip.action[:, : HISTORY - 1], action], dim=1))
        future = predict(probe, clip, torch.zeros(4, 2, 0))
        image = clip.image.clone()
        image[:, HISTORY:, 1:2] = (future * 255).round().to(torch.uint8)
        clips.append(replace(clip, image=image))
    found = find(model, clips)
    assert found.error["model"].max() < 1e-4 < found.error["shuffled"].mean()
    answers = {one.name: one for one in judge(found, 0.1, miss=0.5)}
    assert answers["action"].is_good and answers["action"].verdict.startswith("yes")
    assert answers["range"].is_good and answers["range"].numbers["better_to"] == pytest.approx(1.0)
    assert answers["latent"].verdict == "none: the model is deterministic"
    assert len(answers["bounds"].numbers["threshold"]) == HORIZON


@pytest.mark.slow
def test_a_model_that_draws_from_the_truth_is_honest() -> None:
    """Futures are one more draw of its own: more draws are more honest, errors as large as spreads.

    Without the correction two draws would leave a spread over error of sqrt(1 / 1.5) = .82.
    """
    model, clips = make_model(dim=2, std=0.3, dropout=0.0), []
    probe = probe_of(model)
    for clip in make_clips(8):
        generator = torch.Generator().manual_seed(100 + len(clips))
        (latent,) = probe.prior(clip, num_samples=1, generator=generator)
        image = clip.image.clone()
        image[:, HISTORY:, 1:2] = (predict(probe, clip, latent) * 255).round().to(torch.uint8)
        clips.append(replace(clip, image=image))
    found = {
        num: measure(probe, clips, num_samples=8, num_draws=num, num_members=2, gap_steps=0, num_candidates=2)
        for num in (2, 16)
    }
    answers = {
        num: {one.name: one.numbers for one in judge(one, 0.1, miss=0.5)} for num, one in found.items()
    }
    assert answers[16]["occupancy"]["ece"]["1.0"] < 0.7 * answers[2]["occupancy"]["ece"]["1.0"]
    for one in answers.values():
        assert one["spread"]["spread_over_error"][-1] == pytest.approx(1.0, abs=0.08)


def test_bounds_that_call_everything_occupied_are_no_answer() -> None:
    """A model that predicts noise has to be promised everything: the bound holds and says nothing."""
    found = find(make_model(std=0.3, dropout=0.0), make_clips(4))
    nothing = replace(found, catching=torch.zeros_like(torch.as_tensor(found.catching)).numpy())
    answer = {one.name: one for one in judge(nothing, 0.1, miss=0.1)}["bounds"]
    assert answer.numbers["coverage"][-1] == 1.0 and answer.numbers["called_occupied"][-1] == 1.0
    assert answer.verdict.startswith("only by calling everything occupied") and answer.is_good is False


@pytest.mark.parametrize(
    ("posterior", "spread", "off", "verdict"),
    [
        (0.01, 0.02, 0.09, "yes: a z that saw the future removes 50 % of the error"),
        (0.01, 0.02, 0.001, "too free: with it, futures that never happened fit as well"),
        (0.02, 0.02, 0.001, "too free"),  # the encoder says nothing, descent finds that z fits anything
        (0.02, 0.02, 0.09, "ignored: a z that saw the future removes 0 % of the error"),
        (0.01, 0.00, 0.09, "ignored"),
    ],
)
def test_the_verdict_on_the_latent(posterior: float, spread: float, off: float, verdict: str) -> None:
    def numbers(value: float) -> torch.Tensor:
        return torch.full((4,), value)

    found = replace(
        copying_findings(),
        latent=LatentUse(numbers(posterior), numbers(0.02), numbers(0.03), numbers(spread)),
        gap=EnergyGap(on=numbers(0.001), off=numbers(off), prior_on=numbers(0.02), prior_off=numbers(0.1)),
    )
    answer = judge_latent(found)
    assert answer.verdict.startswith(verdict)
    assert answer.is_good == verdict.startswith("yes")
    assert answer.numbers["energy_gap"]["forgiven"] == pytest.approx(1 - off / 0.1)


@pytest.mark.slow
def test_descent_is_for_latents_that_take_any_value() -> None:
    """A category half taken is none: such a latent stays what the encoder guessed."""
    models = [make_model(dim=2, std=0.3, dropout=0.0), make_model(std=0.3, dropout=0.0, categories=3)]
    gaps, ways = [], []
    for model in models:
        found = [find(model, make_clips(1), gap_steps=steps) for steps in (0, 3)]
        gaps.append([float(one.gap.on.mean()) for one in found if one.gap is not None])
        ways.append(judge_latent(found[1]).numbers["inference"])
    (guess, descended), (category, same) = gaps
    assert descended < guess and same == category
    assert set(ways[1]) == {"encoder", "search", "minimum", "free_energy"} == set(ways[0]) - {"gradient"}
    assert ways[0]["gradient"] < ways[0]["encoder"]
    for one in ways:
        assert one["minimum"] <= min(one[name] for name in set(one) - {"free_energy"}) + 1e-9


def test_ways_to_find_z_are_told_side_by_side() -> None:
    def energy(*value: float) -> InferredLatent:
        return InferredLatent(torch.zeros(2, 1, 1), torch.tensor(value))

    inference = Inference(energy(1.0, 2.0), energy(0.5, 2.0), energy(3.0, 1.0), torch.tensor([3.0, 2.0]))
    expected = {"encoder": 1.5, "gradient": 1.25, "search": 2.0, "minimum": 0.75, "free_energy": 2.5}
    assert energies_of(inference) == expected
    found = copying_findings()
    table = inference_table([judge_latent(replace(found, inference=inference))])
    assert table is not None and table.rows[1] == ("gradient from the guess", "1.25000")
    assert len(table.rows) == 5
    categories = inference_table([judge_latent(replace(found, inference=replace(inference, gradient=None)))])
    assert categories is not None and [row[0] for row in categories.rows][1] == "search in the prior"
    assert inference_table([judge_latent(replace(found, latent=None))]) is None


@pytest.mark.slow
def test_a_latent_without_limit_is_found_too_free_by_descent() -> None:
    clips = [
        make_clip(1, seed=seed, relative_speed=speed) for seed, speed in enumerate((-3.0, -1.0, 1.0, 3.0))
    ]
    names = ("image", "state", "action", "view", "covered", "size", "road", "origin")
    clip = replace(clips[0], **{name: torch.cat([getattr(one, name) for one in clips]) for name in names})
    model = make_free_model(clip, num_steps=90)
    guessed, descended = (find(model, [clip], gap_steps=steps) for steps in (0, 160))
    assert guessed.gap is not None and not guessed.gap.is_flat
    assert judge_latent(descended).verdict.startswith("too free")


def test_honesty_is_told_for_each_horizon() -> None:
    """Half of the vehicles has errors of four times the spread, and so have the others."""
    found = copying_findings()
    variance = torch.from_numpy(found.error["limit"] / 32).float()
    found = replace(found, variance=VarianceParts(variance, variance), spread=make_spread())
    answers = judge(found, 0.1, miss=0.5)
    numbers = by_horizon(answers, 0.1)
    assert set(numbers) == {"ece", "bias", "spread_over_error", "threshold", "coverage"}
    assert all(list(one) == ["0.5", "1.0"] for one in numbers.values())
    bounds = next(one for one in answers if one.name == "bounds").numbers
    assert numbers["threshold"] == {"0.5": bounds["threshold"][4], "1.0": bounds["threshold"][9]}
    mended = next(one for one in answers if one.name == "spread").numbers["recalibration"]
    assert mended["factor"]["1.0"] == pytest.approx(4.0) == mended["bound"]["0.5"]
    assert mended["ratio_before"]["0.5"] == pytest.approx(0.25)
    assert mended["ratio_after"]["0.5"] == pytest.approx(1.0)
    table = recalibration_table(answers)
    assert table is not None and table.rows[1][:4] == ("1.0 s", "4.000", "0.250", "1.000")
    assert horizon_table(answers, 0.1).rows[0][-2] == f"{bounds['threshold'][4]:.3f}"
    alone = judge(replace(found, cluster=np.zeros_like(found.cluster)), 0.1, miss=0.5)
    assert recalibration_table(alone) is None
    assert set(by_horizon(alone, 0.1)) == {"ece", "bias", "spread_over_error"}
    assert horizon_table(alone, 0.1).columns[-1] == "spread / error"


def test_variances_below_zero_count_as_they_are() -> None:
    """Epistemic variances of -1 and 3 are on average the 1 of the latents; cut off at 0 they would be 1.5."""
    found = copying_findings()
    epistemic = torch.ones(found.error["model"].shape)
    epistemic[::2], epistemic[1::2] = -1.0, 3.0
    found = replace(
        found, variance=VarianceParts(torch.ones_like(epistemic), epistemic), spread=make_spread()
    )
    numbers = next(one for one in judge(found, 0.1, miss=0.5) if one.name == "spread").numbers
    assert numbers["epistemic_share"] == pytest.approx(0.5)


@pytest.mark.slow
def test_variance_is_told_apart() -> None:
    only_latent = find(make_model(dim=2, std=0.3, dropout=0.0), make_clips())
    assert float(only_latent.variance.aleatoric.mean()) > 0
    assert float(only_latent.variance.epistemic.mean()) <= 1e-6
    only_masks = find(make_model(std=0.3, dropout=0.3), make_clips())
    assert float(only_masks.variance.aleatoric.max()) == 0.0
    assert float(only_masks.variance.epistemic.mean()) > 1e-6


def test_an_ensemble_parts_where_its_models_differ() -> None:
    """Twins agree in everything; a model of its own parts from them in image and cost, never in the state."""
    one, other = (probe_of(make_model(dim=2, std=std, dropout=0.0)) for std in (0.3, 0.2))
    clip = make_clips(1)[0]
    twins, apart = (
        member_disagreement(one, pair, clip, num_members=2, seed=0) for pair in ([one, one], [one, other])
    )
    assert twins == {kind: {"0.5": 0.0, "1.0": 0.0} for kind in ("image", "state", "cost")}
    assert apart["image"]["1.0"] > 1e-3 and apart["cost"]["1.0"] > 0.0 == apart["state"]["1.0"]
    latents = one.prior(clip, num_samples=2)
    agree = doubt(one, clip, latents, num_members=2).epistemic
    assert float(agree.abs().max()) == 0.0  # no dropout: twins, under the same latents
    wet = probe_of(make_model(dim=2, std=0.3, dropout=0.3))
    again, elsewhere = (doubt(wet, clip, latents, num_members=2, seed=seed).epistemic for seed in (0, 2))
    assert not again.equal(elsewhere)
    table = disagreement_table(apart)
    assert table.columns == ("horizon", "image", "state", "cost") and table.rows[1][0] == "1.0 s"


def test_dropout_members_part_by_their_masks() -> None:
    clip = make_clips(1)[0]
    wet, dry = (
        member_disagreement(probe_of(make_model(std=0.3, dropout=rate)), [], clip, num_members=3, seed=0)
        for rate in (0.3, 0.0)
    )
    assert wet["image"]["0.5"] > 1e-3 and dry["image"]["0.5"] == 0.0


def test_an_ensemble_of_one_or_of_other_rasters_is_refused(tmp_path: Path) -> None:
    save_model(make_model(), tmp_path / "a.pt")
    save_model(ForwardModel(channels=8), tmp_path / "b.pt")
    probe = probe_of(make_model())
    paths = [str(tmp_path / name) for name in ("a.pt", "b.pt")]

    def load(ensemble: list[str] | None) -> list[Probe]:
        return load_ensemble(OmegaConf.create({"ensemble": ensemble, "device": "cpu"}), probe)

    assert load(None) == []
    assert len(load([paths[0]] * 2)) == 2
    with pytest.raises(ValueError, match="is one model; give two or more"):
        load(paths[:1])
    with pytest.raises(ValueError, match=r"b\.pt is a ForwardModel of 10 frames"):
        load(paths)


@pytest.mark.slow
def test_a_coupled_model_is_asked_the_same() -> None:
    """Drawn from the ego's poses, which in these clips are the co-moving ones; untrained it copies."""
    clips = [replace(one, view=one.state[..., :3]) for one in make_clips()]
    found = find(make_coupled(), clips)
    np.testing.assert_allclose(found.error["model"], found.error["copy"], atol=2e-3)
    assert found.latent is not None and found.gap is not None
    assert len(judge(found, 0.1, miss=0.5)) == 7


def test_copying_is_seen_from_where_the_windows_are_drawn() -> None:
    """An ego that falls 2 m behind sees the copied car 2 m farther ahead."""
    probe, clip = probe_of(make_model()), make_clip(1)
    view = clip.view.clone()
    view[:, HISTORY:, 0] -= 2.0
    moved = copied(probe, replace(clip, view=view))[0, 0, 0]
    rows = torch.arange(SPEC.height).float().unsqueeze(1)

    def place(image: torch.Tensor) -> float:
        occupied = (image - 0.02).clamp_min(0)
        return float((occupied * rows).sum() / occupied.sum())

    shift = place(copied(probe, clip)[0, 0, 0]) - place(moved)
    assert shift * SPEC.resolution == pytest.approx(2.0, abs=0.1)


def test_manoeuvres_do_what_they_are_called() -> None:
    speed = torch.tensor([10.0, 20.0])
    start = torch.zeros(2, 4)
    start[:, 3] = speed
    ends = {
        name: kinematics.rollout(start, way, 0.1)[:, -1] for name, way in manoeuvres(speed, 30, 0.1).items()
    }
    torch.testing.assert_close(ends["keep"][:, 0], 3 * speed, atol=1e-3, rtol=0)
    assert float(ends["brake"][0, 3]) == pytest.approx(0.0, abs=1e-3)
    assert float(ends["accelerate"][1, 3]) == pytest.approx(26.0, abs=1e-3)
    torch.testing.assert_close(ends["left"][:, 1], torch.full((2,), 3.7), atol=0.3, rtol=0)
    torch.testing.assert_close(ends["right"][:, 1], -ends["left"][:, 1], atol=1e-3, rtol=0)
    assert manoeuvres(speed, 2, 0.1)["left"][0, 0, 1] > 0
    with pytest.raises(ValueError, match="1 step to change a lane in"):
        manoeuvres(speed, 1, 0.1)


def test_small_parts_of_the_verdicts() -> None:
    assert longest_run([False, True, True, False, True]) == (1, 3)
    assert longest_run([False, False]) == (0, 0)
    steps = np.arange(1, 31)
    assert growth(0.01 * steps**1.5) == pytest.approx(1.5)


def test_what_is_no_world_model_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear is no world model"):
        probe_of(torch.nn.Linear(1, 1))


SMALL = (
    "threads=1",
    "windows=6",
    "stride=5",
    "batch_size=4",
    "samples=2",
    "draws=2",
    "members=2",
    "horizon=10",
    "gap_steps=1",
)


def save_inputs(folder: Path) -> list[str]:
    save_small_store(folder / "store")
    torch.manual_seed(0)
    model = ForwardModel(channels=8, latent=GaussianLatent(8, 16, dim=2))
    save_model(model, folder / "model.pt")
    return ["data=store", f"data.path={folder / 'store'}"]


@pytest.mark.slow
def test_the_command_prints_writes_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*save_inputs(tmp_path), *SMALL, f"run={tmp_path / 'run'}"]
    arguments.append(f"ensemble=[{tmp_path / 'model.pt'},{tmp_path / 'model.pt'}]")
    assert main(["check", str(tmp_path / "model.pt"), *arguments]) == 0
    out = capsys.readouterr().out
    assert "is the action used?" in out and "report.html" in out
    found = json.loads((tmp_path / "run" / "check.json").read_text())
    assert found["windows"] == 6
    assert set(found["answers"]) == {"action", "latent", "range", "occupancy", "spread", "bounds", "growth"}
    assert set(found["answers"]["latent"]["inference"]) >= {"encoder", "gradient", "search"}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "gradient from the guess" in page and "free below" in page
    assert found["disagreement"]["cost"] == {"0.5": 0.0, "1.0": 0.0} and "Where members part" in page
    assert list(found["by_horizon"]["ece"]) == ["0.5", "1.0"]
    assert page.count("<svg") >= 5 and page.count("data:image/png") == 2
    assert main(["report", f"of={tmp_path / 'run'}"]) == 0
    assert (tmp_path / "run" / "report.html").read_text() == page
    shortest = [*arguments[:2], *SMALL, "horizon=2", f"run={tmp_path / 'shortest'}"]
    assert main(["check", str(tmp_path / "model.pt"), *shortest]) == 0
    assert json.loads((tmp_path / "shortest" / "check.json").read_text())["by_horizon"]["ece"] == {}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "checkpoint is missing; add checkpoint="),
        (["nowhere.pt"], 1, "nowhere.pt: no such file"),
        (["checkpoint=nowhere.pt"], 1, "nowhere.pt: no such file"),
        (["{model}", "part=val"], 2, "part=val: the split has no frames for val"),
        (["{model}", "horizon=1"], 2, "horizon=1 is too short for the ego to do something; give 2 or more"),
        (["{model}", "windows=1"], 2, "1 window to look at, two are needed"),
        (["{model}", "{model}"], 2, "is no override"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = save_inputs(tmp_path)
    words = [word.format(model=tmp_path / "model.pt") for word in arguments]
    assert main(["check", *words, *data]) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
