"""How texts and tables are laid out: 80 columns, readable without colour, on any terminal.

No library: importing one (rich: 150 ms) would take longer than all the rest of `nicwatchd status`.
Dataclasses would take a quarter of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

WIDTH: Final = 80
GAP: Final = "  "
CONTINUED: Final = " \\"
CUT: Final = ".."  # stands for what does not fit; it must be readable in any locale
UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60))
# How a remedy begins that is a command; the others are sentences.
COMMANDS: Final = ("sudo", "aws", "nicwatchd")
COLOURS: Final = {"good": "32", "soon": "33", "bad": "1;31", "head": "1"}


def width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def pad(text: str, columns: int) -> str:
    """The text with spaces up to this width."""
    return text + " " * (columns - width(text))


def cut(text: str, columns: int) -> str:
    """The text, with its middle left out where it is too wide. Both ends tell it from others."""
    if width(text) <= columns:
        return text
    room = max(0, columns - len(CUT))
    head = _fitting(text, room // 2)
    tail = _fitting(text[::-1], room - width(head))[::-1]
    return f"{head}{CUT}{tail}"


def _fitting(text: str, columns: int) -> str:
    """The longest beginning of a text that is not wider."""
    taken = ""
    for each in text:
        if width(taken + each) > columns:
            break
        taken += each
    return taken


def wrap_remedy(text: str, first: str, rest: str | None = None) -> list[str]:
    """As `wrap`; but a command can be pasted from its lines.

    A shell goes on after a backslash, and in quotes.
    """
    if text.split(" ", 1)[0] not in COMMANDS or width(first + text) <= WIDTH:
        return wrap(text, first, rest)
    rest = " " * width(first) if rest is None else rest
    lines, is_quoted, comment = [first], False, ""
    for word in text.split(" "):
        if not is_quoted and word.startswith("#"):
            comment = "# "
        if lines[-1] != first and width(f"{lines[-1]} {word}{CONTINUED}") > WIDTH:
            lines[-1] += "" if is_quoted or comment else CONTINUED
            lines.append(f"{rest}{comment if word != '#' else ''}{word}")
        else:
            lines[-1] += word if lines[-1] == first else f" {word}"
        is_quoted ^= word.count("'") % 2 == 1
    return lines


def wrap(text: str, first: str = "", rest: str | None = None) -> list[str]:
    """The text in lines of 80 columns, with a beginning for the first and for all others.

    A word that is wider than a line is broken.
    """
    rest = " " * width(first) if rest is None else rest
    lines, line, is_empty = [], first, True
    for word in text.split():
        while not is_empty and width(line) + 1 + width(word) > WIDTH:
            lines.append(line)
            line, is_empty = rest, True
        left = word
        while width(line) + width(left) > WIDTH and is_empty:
            piece = _fitting(left, max(1, WIDTH - width(line)))
            lines.append(line + piece)
            left, line = left[len(piece) :], rest
        line += left if is_empty else f" {left}"
        is_empty = False
    return [*lines, line.rstrip()] if line.strip() or not lines else lines


class Column(NamedTuple):
    """A column: its heading, and how narrow its cells may become (0: not narrower).

    `shorten` makes a cell narrower, down to so many columns.
    """

    heading: str
    narrowest: int = 0
    shorten: Callable[[str, int], str] = cut


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The heading and all rows, as padded cells that make no line wider than 80 columns.

    Columns are narrowed in their order of need: the last one that may be narrower first.
    """
    cells = [[column.heading for column in columns], *(list(row) for row in rows)]
    widths = [max(width(row[n]) for row in cells) for n in range(len(columns))]
    for number in range(len(columns) - 1, -1, -1):
        excess = sum(widths) + len(GAP) * (len(columns) - 1) - WIDTH
        narrowest = columns[number].narrowest
        if excess > 0 and 0 < narrowest < widths[number]:
            widths[number] = max(narrowest, widths[number] - excess)
    return [
        [
            pad(column.shorten(cell, columns_wide), columns_wide)
            for column, cell, columns_wide in zip(columns, row, widths, strict=True)
        ]
        for row in cells
    ]


def line_of(cells: Iterable[str]) -> str:
    """One line of a table."""
    return GAP.join(cells).rstrip()


def short_id(text: str, columns: int) -> str:
    """An id like `eni-0a1b2c3d4e5f60718`, shortened from its middle: the kind and the end stay."""
    if width(text) <= columns:
        return text
    kind, dash, rest = text.rpartition("-")
    room = columns - len(kind) - len(dash) - len(CUT)
    return f"{kind}{dash}{CUT}{rest[-room:]}" if dash and room > 0 else cut(text, columns)


def duration(seconds: float) -> str:
    """A duration for people, in one unit: `0.4 s`, `12 s`, `3 min`, `2 h`, `5 d`."""
    least = max(0.0, seconds)
    if least < 10:  # noqa: PLR2004 (what is young is told more exactly)
        return f"{least:.1f} s"
    rounded = round(least)
    for unit, size in UNITS:
        if rounded >= size:
            return f"{rounded // size} {unit}"
    return f"{rounded} s"


def span(seconds: float) -> str:
    """A duration for a column: whole seconds."""
    return f"{max(0, round(seconds))} s" if seconds < UNITS[-1][1] else duration(seconds)


class Paint:
    """Colours words, on a terminal that shows colours, unless NO_COLOR is set (no-color.org)."""

    def __init__(self) -> None:
        dumb = os.environ.get("TERM") == "dumb" or bool(os.environ.get("NO_COLOR"))
        self._is_on = not dumb and sys.stdout.isatty()

    def __call__(self, text: str, kind: str) -> str:
        """The text in a colour of COLOURS; other kinds have none."""
        colour = COLOURS.get(kind)
        return f"\x1b[{colour}m{text}\x1b[0m" if self._is_on and colour else text
