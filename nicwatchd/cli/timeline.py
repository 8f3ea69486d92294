"""How each family of each ENI was, over time: intervals, from the events of the journal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from nicwatchd.cli.chronology import Chronology, Event, Gap

FAMILIES: Final = ("ipv4", "ipv6")
WORKING, DEGRADED, NOT_WORKING = "working", "degraded", "not working"
WAITING, NO_DAEMON = "waiting", "no daemon"
CONDITIONS: Final = (WORKING, DEGRADED, NOT_WORKING, WAITING, NO_DAEMON)


@dataclass(frozen=True, slots=True)
class Interval:
    """One family of one ENI was in one condition; times are seconds of the Unix epoch."""

    key: str  # the ENI id, or the MAC
    name: str  # of the link
    family: str
    condition: str
    begin: float
    end: float
    cause: str = ""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "eni": self.key,
            "interface": self.name,
            "family": self.family,
            "condition": self.condition,
            "begin": round(self.begin, 6),
            "end": round(self.end, 6),
            "seconds": round(self.end - self.begin, 6),
            "cause": self.cause or None,
        }


def intervals(known: Chronology, begin: float, end: float) -> list[Interval]:
    """The intervals of all families between two times, by ENI, family and time."""
    walk = _Walk()
    for at, step in _steps(known):
        if at > end:
            break
        walk.take(at, step)
    walk.close_all(end)
    found = (_clipped(each, begin, end) for each in walk.done)
    return sorted(
        (each for each in found if each), key=lambda each: (each.key, each.family, each.begin)
    )


def condition(status: Mapping[str, Any], family: str) -> tuple[str | None, str]:
    """How a family is by a status, and why; None: it has no such family, or is left alone."""
    part = status.get(family)
    if not isinstance(part, dict):
        return None, ""
    why = _why(part.get("causes")) or _why(part.get("reasons"))
    match part.get("health"):
        case "working":
            return WORKING, ""
        case "degraded" | "not-working" if part.get("waits"):
            return WAITING, why
        case "degraded":
            return DEGRADED, why
        case "not-working":
            return NOT_WORKING, why
    if "health" in part and status.get("health"):
        return None, ""  # the ENI has another family
    # Written before there was a verdict, or before anything was known.
    verdict, state = part.get("verdict"), status.get("state")
    if state in ("ignored", "gone") or verdict not in ("ready", "waiting"):
        return None, ""
    return (WORKING if verdict == "ready" and state != "detected" else WAITING), why


def _why(reasons: object) -> str:
    if not isinstance(reasons, list):
        return ""
    return "; ".join(str(r["text"]) for r in reasons if isinstance(r, dict) and "text" in r)


def _steps(known: Chronology) -> Iterator[tuple[float, Event | Gap]]:
    """The events and the beginnings of gaps, in order; a gap ends with the next status."""
    steps: list[tuple[float, int, Event | Gap]] = [(e.at, 0, e) for e in known.events]
    steps += [(gap.begin, 1, gap) for gap in known.gaps]
    yield from ((at, step) for at, _, step in sorted(steps, key=lambda step: step[:2]))


class _Walk:
    """The intervals that are open, and those that are done."""

    def __init__(self) -> None:
        self.done: list[Interval] = []
        self._open: dict[tuple[str, str], Interval] = {}

    def take(self, at: float, step: Event | Gap) -> None:
        if isinstance(step, Gap):
            for (key, family), was in list(self._open.items()):
                self._set(key, family, replace(was, condition=NO_DAEMON, begin=at, cause=step.why))
        elif step.what == "started":
            self._restart(at)
        elif step.key and (step.what == "detached" or step.status.get("state") == "gone"):
            for family in FAMILIES:
                self._close(step.key, family, at)
        elif step.key and step.status:
            for family in FAMILIES:
                self._judge(step, family, at)

    def _restart(self, at: float) -> None:
        """The daemon runs again: what is known now, it says in a moment."""
        for (key, family), was in list(self._open.items()):
            if was.condition == NO_DAEMON:
                self._close(key, family, at)

    def _judge(self, event: Event, family: str, at: float) -> None:
        now, cause = condition(event.status, family)
        if now is None:
            self._close(event.key, family, at)
            return
        new = Interval(event.key, event.name, family, now, at, at, cause)
        was = self._open.get((event.key, family))
        if was is None or was.condition != now:
            self._set(event.key, family, new)
        elif was.cause != cause or was.name != event.name:
            self._open[event.key, family] = replace(was, name=event.name, cause=cause or was.cause)

    def _set(self, key: str, family: str, new: Interval) -> None:
        self._close(key, family, new.begin)
        self._open[key, family] = new

    def _close(self, key: str, family: str, at: float) -> None:
        was = self._open.pop((key, family), None)
        if was and at > was.begin:
            self.done.append(replace(was, end=at))

    def close_all(self, at: float) -> None:
        for key, family in list(self._open):
            self._close(key, family, at)


def _clipped(interval: Interval, begin: float, end: float) -> Interval | None:
    if interval.end <= begin or interval.begin >= end:
        return None
    return replace(interval, begin=max(interval.begin, begin), end=min(interval.end, end))


def totals(found: Iterable[Interval]) -> dict[str, float]:
    """How long each condition lasted, over all families of all ENIs."""
    sums = dict.fromkeys(CONDITIONS, 0.0)
    for each in found:
        sums[each.condition] += each.end - each.begin
    return sums
