"""docs/ssl.md: one line for each system, green where its own proof has passed."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SYSTEMS = Path(__file__).with_name("systems.csv")
BEGIN, END = "<!-- the table begins -->", "<!-- the table ends -->"


@dataclass(frozen=True)
class System:
    """A row of `systems.csv`: its number, what it is, and the configurations that make it (or none)."""

    number: str
    name: str
    family: str
    configs: tuple[str, ...]


@dataclass(frozen=True)
class Proof:
    """A test that passed, and what it measured."""

    test: str
    results: tuple[str, ...]


def systems() -> list[System]:
    with SYSTEMS.open(encoding="utf-8", newline="") as stream:
        return [
            System(row["number"], row["name"], row["family"], tuple(row["configs"].split()))
            for row in csv.DictReader(stream)
        ]


def table(proofs: Mapping[str, Sequence[Proof]]) -> str:
    lines = ["| id | system | config | state | proof | measured |", "|---|---|---|---|---|---|"]
    for one in systems():
        found = proofs.get(one.number, ())
        configs = " ".join(f"`ssl={name}`" for name in one.configs)
        tests = " ".join(f"`{proof.test.split('::')[-1]}`" for proof in found)
        results = "; ".join(text for proof in found for text in proof.results)
        state = "works" if found else ""
        lines.append(f"| {one.number} | {one.name} | {configs} | {state} | {tests} | {results} |")
    count = sum(bool(proofs.get(one.number)) for one in systems())
    return f"{count} of {len(systems())} systems work.\n\n" + "\n".join(lines)


def write_table(path: Path, proofs: Mapping[str, Sequence[Proof]]) -> None:
    text = path.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    path.write_text(f"{head}{BEGIN}\n\n{table(proofs)}\n\n{END}{tail}", encoding="utf-8")


def said_to_work(path: Path) -> dict[str, list[str]]:
    """The numbers of the systems that the page says work, with the names of their proofs."""
    rows = re.findall(
        r"^\| (\w+'?) \|[^|]*\|[^|]*\| works \|([^|]*)\|", path.read_text(encoding="utf-8"), re.M
    )
    return {number: re.findall(r"`(\w+)`", tests) for number, tests in rows}
