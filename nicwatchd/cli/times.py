"""Times as people give them: `-1h`, `-2d`, `10:00`, `2026-11-26 10:00`, `today`, `@1795600000`."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta
from typing import Final

UNITS: Final = {
    "s": 1.0,
    "sec": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3_600.0,
    "d": 86_400.0,
    "w": 604_800.0,
}
AGO: Final = re.compile(r"-?\s*(\d+(?:\.\d+)?)\s*([a-z]+)(?:\s+ago)?")
DAYS: Final = {"today": 0, "yesterday": -1}
CLOCKS: Final = ("%H:%M", "%H:%M:%S")
DATES: Final = (
    *("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"),
    *("%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"),
)
WANTED: Final = "-1h, -2d, 10:00, 2026-11-26, '2026-11-26 10:00' or today"


def epoch(text: str, now: float) -> float:
    """The time in seconds of the Unix epoch. Raises ValueError with a line for the operator."""
    found = _parsed(text.strip().lower(), now)
    if found is None:
        raise ValueError(f"{text!r} is not a time; times are like {WANTED}")
    return found


def _parsed(text: str, now: float) -> float | None:
    if text == "now":
        return now
    midnight = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)  # noqa: DTZ006 (people mean their own time)
    if text in DAYS:
        return (midnight + timedelta(days=DAYS[text])).timestamp()
    if re.fullmatch(r"@\d{1,11}(\.\d+)?", text):
        return float(text[1:])
    ago = AGO.fullmatch(text)
    if ago and ago[2] in UNITS:
        return now - float(ago[1]) * UNITS[ago[2]]
    for form in CLOCKS:
        if at := _by(form, text):
            return midnight.replace(hour=at.hour, minute=at.minute, second=at.second).timestamp()
    return next((day.timestamp() for form in DATES if (day := _by(form, text.upper()))), None)


def _by(form: str, text: str) -> datetime | None:
    try:
        return datetime.strptime(text, form)  # noqa: DTZ007 (people mean their own time)
    except ValueError:
        return None


def day(at: float) -> str:
    """`2026-11-26`, in local time."""
    return time.strftime("%Y-%m-%d", time.localtime(at))


def clock(at: float) -> str:
    """`10:09:02.1`, in local time."""
    tenths = int(at * 10 + 1e-6)
    return f"{time.strftime('%H:%M:%S', time.localtime(tenths // 10))}.{tenths % 10}"
