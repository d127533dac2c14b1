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


def row(system: System, proofs: Sequence[Proof]) -> str:
    """A line of the table; a system works where a proof has passed."""
    configs = " ".join(f"`ssl={name}`" for name in system.configs)
    tests = " ".join(f"`{proof.test.split('::')[-1]}`" for proof in proofs)
    results = "; ".join(text for proof in proofs for text in proof.results)
    state = "works" if proofs else ""
    return f"| {system.number} | {system.name} | {configs} | {state} | {tests} | {results} |"


def table(proofs: Mapping[str, Sequence[Proof]], before: Mapping[str, str] | None = None) -> str:
    """The table; systems none of whose proofs was run keep the line they had before."""
    lines = [
        (before or {}).get(one.number, row(one, ()))
        if one.number not in proofs
        else row(one, proofs[one.number])
        for one in systems()
    ]
    count = sum("| works |" in line for line in lines)
    head = ["| id | system | config | state | proof | measured |", "|---|---|---|---|---|---|"]
    return f"{count} of {len(lines)} systems work.\n\n" + "\n".join([*head, *lines])


def write_table(path: Path, proofs: Mapping[str, Sequence[Proof]]) -> None:
    text = path.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    between, tail = rest.split(END)
    before = {line.split("|")[1].strip(): line for line in between.splitlines() if line.startswith("|")}
    path.write_text(f"{head}{BEGIN}\n\n{table(proofs, before)}\n\n{END}{tail}", encoding="utf-8")


def said_to_work(path: Path) -> dict[str, list[str]]:
    """The numbers of the systems that the page says work, with the names of their proofs."""
    rows = re.findall(
        r"^\| (\w+'?) \|[^|]*\|[^|]*\| works \|([^|]*)\|", path.read_text(encoding="utf-8"), re.M
    )
    return {number: re.findall(r"`(\w+)`", tests) for number, tests in rows}
