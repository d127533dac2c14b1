"""The engine of `worldmodel results`, with stages that take no time: each notes that it ran."""

import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent

import pytest
from rich.console import Console

from worldmodel.app.pipeline import Outcome, Pipeline
from worldmodel.app.stage import Stage, expand, fill

PROGRAM = dedent("""
    run=$1
    mkdir -p "$run"
    echo "$2" >> "$run/../diary"
    eval "$3"
""")
"""Writes its name into the diary, makes its folder and does what it is told, in it."""


def make(name: str, work: str = "echo result > $run/out", **needs: str) -> Stage:
    """A stage that leaves `out`."""
    return Stage(name, "do", overrides=(f"name={name}", f"work={work}"), needs=needs, outputs=("out",))


def pipeline(folder: Path, *, jobs: int = 1) -> Pipeline:
    def argv(command: str, overrides: Sequence[str]) -> list[str]:
        values = dict(one.split("=", 1) for one in overrides)
        return ["sh", "-c", PROGRAM, "sh", values["run"], values["name"], values["work"]]

    def describe(command: str, overrides: Sequence[str]) -> str:
        return f"{command} {' '.join(overrides)}"

    return Pipeline(folder, argv=argv, describe=describe, jobs=jobs, console=Console(quiet=True))


def run(folder: Path, stages: Sequence[Stage], *, jobs: int = 1) -> dict[str, str]:
    return {name: one.status for name, one in pipeline(folder, jobs=jobs).run(stages).items()}


def diary(folder: Path) -> list[str]:
    """What has run since the last look."""
    path = folder / "diary"
    found = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def test_a_stage_runs_after_those_it_needs_and_is_not_run_again(tmp_path: Path) -> None:
    stages = [
        make("last", "cat {first}/out {second}/out > $run/out", first="a", second="b"),
        make("b"),
        make("a"),
    ]
    assert set(run(tmp_path, stages).values()) == {"done"}
    assert diary(tmp_path) == ["b", "a", "last"]
    assert (tmp_path / "last" / "out").read_text() == "result\nresult\n"
    assert set(run(tmp_path, stages).values()) == {"cached"}
    assert diary(tmp_path) == []


def test_two_stages_run_at_a_time(tmp_path: Path) -> None:
    # Each waits for the other's file, so that neither could finish alone.
    def meet(other: str) -> str:
        until = f"test -f $run/../{other}/out && exit; sleep .05"
        return f"touch $run/out; for i in $(seq 200); do {until}; done; exit 1"

    assert set(run(tmp_path, [make("a", meet("b")), make("b", meet("a"))], jobs=2).values()) == {"done"}


def test_a_change_reruns_what_depends_on_it(tmp_path: Path) -> None:
    def stages(content: str = "result") -> list[Stage]:
        of_a, of_b = (make(f"of-{one}", "cat {it} > $run/out", it=f"{one}/out") for one in ("a", "b"))
        return [make("a", f"echo {content} > $run/out"), make("b"), of_a, of_b]

    run(tmp_path, stages())
    (tmp_path / "a" / "left").touch()
    diary(tmp_path)
    assert run(tmp_path, stages("other")) == {"a": "done", "b": "cached", "of-a": "done", "of-b": "cached"}
    assert diary(tmp_path) == ["a", "of-a"]
    assert not (tmp_path / "a" / "left").exists()  # nothing of the old configuration is left

    # The same weights again: nobody downstream notices that the stage ran.
    assert run(tmp_path, stages("   other"))["of-a"] == "cached"
    # A result that was changed or lost is made again.
    diary(tmp_path)
    (tmp_path / "of-a" / "out").write_text("tampered")
    (tmp_path / "of-b" / "out").unlink()
    run(tmp_path, stages("   other"))
    assert diary(tmp_path) == ["of-a", "of-b"]


def test_what_is_done_is_known_without_running_anything(tmp_path: Path) -> None:
    stages = [make("a"), make("b"), make("last", "cat {a}/out > $run/out", a="a")]
    assert pipeline(tmp_path).done(stages) == set()
    run(tmp_path, stages)
    assert pipeline(tmp_path).done(stages) == {"a", "b", "last"}
    diary(tmp_path)
    stages[0] = make("a", "echo other > $run/out")  # changed, so what needs it is not done either
    assert pipeline(tmp_path).done(stages) == {"b"}
    (tmp_path / "b" / "out").write_text("touched")
    assert pipeline(tmp_path).done(stages) == set()
    assert diary(tmp_path) == []


def test_a_failed_stage_takes_along_only_those_that_need_it(tmp_path: Path) -> None:
    stages = [
        make("bad", "echo something; echo the reason >&2; exit 3"),
        make("empty", "true"),
        make("needs-bad", it="bad"),
        make("needs-that", it="needs-bad"),
        make("good"),
    ]
    engine = pipeline(tmp_path)
    found = engine.run(stages)
    assert found["bad"] == Outcome("failed", reason="the reason")
    assert engine.log(stages[0]).read_text() == "something\nthe reason\n"
    assert found["empty"].reason == "left no out"
    assert found["needs-bad"] == Outcome("skipped", reason="needs bad")
    assert found["needs-that"].status == "skipped" and found["good"].status == "done"
    # Tried again, with those that need it.
    repaired = [make("bad", "true; echo result > $run/out"), *stages[2:]]
    assert run(tmp_path, repaired) == {
        "bad": "done",
        "needs-bad": "done",
        "needs-that": "done",
        "good": "cached",
    }


def test_a_stage_that_cannot_be_described_fails_alone(tmp_path: Path) -> None:
    engine = pipeline(tmp_path)

    def describe(command: str, overrides: Sequence[str]) -> str:
        if "name=bad" in overrides:
            raise ValueError("no such policy")
        return ""

    engine.describe = describe
    found = engine.run([make("bad"), make("good")])
    assert found["bad"] == Outcome("failed", reason="no such policy") and found["good"].is_good


def stages_that_take(seconds: float) -> list[Stage]:
    return [
        make("a"),
        make("slow", f"touch $run/begun; sleep {seconds}; echo ended >> $run/../diary; echo 1 > $run/out"),
        make("c", it="slow"),
    ]


SCRIPT = """
import signal, sys
from pathlib import Path
from tests.app.test_pipeline import pipeline, stages_that_take
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
try:
    pipeline(Path(sys.argv[1])).run(stages_that_take(float(sys.argv[2])))
except KeyboardInterrupt:
    sys.exit(130)
"""


def start(folder: Path, *, seconds: float) -> subprocess.Popen[bytes]:
    """Starts them in another process, and returns it when the slow one is at work."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), str(seconds)], cwd=root)
    deadline = time.monotonic() + 60
    while not (folder / "slow" / "begun").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.mark.slow
def test_killed_it_goes_on_where_it_was(tmp_path: Path) -> None:
    process = start(tmp_path, seconds=2.5)
    process.kill()
    process.wait()
    assert diary(tmp_path) == ["a", "slow"]
    # What it had started is still at work: it is waited for, and then gone over once more.
    assert run(tmp_path, stages_that_take(2.5)) == {"a": "cached", "slow": "done", "c": "done"}
    assert diary(tmp_path) == ["ended", "slow", "ended", "c"]


@pytest.mark.slow
def test_interrupted_it_leaves_nothing_at_work(tmp_path: Path) -> None:
    process = start(tmp_path, seconds=60)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert not (tmp_path / "c").exists()
    with (tmp_path / ".stages" / "slow.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody holds it


CHOICES = {
    "train": {"x": {"overrides": ["data=x"]}, "y": {"overrides": ["data=y"], "expect": 5}},
    "agent": {
        "ours": {"inputs": {"checkpoint": "model-{train}/model.pt"}, "overrides": ["a={agent}"]},
        "idm": None,
    },
}


def test_templates_become_stages() -> None:
    templates = {
        "model": {"command": "train", "each": {"train": ["x", "y"]}, "expect": 50, "outputs": ["model.pt"]},
        "drive": {"command": "evaluate", "each": {"agent": ["ours", "idm"], "train": ["x"]}},
    }
    stages = {one.name: one for one in expand(templates, CHOICES)}
    assert list(stages) == ["model-x", "model-y", "drive-ours-x", "drive-idm-x"]
    assert stages["model-x"].overrides == ("data=x",)
    assert (stages["model-x"].seconds, stages["model-y"].seconds) == (50, 55)
    ours = stages["drive-ours-x"]
    assert ours.overrides == ("a=ours", "data=x", "checkpoint={checkpoint}")
    assert ours.needs == {"checkpoint": "model-x/model.pt"} and not stages["drive-idm-x"].needs
    assert ours.labels == {"stage": "drive", "table": "", "agent": "ours", "train": "x"}


def test_a_stage_gathers_the_results_of_several() -> None:
    templates = {
        "policy": {"command": "train", "each": {"train": ["x"], "seed": [0, 1]}},
        "drive": {
            "command": "evaluate",
            "each": {"train": ["x"]},
            "gather": {"seed": [0, 1]},
            "needs": {"s{seed}": "policy-{train}-{seed}/policy.pt"},
            "overrides": ["cluster=scene", "also.p_s{seed}={like:policy,path:{s{seed}}}"],
        },
    }
    choices = {**CHOICES, "seed": {"0": {"overrides": ["seed=0"]}, "1": None}}
    drive = expand(templates, choices)[-1]
    assert drive.needs == {"s0": "policy-x-0/policy.pt", "s1": "policy-x-1/policy.pt"}
    assert drive.overrides[1:] == (
        "cluster=scene",
        "also.p_s0={like:policy,path:{s0}}",
        "also.p_s1={like:policy,path:{s1}}",
    )
    assert fill(drive.overrides[2], {"s0": "runs/0.pt"}) == "also.p_s0={like:policy,path:runs/0.pt}"


def test_mistakes_in_templates_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train='z' is not described"):
        expand({"model": {"command": "train", "each": {"train": ["z"]}}}, CHOICES)
    with pytest.raises(ValueError, match="needs 'nobody', which is not there"):
        expand({"model": {"command": "train", "needs": {"it": "nobody"}}}, CHOICES)
    with pytest.raises(ValueError, match="none of"):
        fill("{unknown}/model.pt", {"model": "x"})
    with pytest.raises(ValueError, match="waits for itself"):
        pipeline(tmp_path).run([make("a", it="a")])
