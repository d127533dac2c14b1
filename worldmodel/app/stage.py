"""Stages of a pipeline, from templates: names, arguments and files; nothing is run here."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One command and what must be there before.

    Attributes:
        name: unique; also that of its folder.
        command: one of ours.
        overrides: `key=value`; `{alias}` stands for what is needed.
        needs: alias -> `stage/file`, or `stage` for its folder.
        outputs: files that it must leave in its folder, and that later stages depend on.
        labels: what it was made from, as `{"train": "us101", "seed": "0"}`; rows of tables are named by them.
        seconds: how long it is expected to take [s].
    """

    name: str
    command: str
    overrides: tuple[str, ...] = ()
    needs: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def expand(templates: Mapping[str, Any], choices: Mapping[str, Any]) -> list[Stage]:
    """Returns the stages of all templates.

    A template says:

    - `command`, and the `outputs` that it leaves;
    - `each`, variables and their values: there is a stage for each combination, `template-value-value`;
    - `overrides`, where `{variable}` is the value and `{alias}` the path of what is needed;
    - `needs`, alias -> `stage/file` or `stage`; `inputs`, the same and an override `alias=path`;
    - `gather`, variables of whose values a stage takes all: texts that hold such a `{variable}` are repeated;
    - `expect` [s], how long it takes on an idle core.

    A value adds what `choices[variable][value]` says of it: the same keys, but for the first two. Variables
    that `choices` does not know are names only.

    Raises:
        ValueError: a value that `choices` does not know, or a stage that needs one that is not there.
    """
    stages = [
        _stage(name, template, values, choices=choices)
        for name, template in templates.items()
        for values in _combinations(template.get("each", {}))
    ]
    known = {one.name for one in stages}
    if len(known) < len(stages):
        raise ValueError("two stages have one name; rename a template")
    for one in stages:
        for needed in (stage_of(need) for need in one.needs.values()):
            if needed not in known:
                raise ValueError(
                    f"stage {one.name!r} needs {needed!r}, which is not there; add it to the stages"
                )
    return stages


def stage_of(need: str) -> str:
    """Returns the name of the stage in `stage/file`."""
    return need.split("/")[0]


def fill(text: str, values: Mapping[str, str], *, strict: bool = True) -> str:
    """Returns the text with every `{name}` replaced by its value; other braces stay.

    Raises:
        ValueError: a name without a value, unless not `strict`.
    """

    def value(found: re.Match[str]) -> str:
        if found[1] not in values and not strict:
            return found[0]
        if found[1] not in values:
            raise ValueError(f"{found[0]} in {text!r} is none of {sorted(values)}; correct its name")
        return values[found[1]]

    return re.sub(r"\{(\w+)\}", value, text)


def _combinations(each: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, str]]:
    for values in itertools.product(*each.values()):
        yield dict(zip(each, (str(one) for one in values), strict=True))


def _stage(
    template_name: str,
    template: Mapping[str, Any],
    values: Mapping[str, str],
    *,
    choices: Mapping[str, Any],
) -> Stage:
    parts = [*(_choice(choices, variable, value) for variable, value in values.items()), template]
    gathered = [dict(values, **more) for more in _combinations(template.get("gather", {}))]

    def each(text: str) -> Iterator[str]:
        """The text, or one for each gathered combination that makes another of it."""
        yield from dict.fromkeys(fill(text, one, strict=False) for one in gathered)

    needs = {
        alias: need
        for part in parts
        for kind in ("needs", "inputs")
        for key, value in part.get(kind, {}).items()
        for alias, need in zip(each(key), each(value), strict=True)
    }
    inputs = [f"{key}={{{key}}}" for part in parts for key in part.get("inputs", {})]
    overrides = [one for part in parts for text in part.get("overrides", ()) for one in each(text)]
    return Stage(
        name="-".join([template_name, *values.values()]),
        command=template["command"],
        overrides=(*overrides, *inputs),
        needs=needs,
        outputs=tuple(template.get("outputs", ())),
        labels={"stage": template_name, "table": template.get("table", ""), **values},
        seconds=float(sum(part.get("expect", 0.0) for part in parts)),
    )


def _choice(choices: Mapping[str, Any], variable: str, value: str) -> Mapping[str, Any]:
    known = choices.get(variable, {value: None})
    if value not in known:
        raise ValueError(f"{variable}={value!r} is not described; choices.{variable} has {sorted(known)}")
    found: Mapping[str, Any] = known[value] or {}
    return found
