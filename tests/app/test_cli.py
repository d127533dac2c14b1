"""The command line: help, configurations, and errors that a person can act on."""

import errno
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import worldmodel.app.report
from worldmodel.app.cli import main
from worldmodel.app.compose import UsageError, build, compose
from worldmodel.app.help import COMMANDS

CONFIGS = Path(str(files("configs")))
MADE = [name for name in COMMANDS if (CONFIGS / f"{name}.yaml").exists()]
AGENTS = sorted(path.stem for path in (CONFIGS / "agent").glob("*.yaml"))
OTHERS = [
    f"{folder.name}={path.stem}"
    for folder in CONFIGS.iterdir()
    if folder.name in ("cost", "data", "env", "protocol")
    for path in folder.glob("*.yaml")
]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_the_overrides_and_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"$ worldmodel {name}" in out
    assert all(key in out for key, _ in COMMANDS[name].overrides)


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)


def test_help_does_not_wait_for_heavy_imports() -> None:
    code = "import sys; from worldmodel.app.cli import main; main(['--help']); "
    code += "print('HEAVY', *(set(sys.modules) & {'torch', 'hydra', 'lightning', 'matplotlib'}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1].split() == ["HEAVY"]


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_a_commands_configuration_composes_and_prints(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--cfg", "job"]) == 0
    assert OmegaConf.create(capsys.readouterr().out) == compose(name)


def test_a_configuration_is_printed_wherever_the_option_stands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model.pt", "windows=3", "--cfg", "job"]) == 0
    assert OmegaConf.create(capsys.readouterr().out) == compose("check", ["checkpoint=model.pt", "windows=3"])


def test_an_override_reaches_the_composed_configuration() -> None:
    assert compose("evaluate", ["agent=[no_action]", "seed=3"]).seed == 3
    assert list(compose("evaluate", ["agent=[no_action,human]"]).agent) == ["no_action", "human"]


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_names_itself_and_its_classes_exist(name: str) -> None:
    checkpoints = ["checkpoint=model.pt", "policy_checkpoint=policy.pt"]
    config = compose("evaluate", [f"agent=[{name}]", *checkpoints])
    assert list(config.agent) == [name]
    _assert_targets_exist(OmegaConf.to_container(config, resolve=True))


@pytest.mark.parametrize("choice", OTHERS)
def test_every_other_choice_names_classes_that_exist(choice: str) -> None:
    _assert_targets_exist(OmegaConf.to_container(compose("evaluate", [choice, "agent=[no_action]"])))


def test_a_source_names_classes_that_exist() -> None:
    for path in (CONFIGS / "source").glob("*.yaml"):
        config = compose("prepare", [f"source={path.stem}", "path=somewhere"])
        _assert_targets_exist(OmegaConf.to_container(config, resolve=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["no_action", "lane_keeping", "mpc_copy"])
def test_agents_that_need_no_checkpoint_instantiate(name: str) -> None:
    agent = build(compose("evaluate", [f"agent=[{name}]"]).agent[name])
    assert callable(agent.plan)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["dmo"], 2, "unknown command 'dmo'; expected one of demo, prepare"),
        (["report"], 2, "of is missing; add of="),
        (
            ["report", "of=nowhere"],
            2,
            "nowhere holds no report.json; give of= the folder of a run that made a ",
        ),
        (["plan", "nowhere.pt"], 1, "nowhere.pt: no such file"),
        (["report", "off=nowhere"], 2, "off"),
        (["report", "nowhere"], 2, "'nowhere' is no override; write key=value"),
        (["prepare", "path=nowhere"], 1, "nowhere: no such file or folder"),
        (
            ["evaluate", "agent=[autopilot]"],
            2,
            "agent/autopilot does not exist; agent is one of driver, human",
        ),
        (["prepare", "path=.", "source=lidar"], 2, "source is one of commonroad"),
        (["predict", "model.pt", "windows=-1"], 2, "windows=-1, expected a whole number, at least 1"),
        (["check", "model.pt", "windows=0"], 2, "windows=0, expected"),
    ],
)
def test_a_users_mistake_is_one_line_and_a_code(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(), 143, "interrupted; what report had finished is kept"),
        (OSError(errno.ENOSPC, "No space left on device", "model.pt"), 1, "the disk is full: model.pt"),
        (UsageError("no such thing"), 2, "no such thing"),
        (ValueError("horizon=60 exceeds"), 1, "horizon=60 exceeds"),
        (ZeroDivisionError("oops"), 1, "WORLDMODEL_DEBUG=1"),
    ],
)
def test_what_a_command_raises_becomes_a_code(
    error: BaseException, code: int, message: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def fail(config: object) -> None:
        raise error

    monkeypatch.setattr(worldmodel.app.report, "main", fail)
    assert main(["report", "of=x"]) == code
    assert message in capsys.readouterr().err


def test_an_exit_with_a_code_of_its_own_is_no_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(config: object) -> None:
        raise SystemExit(3)

    monkeypatch.setattr(worldmodel.app.report, "main", leave)
    with pytest.raises(SystemExit, match="3"):
        main(["report", "of=x"])


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDMODEL_DEBUG", "1")
    with pytest.raises(UsageError):
        main(["report"])


def _assert_targets_exist(node: object) -> None:
    import hydra.utils

    if isinstance(node, dict):
        if "_target_" in node:
            assert callable(hydra.utils.get_method(node["_target_"]))
        for part in node.values():
            _assert_targets_exist(part)
    elif isinstance(node, list):
        for part in node:
            _assert_targets_exist(part)


@pytest.mark.slow
def test_what_lies_on_the_search_path_is_found_by_all_that_a_command_composes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf" / "agent").mkdir(parents=True)
    (tmp_path / "conf" / "agent" / "best3.yaml").write_text("best3:\n  _target_: builtins.object\n")
    searched = f"hydra.searchpath=[file://{tmp_path / 'conf'}]"
    assert main(["suite", searched, "agent=[best3]", "reference=best3", "factor=[density]", "plan=true"]) == 0
    assert "best3" in capsys.readouterr().out
    assert main(["evaluate", searched, "agent=[best4]"]) == 2
    assert "agent is one of best3, driver, human" in capsys.readouterr().err
    assert main(["suite", "agent=[best3]", "reference=best3", "factor=[density]", "plan=true"]) == 2
    assert "agent/best3 does not exist" in capsys.readouterr().err

    def composed(config: object) -> None:
        assert list(compose("evaluate", ["agent=[best3]"]).agent) == ["best3"]
        wanted = [sys.executable, "-m", "worldmodel.app.cli", "evaluate", "agent=[best3]", "--cfg", "job"]
        assert "builtins.object" in subprocess.run(wanted, capture_output=True, text=True, check=True).stdout

    monkeypatch.setattr(worldmodel.app.report, "main", composed)
    assert main(["report", "of=x", searched]) == 0
