"""Times as people give them."""

from __future__ import annotations

from datetime import datetime

import pytest

from nicwatchd.cli.parser import parser, words
from nicwatchd.cli.times import clock, day, epoch

NOW = datetime(2026, 11, 26, 10, 30, 15).timestamp()  # noqa: DTZ001 (people mean their own time)


def at(*parts: int) -> float:
    return datetime(*parts).timestamp()  # type: ignore[arg-type] # noqa: DTZ001


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("-1h", NOW - 3600),
        ("1h ago", NOW - 3600),
        ("-2d", NOW - 2 * 86_400),
        ("-1.5min", NOW - 90),
        ("-10 s", NOW - 10),
        ("-3w", NOW - 21 * 86_400),
        ("10:00", at(2026, 11, 26, 10)),
        ("10:00:05", at(2026, 11, 26, 10, 0, 5)),
        ("today", at(2026, 11, 26)),
        ("Yesterday", at(2026, 11, 25)),
        ("2026-11-01", at(2026, 11, 1)),
        ("2026-11-01 09:05", at(2026, 11, 1, 9, 5)),
        ("2026-11-01T09:05:07", at(2026, 11, 1, 9, 5, 7)),
        (" @1795600000.5 ", 1_795_600_000.5),
    ],
)
def test_times(text: str, expected: float) -> None:
    assert epoch(text, NOW) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["", "soon", "25:00", "-1", "-1y", "2026-13-01", "1 2", "--", "@x", "@" + "9" * 40]
)
def test_what_is_no_time_is_said_with_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time; times are like -1h"):
        epoch(text, NOW)


def test_how_times_are_shown() -> None:
    assert (day(NOW + 0.19), clock(NOW + 0.19)) == ("2026-11-26", "10:30:15.1")
    assert clock(NOW + 0.999) == "10:30:15.9"


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_time_may_begin_as_an_option_does(option: str) -> None:
    arguments = parser().parse_args(words(["history", option, "-1h", "eth1"]))
    assert getattr(arguments, option[2:]) == "-1h"
    assert arguments.interface == "eth1"
    assert words(["history", option, "--json"]) == ["history", option, "--json"]
