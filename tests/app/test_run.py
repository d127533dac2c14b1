"""Run folders: whole files or none, stages done once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from worldmodel.app.compose import UsageError
from worldmodel.app.run import Run, write_atomic


def test_a_file_is_whole_or_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_atomic(tmp_path / "a.txt", "old")

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]


def test_a_finished_stage_is_not_done_again(tmp_path: Path) -> None:
    config = OmegaConf.create({"run": str(tmp_path / "run"), "seed": 1})
    done: list[str] = []

    def work() -> None:
        done.append("train")
        write_atomic(tmp_path / "run" / "model.txt", "m")

    for _ in range(2):
        Run.start(config, "demo").stage("train", work, files=("model.txt",))
    assert done == ["train"]
    (tmp_path / "run" / "model.txt").unlink()
    Run.start(config, "demo").stage("train", work, files=("model.txt",))
    assert done == ["train", "train"]


def test_an_interrupted_stage_is_done_again(tmp_path: Path) -> None:
    config = OmegaConf.create({"run": str(tmp_path / "run")})

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Run.start(config, "demo").stage("train", interrupted)
    assert "train" not in Run.start(config, "demo").seconds


def test_another_configuration_does_not_take_over_a_run(tmp_path: Path) -> None:
    Run.start(OmegaConf.create({"run": str(tmp_path), "seed": 1}), "demo")
    with pytest.raises(ValueError, match="differs from the configuration asked for"):
        Run.start(OmegaConf.create({"run": str(tmp_path), "seed": 2}), "demo")


def test_a_run_names_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.start(OmegaConf.create({"run": str(tmp_path / "run")}), "demo")
    run.write("summary.json", {"agents": {}})
    run.close()
    out = capsys.readouterr().out
    assert out.startswith(str(tmp_path / "run"))
    assert all(name in out for name in ("config.yaml", "summary.json", "versions.json"))
    assert json.loads((run.folder / "summary.json").read_text()) == {"agents": {}}


def test_a_folder_is_one_processes_at_a_time(tmp_path: Path) -> None:
    config = OmegaConf.create({"run": str(tmp_path / "run")})
    code = "from worldmodel.app.run import Run; from omegaconf import OmegaConf; "
    code += f"Run.start(OmegaConf.create({dict(config)}), 'demo'); print('at it', flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with other:
        assert other.stdout is not None and other.stdout.readline() == "at it\n"
        with pytest.raises(UsageError, match="run is in use by another process"):
            Run.start(config, "demo")
        assert Run.start(config, "demo", is_shared=True).folder == tmp_path / "run"
        other.kill()
    assert Run.start(config, "demo").folder == tmp_path / "run"


def test_a_folder_of_something_else_is_not_taken_over(tmp_path: Path) -> None:
    config = OmegaConf.create({"run": str(tmp_path)})
    (tmp_path / ".lock").touch()
    (tmp_path / "train.log").touch()
    (tmp_path / "split.json").touch()
    with pytest.raises(UsageError, match=r"holds split.json but no config.yaml"):
        Run.start(config, "demo")
    assert not (tmp_path / "config.yaml").exists()
    (tmp_path / "split.json").unlink()
    Run.start(config, "demo")
    (tmp_path / "split.json").touch()
    assert Run.start(config, "demo").folder == tmp_path


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file is a file, expected a folder"):
        Run.start(OmegaConf.create({"run": str(tmp_path / "file")}), "demo")
