"""The results' stages as they are configured, and the tables made of what stages leave."""

import json
from dataclasses import fields
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from worldmodel.app.agents import with_aliases
from worldmodel.app.cli import main
from worldmodel.app.compose import UsageError, compose
from worldmodel.app.results import _plain as plain
from worldmodel.app.results import chosen, describe, describe_plan
from worldmodel.app.results_table import (
    as_csv,
    as_markdown,
    driving_rows,
    pictures,
    prediction_rows,
    read_drives,
)
from worldmodel.app.stage import Stage, expand, fill, stage_of
from worldmodel.evaluation import EpisodeResult
from worldmodel.evaluation.table import write_tables


@cache
def configured(profile: str) -> list[Stage]:
    config = compose("results", [f"profile={profile}"])
    return expand(plain(config.stages), plain(config.choices))


@pytest.mark.slow
def test_the_published_table_takes_about_three_hours() -> None:
    stages = configured("full")
    seconds = sum(one.seconds for one in stages)
    assert 2.0 < seconds / 2 / 3600 < 3.1
    assert f"{len(stages)} stages, {seconds:.0f} s" in describe_plan(stages, jobs=2)
    begun = describe_plan(stages, jobs=2, done={stages[0].name})
    assert f"     done  {stages[0].name}  worldmodel train" in begun
    assert f"1 are done, {(seconds - stages[0].seconds) / 7200:.1f} h are left" in begun
    assert sum(one.seconds for one in configured("quick")) < 0.15 * seconds


@pytest.mark.slow
def test_every_configured_stage_can_be_composed() -> None:
    stages = {}
    profiles = ("full", "alone", "encoders", "tracking")
    for stage in (stage for profile in profiles for stage in configured(profile)):
        kind = [
            one for name, one in stage.labels.items() if name not in ("seed", "of_seed", "train", "trained")
        ]
        stages[tuple(kind)] = stage
    for stage in stages.values():
        overrides = [fill(one, {alias: f"/{alias}.pt" for alias in stage.needs}) for one in stage.overrides]
        assert describe(stage.command, overrides)
        if stage.command == "evaluate":
            assert with_aliases(compose("evaluate", overrides)).agent


@pytest.mark.parametrize("profile", ["full", "tracking"])
def test_stages_draw_the_rasters_that_their_models_read(profile: str) -> None:
    """Models are driven with, and policies learn in them, as they were trained; `predict` asks the model."""
    raster = {
        one.name: next((name for name in one.overrides if name.startswith("raster=")), "")
        for one in configured(profile)
    }
    for stage in configured(profile):
        if stage.command == "predict":
            continue
        for alias, need in stage.needs.items():
            if alias != "init":  # weights fit any raster
                assert raster[stage_of(need)] == raster[stage.name], stage.name
    assert "raster=long" in raster.values()


def test_a_pattern_chooses_stages_with_what_they_need() -> None:
    stages = configured("full")
    found = chosen(stages, "drive_policy-mpur-both-c")
    assert [one.name for one in found] == [
        "split-both",
        *(f"policy-mpur-both-{seed}" for seed in (0, 1, 2)),
        "drive_policy-mpur-both-c",
    ]
    assert {stage_of(need) for need in found[-1].needs.values()} == {
        f"policy-mpur-both-{one}" for one in (0, 1, 2)
    }
    several = chosen(stages, ["drive_policy-mpur-both-c", "policy-mpur-both-*"])
    assert several == found
    for wrong in ("drive_policy-nobody-*", ["split-both", "drive_policy-nobody-*"]):
        with pytest.raises(UsageError, match=r"nobody-.*matches no stage"):
            chosen(stages, wrong)
    with pytest.raises(UsageError, match="matches no stage"):
        chosen(stages, [])


def test_the_plan_is_printed_and_nothing_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["results", "plan=true", "profile=quick", "only=policy-il-*"]) == 0
    out = capsys.readouterr().out
    assert "policy-il-both-0  worldmodel train policy=il" in out and "2 stages" in out
    assert not list(tmp_path.iterdir())


def make_row(agent: str, vehicle: int, *, safe: bool, **changes: object) -> EpisodeResult:
    kinds = {"str": "", "int": 0, "float": 1.0, "bool": False}
    values = {one.name: kinds[getattr(one.type, "__name__", str(one.type))] for one in fields(EpisodeResult)}
    side = "none" if safe else "rear"
    values |= {"agent": agent, "recording": "r", "scene": f"r/{vehicle // 2}", "vehicle_id": vehicle}
    return EpisodeResult(**(values | {"safe": safe, "success": safe, "collision_side": side} | changes))  # type: ignore[arg-type]


def save_drive(folder: Path, rows: list[EpisodeResult], latency: float = 2.0) -> None:
    write_tables(folder, rows, {"agent": [], "plan": []})
    agents = {row.agent: {"latency_ms": latency} for row in rows}
    summary = {"agents": agents, "paired_cluster": "scene"}
    (folder / "summary.json").write_text(json.dumps(summary))


def drive_stage(name: str, trained: str = "") -> Stage:
    return Stage(name, "evaluate", labels={"table": "driving", "trained": trained, "course": "c"})


def test_rows_pool_seeds_and_compare_in_pairs(tmp_path: Path) -> None:
    stages = [drive_stage("base"), drive_stage("ours", trained="both"), drive_stage("missing")]
    keeping = [make_row("lane_keeping", one, safe=one % 2 == 0) for one in range(8)]
    save_drive(tmp_path / "base", keeping)
    # Seed 0 is always safe, seed 1 always but once; other episodes come first in the file.
    ours = [make_row(f"mpur_s{seed}", one, safe=(seed, one) != (1, 3)) for seed in (0, 1) for one in range(8)]
    save_drive(tmp_path / "ours", ours[::-1])
    base, row = driving_rows(read_drives(stages, tmp_path), reference="lane_keeping")
    assert (row["agent"], row["trained_on"], row["test"]) == ("mpur", "both", "c")
    assert (row["seeds"], row["n"], row["clusters"]) == (2, 8, 4)
    assert row["safe"] == pytest.approx(15 / 16) and row["safe_by_seed"] in ([1.0, 7 / 8], [7 / 8, 1.0])
    assert row["safe_low"] < 15 / 16 < row["safe_high"]
    assert row["rear"] == pytest.approx(1 / 16) and row["front"] == 0.0
    assert row["safe_gain"] == pytest.approx(15 / 16 - 1 / 2) and row["safe_gain_low"] > 0
    assert "safe_gain" not in base
    # One seed: Wilson's interval, by hand: 4 of 8.
    assert (base["safe_low"], base["safe_high"]) == (
        pytest.approx(0.2152, abs=1e-4),
        pytest.approx(0.7848, abs=1e-4),
    )

    (picture,) = pictures([base, row]).items()
    assert picture[0] == "driving" and picture[1].startswith(b"\x89PNG")
    text = as_markdown([base, row], [])
    assert "## Driving on c" in text and "| mpur | both | 2 x 8 | 93.8 [" in text
    lines = as_csv([base, row]).splitlines()
    assert (
        lines[0].startswith("table,agent,trained_on,test,seeds,n,clusters,safe,safe_low") and len(lines) == 3
    )


def test_agents_that_drove_other_episodes_are_not_compared(tmp_path: Path) -> None:
    save_drive(tmp_path / "base", [make_row("lane_keeping", one, safe=True) for one in range(4)])
    save_drive(tmp_path / "ours", [make_row("idm", one, safe=True) for one in range(3)])
    rows = driving_rows(
        read_drives([drive_stage("base"), drive_stage("ours")], tmp_path), reference="lane_keeping"
    )
    assert not any("safe_gain" in row for row in rows)


def test_predictions_are_quoted_by_horizon(tmp_path: Path) -> None:
    values = {f"{one:.1f}": one / 10 for one in (0.5, 1, 2, 3)}
    metrics = {"mse_over_copy": values, "iou": values, "sharpness": values}
    (tmp_path / "p").mkdir()
    content = {"predictors": {"model": metrics, "posterior": metrics}, "windows": 7}
    (tmp_path / "p" / "summary.json").write_text(json.dumps(content))
    labels = {"table": "prediction", "predictor": "latent", "trained": "both", "test": "mona"}
    rows = prediction_rows([Stage("p", "predict", labels=labels)], tmp_path)
    assert [row["latents"] for row in rows] == ["model", "posterior"]
    assert (rows[0]["iou_0.5s"], rows[0]["iou_3s"]) == (pytest.approx(0.05), pytest.approx(0.3))
    assert "| latent | model | both | 1 | 0.05 / 0.10 / 0.20 / 0.30 |" in as_markdown([], rows)
    assert np.isfinite([rows[0][name] for name in rows[0] if name.startswith("mse")]).all()


def test_predictions_of_several_seeds_are_one_row(tmp_path: Path) -> None:
    stages = []
    for seed, factor in enumerate((1.0, 3.0)):
        values = {f"{one:.1f}": factor for one in (0.5, 1, 2, 3)}
        metrics = {"mse_over_copy": values, "iou": values, "sharpness": values}
        (tmp_path / f"p{seed}").mkdir()
        content = {"predictors": {"model": metrics}, "windows": 7}
        (tmp_path / f"p{seed}" / "summary.json").write_text(json.dumps(content))
        labels = {"table": "prediction", "predictor": "frozen", "encoder": "vicreg", "trained": "us101"}
        stages.append(Stage(f"p{seed}", "predict", labels={**labels, "of_seed": str(seed), "test": "c"}))
    (row,) = prediction_rows(stages, tmp_path)
    assert (row["model"], row["seeds"], row["iou_3s"]) == ("frozen vicreg", 2, 2.0)


@pytest.mark.slow
def test_the_stages_of_encoders_train_and_drive_with_each() -> None:
    stages = {one.name: one for one in configured("encoders")}
    assert not any(one.startswith(("split", "policy", "drive_planned", "drive_latent")) for one in stages)
    used = stages["encoded-frozen-vicreg-1"]
    assert used.needs == {"ssl": "encoder-vicreg-1/ssl.pt"} and "seed=1" in used.overrides
    assert not any(
        one.startswith("seed=") for one in stages["predict_encoded-frozen-vicreg-us101-1-c"].overrides
    )
    assert "ssl=vicreg" in stages["encoder-vicreg-1"].overrides
    assert "policy=il" in stages["imitator-imitate-temporal_contrast-2"].overrides
