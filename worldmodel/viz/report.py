"""The report: one HTML file with everything in it. Its input is plain data, so it can be made from anything.

A section whose input is empty is left out. Nothing is fetched from anywhere when the page is opened.
"""

import base64
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files

import jinja2
from markupsafe import Markup

MAX_BYTES = 8_000_000
"""A larger page is slow to open and to mail."""


@dataclass(frozen=True)
class Media:
    """A picture (PNG or SVG) or video (mp4) with what it shows; `content` says itself which it is."""

    content: bytes
    caption: str

    @property
    def markup(self) -> Markup:
        """The element to put into the page."""
        if self.content.startswith(b"<svg"):
            return Markup(self.content.decode())
        encoded = base64.b64encode(self.content).decode()
        label = html.escape(self.caption, quote=True)
        if self.content.startswith(b"\x89PNG"):
            return Markup(f'<img alt="{label}" src="data:image/png;base64,{encoded}">')
        if self.content[4:8] == b"ftyp":
            source = f"data:video/mp4;base64,{encoded}"
            options = "controls loop muted autoplay playsinline"
            return Markup(f'<video aria-label="{label}" {options} src="{source}"></video>')
        raise ValueError(
            f"media starts with {self.content[:8]!r}; expected PNG, SVG without XML header, or mp4"
        )


@dataclass(frozen=True)
class AgentResult:
    """One row of the result table. Rates are in [0, 1] as (value, low, high).

    Attributes:
        failures: how many episodes ended how, of those that were not safe.
        distance: mean distance driven [m].
        latency_ms: one decision for one scene on one thread; None where nothing is decided.
    """

    name: str
    num_episodes: int
    safe: tuple[float, float, float]
    success: tuple[float, float, float]
    distance: float
    latency_ms: float | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """The paired difference in a rate between two agents, with its interval."""

    what: str
    difference: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What the interval allows to say."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "not told apart"


@dataclass(frozen=True)
class Table:
    """A small table: cells are text or numbers, already rounded."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | int, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading of its own; wide ones have one picture in a row."""

    title: str
    lead: str = ""
    table: Table | None = None
    media: tuple[Media, ...] = ()
    is_wide: bool = True

    @property
    def id(self) -> str:
        """Name of the link target."""
        return "-".join(re.findall(r"[a-z0-9]+", self.title.lower()))


@dataclass(frozen=True)
class ReportInputs:
    """All the report shows; every part but the title may be missing."""

    title: str
    headline: str = ""
    question: str = ""
    pictures: tuple[Media, ...] = ()
    sections: tuple[Section, ...] = ()
    agents: tuple[AgentResult, ...] = ()
    highlight: str = ""
    agent_charts: tuple[Media, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    protocol: str = ""
    prediction_table: Table | None = None
    prediction_charts: tuple[Media, ...] = ()
    rollouts: tuple[Media, ...] = ()
    episodes: tuple[Media, ...] = ()
    failures: tuple[Media, ...] = ()
    cost_fields: tuple[Media, ...] = ()
    training: tuple[Media, ...] = ()
    stages: Table | None = None
    made: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    sources: tuple[str, ...] = ()


def render_report(inputs: ReportInputs) -> str:
    """Returns the page.

    Raises:
        ValueError: when it is larger than `MAX_BYTES`, naming the sizes of its parts.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = lambda rate: f"{100 * rate:.1f}"
    template = files("worldmodel.viz").joinpath("report.html").read_text(encoding="utf-8")
    page = environment.from_string(template).render(report=inputs)
    if len(page.encode()) > MAX_BYTES:
        raise ValueError(
            f"the report has {len(page.encode()):,} bytes, at most {MAX_BYTES:,} are wanted; "
            f"use fewer or smaller videos ({_sizes(inputs)})"
        )
    return page


def _sizes(inputs: ReportInputs) -> str:
    parts = ("pictures", "rollouts", "episodes", "failures", "cost_fields", "training")
    sizes = {part: sum(len(media.content) for media in getattr(inputs, part)) for part in parts}
    sizes |= {one.title: sum(len(media.content) for media in one.media) for one in inputs.sections}
    return ", ".join(f"{name}: {size:,}" for name, size in sizes.items())
