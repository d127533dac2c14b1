"""The page holds what it was given, leaves out what it was not, and needs nothing from elsewhere."""

import re

import numpy as np
import pytest

from worldmodel.app.report import dump_inputs, load_inputs
from worldmodel.viz import (
    AgentResult,
    Comparison,
    Curve,
    Media,
    Rate,
    ReportInputs,
    Section,
    Table,
    curve_chart,
    encode_png,
    encode_video,
    rate_chart,
    render_report,
)

SECTIONS = (
    "is-it-sure",
    "pictures",
    "results",
    "episodes",
    "failures",
    "prediction",
    "rollouts",
    "costs",
    "training",
    "made",
)


def make_inputs() -> ReportInputs:
    picture = np.zeros((16, 16, 3), np.uint8)
    png, video = Media(encode_png(picture), "a picture"), Media(encode_video([picture]), "a <video>")
    x = np.arange(3.0)
    chart = Media(curve_chart({"MSE": {"model": Curve(x, x, x - 1, x + 1)}}, xlabel="horizon [s]"), "a chart")
    rates = Media(rate_chart({"safe": {"human": Rate(0.9, 0.8, 1.0)}}), "rates")
    agent = AgentResult("mpc_learnt", 183, (0.93, 0.9, 0.96), (0.9, 0.85, 0.94), 101.25, 31.4, {"rear": 3})
    return ReportInputs(
        title="A title", headline="It works.", question="Does it?", pictures=(png,),
        agents=(agent,),
        sections=(Section("Is it sure?", "A lead.", Table(("a",), (("a rather long sentence",),)), (png,)),),
        highlight="mpc_learnt", agent_charts=(rates,),
        comparisons=(Comparison("learnt - copy", 0.1, 0.02, 0.2),),
        prediction_table=Table(("horizon", "MSE"), (("0.5 s", 0.0052),)), prediction_charts=(chart,),
        rollouts=(video,), episodes=(video,), failures=(video,), cost_fields=(png,), training=(chart,),
        made={"command": "worldmodel demo", "seed": "0"}, config="seed: 0", sources=("US-101, CC BY-SA",),
    )  # fmt: skip


def test_every_section_is_there() -> None:
    page = render_report(make_inputs())
    assert [name for name in SECTIONS if f'<section id="{name}">' not in page] == []
    for text in ("93.0", "[90.0, 96.0]", "+10.0", "better", "31.4", "rear 3", "CC BY-SA", "a &lt;video&gt;"):
        assert text in page


def test_a_section_without_input_is_left_out() -> None:
    page = render_report(ReportInputs(title="Empty"))
    assert "<section" not in page and "Empty" in page


def test_nothing_is_loaded_from_elsewhere() -> None:
    page = render_report(make_inputs())
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s)>]+)""", page)
    assert [link for link in links if not link.startswith(("data:", "#"))] == []
    hosts = set(re.findall(r"https?://[^\"'\s<]+", page))
    assert {host for host in hosts if not host.startswith("http://www.w3.org/")} == set()  # XML namespaces


def test_charts_take_their_ink_from_the_page() -> None:
    chart = rate_chart({"safe": {"human": Rate(0.9, 0.8, 1.0)}}).decode()
    assert "currentColor" in chart and "#010203" not in chart


def test_inputs_survive_being_written_down() -> None:
    inputs = make_inputs()
    assert load_inputs(dump_inputs(inputs)) == inputs


def test_a_page_that_is_too_large_is_refused() -> None:
    large = Media(b"\x89PNG" + bytes(7_000_000), "large")
    with pytest.raises(ValueError, match=r"pictures: 7,000,004"):
        render_report(ReportInputs(title="Large", pictures=(large,)))


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 0.2, "better"), (-0.2, -0.1, "worse"), (-0.1, 0.1, "not told apart")]
)
def test_a_comparison_says_no_more_than_its_interval(low: float, high: float, verdict: str) -> None:
    assert Comparison("a - b", (low + high) / 2, low, high).verdict == verdict
