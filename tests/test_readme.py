"""What the README and the documentation pages show can be run.

The Python blocks of a page run in order in one namespace, in an empty folder. A block that cannot run says
why in a comment on the line before it: `<!-- not run: needs a GPU -->`.
"""

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from worldmodel.app.cli import main

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SHELL = ("bash", "console", "sh", "shell", "text", "")
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n`]*\n(?P<body>.*?)^ *```", re.MULTILINE | re.DOTALL
)


def blocks(text: str, *languages: str) -> Iterator[tuple[int, str]]:
    """The line number and the body of each fenced block that is not marked `not run`."""
    for fence in FENCE.finditer(text):
        before = text[: fence.start()].rstrip().rsplit("\n", 1)[-1].strip()
        if fence["language"] in languages and not before.startswith("<!-- not run:"):
            yield text[: fence.start("body")].count("\n"), textwrap.dedent(fence["body"])


def make_targets(text: str) -> set[str]:
    """Targets of `make` in shell blocks and in inline code."""
    shell = [body for _, body in blocks(text, *SHELL)]
    inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    commands = re.findall(r"^(?:\$ )?(?:.*&& )?make ([^#\n]*)", "\n".join([*shell, *inline]), re.MULTILINE)
    words = [word for command in commands for word in command.split("&&")[0].split()]
    return {word for word in words if re.fullmatch(r"[a-z]+", word)}


def commands(text: str) -> list[list[str]]:
    """Words of each `worldmodel COMMAND ...` in the shell blocks."""
    lines = [line for _, body in blocks(text, *SHELL) for line in body.replace("\\\n", " ").splitlines()]
    found = [re.match(r"(?:\$ )?worldmodel (.*)", line) for line in lines]
    return [shlex.split(one[1], comments=True) for one in found if one]


def has_python(page: Path) -> bool:
    return any(blocks(page.read_text(encoding="utf-8"), "python"))


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if has_python(page)], ids=name_of)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, body in blocks(page.read_text(encoding="utf-8"), "python"):
        exec(compile("\n" * line + body, str(page), "exec"), namespace)  # padded: errors name the page's line


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    known = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert make_targets(page.read_text(encoding="utf-8")) <= known


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_can_be_composed(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, *arguments in commands(page.read_text(encoding="utf-8")):
        assert main([name, "--cfg", "job", *arguments]) == 0, capsys.readouterr().err


def test_the_file_map_names_what_exists_and_every_package() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## File map")[2]
    folders: dict[int, Path] = {-1: ROOT}
    named = set()
    for line in next(blocks(text, "text"))[1].splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        named.add(folders[depth - 1] / name)
        folders[depth] = folders[depth - 1] / name
    assert [path for path in sorted(named) if not path.exists()] == []
    names = ("worldmodel", "envs", "planners", "configs")
    packages = {path.parent for name in names for path in (ROOT / name).rglob("__init__.py")}
    assert packages - named == set()


def test_blocks_finds_the_fences_of_a_language_and_leaves_out_marked_ones() -> None:
    text = "a\n```python\nx = 1\n```\n<!-- not run: slow -->\n```python\nx = 2\n```\n- b\n\n"
    text += "  ```python\n  y\n  ```\n"
    assert list(blocks(text, "python")) == [(2, "x = 1\n"), (11, "y\n")]


def test_make_targets_are_read_from_shell_blocks_and_inline_code() -> None:
    text = (
        "`make fast` will make sense\n```bash\ngit pull && make lint docs  # make it\nmake demo JOBS=4\n```\n"
    )
    assert make_targets(text) == {"fast", "lint", "docs", "demo"}


def test_commands_are_read_from_shell_blocks() -> None:
    text = (
        "`worldmodel plan`\n```bash\n$ worldmodel train 'a=\"b c\"' \\\n  d=1  # trains\nworldmodels\n```\n"
    )
    assert commands(text) == [["train", 'a="b c"', "d=1"]]
