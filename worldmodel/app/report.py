"""`worldmodel report`: the page of a finished run, rendered anew from the inputs it kept."""

import base64
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from worldmodel.app.compose import Config, UsageError, require
from worldmodel.app.run import write_atomic
from worldmodel.viz import AgentResult, Comparison, Media, ReportInputs, Section, Table, render_report

INPUTS = "report.json"
PAGE = "report.html"
MEDIA = (
    "pictures",
    "agent_charts",
    "prediction_charts",
    "rollouts",
    "episodes",
    "failures",
    "cost_fields",
    "training",
)
TABLES = ("prediction_table", "stages")


def main(config: Config) -> None:
    """Renders the page of the run folder `of`."""
    require(config, "of")
    folder = Path(config.of)
    if not (folder / INPUTS).is_file():
        raise UsageError(
            f"{folder} holds no {INPUTS}; give of= the folder of a run that made a page, of demo, check, "
            "imagine, probe or suite"
        )
    inputs = load_inputs((folder / INPUTS).read_text(encoding="utf-8"))
    print(write_atomic(folder / PAGE, render_report(inputs)))


def write_report(inputs: ReportInputs, folder: Path) -> Path:
    """Writes the page, and beside it what it was made from; returns the page's path."""
    write_atomic(folder / INPUTS, dump_inputs(inputs))
    return write_atomic(folder / PAGE, render_report(inputs))


def dump_inputs(inputs: ReportInputs) -> str:
    """Returns the inputs as JSON, pictures and videos in base64."""
    return json.dumps(asdict(inputs), default=lambda content: base64.b64encode(content).decode())


def load_inputs(text: str) -> ReportInputs:
    """Returns what `dump_inputs` wrote.

    Raises:
        ValueError: when the text is something else.
    """
    try:
        found: dict[str, Any] = json.loads(text)
        for name in MEDIA:
            found[name] = _media(found[name])
        for name in TABLES:
            found[name] = _table(found[name])
        found["sections"] = tuple(
            Section(**one | {"table": _table(one["table"]), "media": _media(one["media"])})
            for one in found.get("sections", ())
        )
        agents = (
            one | {"safe": tuple(one["safe"]), "success": tuple(one["success"])} for one in found["agents"]
        )
        found["agents"] = tuple(AgentResult(**one) for one in agents)
        found["comparisons"] = tuple(Comparison(**one) for one in found["comparisons"])
        found["sources"] = tuple(found["sources"])
        return ReportInputs(**found)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{INPUTS} is damaged or of another version ({error!r}); run the command again"
        ) from error


def _media(found: Any) -> tuple[Media, ...]:
    return tuple(Media(base64.b64decode(one["content"]), one["caption"]) for one in found)


def _table(found: Any) -> Table | None:
    if not found:
        return None
    return Table(tuple(found["columns"]), tuple(tuple(row) for row in found["rows"]), found["caption"])
