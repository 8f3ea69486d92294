"""The picture: well-formed, with each interval where it belongs, in light and dark."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from nicwatchd.cli.chronology import chronology
from nicwatchd.cli.history_svg import LEFT, RIGHT, WIDTH, svg
from nicwatchd.cli.timeline import CONDITIONS, Interval, intervals
from tests.cli.journal_entries import BOOT, ENI, START, STORY

SVG = "{http://www.w3.org/2000/svg}"
BEGIN, END = START, START + 500.0


def drawn(begin: float = BEGIN, end: float = END) -> ET.Element:
    known = chronology(STORY, lambda _: None, BOOT)
    return ET.fromstring(svg(intervals(known, begin, end), known.events, begin, end))


def bars(picture: ET.Element) -> list[tuple[str, float, float, str]]:
    """Class, left, width and title of each bar of eth1."""
    (group,) = picture.findall(f"{SVG}g")
    assert group.get("data-eni") == ENI
    return [
        (str(bar.get("class")), float(bar.get("x", 0)), float(bar.get("width", 0)), title)
        for bar in group.findall(f"{SVG}rect")
        if (title := bar.findtext(f"{SVG}title"))
    ]


def test_each_interval_is_a_bar_with_its_cause_as_title() -> None:
    found = bars(drawn())
    classes = [kind.removeprefix("bar ") for kind, *_ in found]
    assert classes == ["waiting", "working", "broken", "working", "none", "working"]
    _, left, width, title = found[2]
    scale = (WIDTH - LEFT - RIGHT) / 500.0
    assert left == pytest.approx(LEFT + 300.0 * scale, abs=0.1)
    assert width == pytest.approx(60.0 * scale, abs=0.1)
    assert title.startswith("eth1 IPv4 not working for 60 s, from ")
    assert title.endswith(": the link is down")


def test_what_was_short_is_seen_all_the_same() -> None:
    assert min(width for _, _, width, _ in bars(drawn(BEGIN, START + 500_000.0))) >= 1.0


def test_what_happened_is_marked_with_its_words() -> None:
    picture = drawn()
    titles = [path.findtext(f"{SVG}title") or "" for path in picture.iter(f"{SVG}path")]
    assert any("eth1 lost: 8 rules; removed by port id 3388298734" in title for title in titles)
    assert any("eth1 link down" in title for title in titles)


def test_it_says_what_the_colours_mean_and_is_readable_in_the_dark() -> None:
    picture = drawn()
    words = {text.text for text in picture.findall(f"{SVG}text")}
    assert set(CONDITIONS) <= words
    style = picture.findtext(f"{SVG}style") or ""
    assert "prefers-color-scheme: dark" in style


@pytest.mark.parametrize("seconds", [0.0, 0.5, 60.0, 3600.0, 86_400.0, 3e7, 3e9])
def test_any_span_has_a_few_times_that_do_not_overlap(seconds: float) -> None:
    picture = drawn(BEGIN, BEGIN + seconds)
    middle = [e for e in picture.findall(f"{SVG}text") if e.get("text-anchor") == "middle"]
    places = [float(text.get("x", 0)) for text in middle]
    assert len(places) <= 10
    assert all(b - a > 70 for a, b in pairwise(places))
    assert all(LEFT <= place <= WIDTH - RIGHT for place in places)


def test_any_name_and_cause_can_stand_in_it() -> None:
    odd = '<&">\x00\x1b\udcff é'
    only = Interval(odd, odd, "ipv4", "degraded", BEGIN, END, odd)
    picture = ET.fromstring(svg([only], [], BEGIN, END))
    (group,) = picture.findall(f"{SVG}g")
    assert group.get("data-eni") == '<&"> é'


def test_nothing_is_said_to_be_nothing() -> None:
    picture = ET.fromstring(svg([], [], BEGIN, END))
    assert "nothing is known" in {text.text for text in picture.findall(f"{SVG}text")}
