"""`nicwatchd history --svg`: a timeline for each ENI and family, as a picture without dependencies.

It is readable in light and dark, and says in titles what the colours and the marks mean.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from nicwatchd.cli.chronology import Event
from nicwatchd.cli.timeline import (
    CONDITIONS,
    DEGRADED,
    FAMILIES,
    NO_DAEMON,
    NOT_WORKING,
    WAITING,
    WORKING,
    Interval,
)
from nicwatchd.cli.times import clock, day
from nicwatchd.service.entries import duration

WIDTH, LEFT, RIGHT, TOP = 1000, 190, 20, 66
ROW, BAR, MARKS, GAP = 22, 14, 14, 12  # heights: of a family's row, its bar, the marks, between
TICKS: Final = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1_800),
    *(3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000, 31_536_000),
)  # s between two
TICK_ROOM: Final = 90  # pixels
NAMES: Final = {"ipv4": "IPv4", "ipv6": "IPv6"}
CLASSES: Final = {
    WORKING: "working",
    DEGRADED: "degraded",
    NOT_WORKING: "broken",
    WAITING: "waiting",
    NO_DAEMON: "none",
}
# Things that happened and that no bar shows.
MARKED: Final = frozenset(
    {"lost", "fought over", "link down", "link up", "bypassed", "egress", "attached", "detached"}
    | {"died", "given up", "overdue", "bug"}
)
STYLE: Final = """
svg { font: 12px system-ui, sans-serif; color-scheme: light dark; }
text { fill: #24292f; } .dim { fill: #57606a; } .paper { fill: #ffffff; }
.grid { stroke: #d0d7de; } .mark { fill: #24292f; } .bar { stroke: none; }
.working { fill: #2da44e; } .degraded { fill: #d4a72c; } .broken { fill: #cf222e; }
.waiting { fill: #8c959f; } .none { fill: none; stroke: #8c959f; stroke-dasharray: 3 2; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .dim { fill: #9198a1; } .paper { fill: #0d1117; }
  .grid { stroke: #30363d; } .mark { fill: #e6edf3; }
  .working { fill: #3fb950; } .degraded { fill: #e3b341; } .broken { fill: #f85149; }
}
"""


def svg(found: Sequence[Interval], events: Iterable[Event], begin: float, end: float) -> str:
    """The picture, as text. `begin` and `end`: seconds of the Unix epoch."""
    end = max(end, begin + 0.001)
    keys = list(dict.fromkeys(each.key for each in found))
    height = TOP + max(1, len(keys)) * (MARKS + len(FAMILIES) * ROW + GAP) + 20
    marked = [e for e in events if e.what in MARKED and begin <= e.at <= end]
    body = [*_frame(begin, end, height)]
    for number, key in enumerate(keys):
        y = TOP + number * (MARKS + len(FAMILIES) * ROW + GAP)
        of_eni = [each for each in found if each.key == key]
        body += _eni(key, of_eni, [e for e in marked if e.key == key], y, (begin, end))
    if not keys:
        body.append(f'<text class="dim" x="{LEFT}" y="{TOP + 20}">nothing is known</text>')
    body += _marks([e for e in marked if not e.key], TOP - 8, (begin, end))
    title = f"nicwatchd: {day(begin)} {clock(begin)} to {day(end)} {clock(end)}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"',
            f' role="img" aria-label={quoteattr(title)}>',
            f"<title>{_safe(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
            f'<text x="12" y="22" font-weight="bold">{_safe(title)}</text>',
            *_legend(),
            *body,
            "</svg>\n",
        ]
    )


def _eni(
    key: str, found: Sequence[Interval], events: Sequence[Event], y: int, span: tuple[float, float]
) -> Iterator[str]:
    """The rows of one ENI, with the marks above them."""
    name = found[-1].name
    yield f"<g data-eni={quoteattr(_clean(key))}>"
    yield f'<text x="12" y="{y + MARKS + 11}" font-weight="bold">{_safe(name)}</text>'
    yield f'<text class="dim" x="12" y="{y + MARKS + ROW + 11}" font-size="9">{_safe(key)}</text>'
    yield from _marks(events, y + 8, span)
    for row, family in enumerate(FAMILIES):
        top = y + MARKS + row * ROW
        yield f'<text class="dim" x="{LEFT - 34}" y="{top + 11}">{NAMES[family]}</text>'
        for each in found:
            if each.family == family:
                yield _bar(each, top, span)
    yield "</g>"


def _bar(each: Interval, top: int, span: tuple[float, float]) -> str:
    """One interval; what was short is still a pixel wide."""
    left, right = _x(each.begin, span), _x(each.end, span)
    why = f": {each.cause}" if each.cause else ""
    text = f"{each.name} {NAMES[each.family]} {each.condition} for "
    text += f"{duration(each.end - each.begin)}, from {clock(each.begin)}{why}"
    return (
        f'<rect class="bar {CLASSES[each.condition]}" x="{left:.1f}" y="{top}"'
        f' width="{max(1.0, right - left):.1f}" height="{BAR}"><title>{_safe(text)}</title></rect>'
    )


def _marks(events: Iterable[Event], y: int, span: tuple[float, float]) -> Iterator[str]:
    """A triangle for each thing that happened."""
    for event in events:
        x = _x(event.at, span)
        text = f"{clock(event.at)} {event.name} {event.what}: {event.detail}"
        yield (
            f'<path class="mark" d="M{x:.1f} {y + 5}l-4 -7h8z"><title>{_safe(text)}</title></path>'
        )


def _frame(begin: float, end: float, height: int) -> Iterator[str]:
    """The lines and the names of the times."""
    room = max(1, (WIDTH - LEFT - RIGHT) // TICK_ROOM)
    step = next((t for t in TICKS if (end - begin) / t <= room), (end - begin) / room)
    offset = time.localtime(begin).tm_gmtoff  # whole hours and days of local time
    at = (begin + offset) // step * step - offset + step
    while at < end:
        x = _x(at, (begin, end))
        yield f'<path class="grid" d="M{x:.1f} {TOP - 4}V{height - 14}"/>'
        text = day(at) if step >= TICKS[-5] else clock(at)[: None if step < 1 else 8]
        yield f'<text class="dim" x="{x:.1f}" y="{TOP - 12}" text-anchor="middle">{text}</text>'
        at += step


def _legend() -> Iterator[str]:
    x = LEFT
    for condition in CONDITIONS:
        yield f'<rect class="bar {CLASSES[condition]}" x="{x}" y="30" width="12" height="12"/>'
        yield f'<text x="{x + 17}" y="40">{condition}</text>'
        x += 110
    yield f'<path class="mark" d="M{x + 6} 41l-4 -7h8z"/>'
    yield f'<text x="{x + 17}" y="40">something happened</text>'


def _x(at: float, span: tuple[float, float]) -> float:
    begin, end = span
    return LEFT + (at - begin) / (end - begin) * (WIDTH - LEFT - RIGHT)


def _safe(text: str) -> str:
    return escape(_clean(text))


def _clean(text: str) -> str:
    """What XML can hold."""
    return "".join(c for c in text if c.isprintable())
