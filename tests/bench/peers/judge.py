"""Judges what was observed from outside: pure functions of times, counters and lines of text."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

# s. One probe that a busy machine loses (it gives up after 0.9 s) is not an outage.
GAP: Final = 2.0

RULE_EVENT: Final = re.compile(r"^\[(?P<at>[^]]+)\]\s*(?P<deleted>Deleted\s+)?(?P<rule>\d+:\s.*)$")
# The parts of the output of `ip` that change by themselves.
LIFETIME: Final = re.compile(r"\s+(valid_lft|preferred_lft|expires)\s+\S+")


def stays_from(answers: Sequence[float], end: float) -> float | None:
    """The first answer after the last outage; None if it lasts until `end`. Answers are sorted."""
    if not answers or end - answers[-1] > GAP:
        return None
    broken = [late for early, late in pairwise(answers) if late - early > GAP]
    return broken[-1] if broken else answers[0]


def latest(times: Iterable[float | None]) -> float | None:
    """The latest of these; None if one is None, or there are none."""
    known = list(times)
    if not known or None in known:
        return None
    return max(time for time in known if time is not None)


def at_moment(samples: Sequence[tuple[float, float]], moment: float) -> float:
    """A growing counter, interpolated linearly between its samples (time, value)."""
    for (early, low), (late, high) in pairwise(samples):
        if moment <= late:
            share = (moment - early) / (late - early)
            return low + max(0.0, share) * (high - low)
    return samples[-1][1]


def usage(text: str, without: Collection[str]) -> float:
    """CPU seconds from `grep usage_usec FILE...`: the sum, minus that of the files `without`."""
    total = 0
    for line in text.splitlines():
        path, _, counted = line.partition(":")
        sign = -1 if path in without else 1
        total += sign * int(counted.split()[1])
    return total / 1e6


def missing(log: str, rules: Iterable[str]) -> float | None:
    """The longest time that one of these rules was missing, in s, by `ip -ts -o monitor rule`.

    None if one was deleted and did not come back.
    """
    gone: dict[str, datetime] = {}
    longest = 0.0
    watched = {canonical(rule) for rule in rules}
    for line in log.splitlines():
        event = RULE_EVENT.match(line)
        if event is None or (rule := canonical(event["rule"])) not in watched:
            continue
        at = datetime.fromisoformat(event["at"])
        if event["deleted"]:
            gone.setdefault(rule, at)
        elif rule in gone:
            longest = max(longest, (at - gone.pop(rule)).total_seconds())
    return None if gone else longest


def canonical(line: str) -> str:
    """A line of `ip` without lifetimes, with single spaces between words."""
    return " ".join(LIFETIME.sub("", line).split())


def left_behind(
    before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """The new lines, by kind; leaves out kinds without any."""
    found = {}
    for kind, lines in after.items():
        known = set(map(canonical, before.get(kind, ())))
        new = sorted({canonical(line) for line in lines} - known)
        if new:
            found[kind] = new
    return found


def mentioned(text: str, things: Iterable[str]) -> set[str]:
    """Which of these addresses and prefixes appear in a text as whole words."""
    return {
        thing for thing in things if re.search(rf"(?<![\w.:]){re.escape(thing)}(?![\w.:])", text)
    }


# --- traffic that is bound to nothing ------------------------------------------------------------


def stretch(log: str, family: str, primary: str) -> float | None:
    """The longest time, in s, not by the primary, from the lines of `unbound.LOOK`.

    None if it lasts until the end. A line is "TIME FAMILY LINK,LINK...", written when the links
    differ from those of the last look; the last one is "TIME looks COUNT LONGEST".
    """
    longest, since = 0.0, None
    for at, what, links in (line.split(maxsplit=2) for line in log.splitlines()):
        if what != family:
            continue
        if links != primary:
            since = float(at) if since is None else since
        elif since is not None:
            longest, since = max(longest, float(at) - since), None
    return longest if since is None else None


def looks(log: str) -> tuple[int, float]:
    """How often the program looked, and the longest time between two looks, in s."""
    _, what, *numbers = log.splitlines()[-1].split()
    if what != "looks":
        raise ValueError(f"the program was not ended in good order: {log!r}")
    return int(numbers[0]), float(numbers[1])
