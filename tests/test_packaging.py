"""The generic names `envs`, `planners` and `configs` are ours, whole, and the only ones we take."""

import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

NAMES = ("worldmodel", "envs", "planners", "configs")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_resolves_below_the_repository(name: str, root: Path) -> None:
    assert Path(str(importlib.import_module(name).__file__)) == root / name / "__init__.py"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_name_has_one_owner(name: str) -> None:
    # A set: an editable install leaves metadata both in site-packages and in the repository.
    assert set(importlib.metadata.packages_distributions()[name]) == {"highway-worldmodel"}


def test_no_other_top_level_name_is_importable(root: Path) -> None:
    folders = {path.parent.name for path in root.glob("[!.]*/__init__.py")}
    assert folders == {*NAMES, "tests"}
    assert list(root.glob("*.py")) == []


@pytest.mark.parametrize("name", [*NAMES, "tests"])
def test_every_package_folder_has_an_init(name: str, root: Path) -> None:
    folders = {path.parent for path in (root / name).rglob("*.py")}
    parents = {
        parent for folder in folders for parent in folder.parents if parent.is_relative_to(root / name)
    }
    assert [folder for folder in sorted(folders | parents) if not (folder / "__init__.py").is_file()] == []


def test_no_module_edits_the_import_path(root: Path) -> None:
    files = [path for name in NAMES for path in (root / name).rglob("*.py")]
    assert [path for path in files if "sys.path" in path.read_text(encoding="utf-8")] == []


def test_torch_is_pinned_once_and_without_a_local_version(root: Path) -> None:
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if pin.startswith("torch==")] == ["torch==2.13.0"]
    assert [pin for pin in pins if "+" in pin or "@" in pin or "/" in pin] == []


def test_every_pinned_package_installs_on_the_oldest_python_we_support(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    pins = [line for line in (root / "constraints.txt").read_text().splitlines() if "==" in line]
    asked = {}
    for pin in pins:
        try:
            found = importlib.metadata.metadata(pin.partition("==")[0])
        except importlib.metadata.PackageNotFoundError:  # of an extra that is not installed
            continue
        asked[pin] = found["Requires-Python"] or ""
    assert len(asked) > len(pins) // 2
    assert [pin for pin, python in asked.items() if not SpecifierSet(python).contains(oldest)] == []


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy, because building leaves folders behind
    source.mkdir()
    for path in [*root.glob("*.toml"), *root.glob("*.md"), root / "LICENSE"]:
        shutil.copy(path, source)
    for name in NAMES:
        shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", str(folder), str(source)], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_a_wheel_holds_the_packages_and_their_files(root: Path, wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    kinds = ("configs/**/*.yaml", "worldmodel/data/us101/*.*", "worldmodel/viz/*.html")
    kinds += tuple(f"{name}/**/*.py" for name in NAMES)
    expected = {str(path.relative_to(root)) for kind in kinds for path in root.glob(kind)}
    assert expected | {"worldmodel/py.typed"} <= held
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    metadata = f"highway_worldmodel-{version}.dist-info"
    assert {name.split("/")[0] for name in held} == {*NAMES, metadata}
    assert f"{metadata}/licenses/LICENSE" in held


INSTALLED = """
import configs, envs, planners, worldmodel
from worldmodel.app.compose import compose
from worldmodel.data.sample import us101

for package in (worldmodel, envs, planners, configs):
    assert package.__file__.startswith({target!r}), package.__file__
assert compose("train", ["seed=3"]).seed == 3
print(us101("A").tracks.num_vehicles)
"""


@pytest.mark.slow
def test_an_installed_wheel_finds_its_configs_and_the_shipped_recording(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--no-compile", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True)
    done = subprocess.run(
        [sys.executable, "-c", INSTALLED.format(target=str(target))],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},  # before the editable install
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "93"), done.stderr
