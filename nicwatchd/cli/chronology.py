"""What happened, from the journal's entries: events in order, and when there was no daemon.

An entry may be of an older version, or odd: whatever it lacks is left out, and nothing raises.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Final
from uuid import UUID

from nicwatchd.service import journal
from nicwatchd.service.entries import duration
from nicwatchd.service.journal_reader import Entry, seconds, time_of

# systemd's own, about the end of a service's process: "Main process exited, code=killed, ...".
PROCESS_EXIT: Final = UUID("98e322203f7a4ed290d09fe03c09fe15")
UNIT: Final = "nicwatchd.service"
WORD: Final = 12  # the longest word for what happened
NOT_ASKED: Final = "not asked yet"
MOMENT: Final = 1.0  # s
# What says how an interface is, so that what was said before has ended.
VERDICTS: Final = (
    *("waiting", "configuring", "configured", "working", "degraded", "NOT WORKING", "overdue"),
    *("primary", "left alone", "detached"),
)
FOUND: Final = 30.0  # s; the daemon's first look comes sooner after its start
# The word and the detail of each kind of entry; the functions below have the others.
LABEL: Final = re.compile(r"^(\S+ (?:eni-\w+|\([0-9a-f:]+\)):? )")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `at`: seconds of the Unix epoch; `boot`: the id of the boot.

    `quiet` ones are not shown; they tell only in which state an interface was. `status` is the
    interface as it was then, as the control socket shows it.
    """

    at: float
    boot: str
    what: str
    detail: str = ""
    name: str = ""
    mac: str = ""
    eni: str = ""
    cause: str = ""
    codes: tuple[str, ...] = ()
    lasted: float | None = None
    quiet: bool = False
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What identifies the interface over boots and names; empty: it is about none."""
        return self.eni or self.mac

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        named = {"interface": self.name, "eni": self.eni, "mac": self.mac, "cause": self.cause}
        return {
            "time": round(self.at, 6),
            "boot": self.boot,
            "what": self.what,
            "detail": self.detail,
            **{name: value or None for name, value in named.items()},
            "codes": list(self.codes),
            "seconds": self.lasted,
            "state": self.status.get("state"),
            "health": self.status.get("health"),
        }


@dataclass(frozen=True, slots=True)
class Gap:
    """No daemon ran; `end` is None if it does not yet."""

    begin: float
    end: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Chronology:
    """All that is known, in order."""

    events: tuple[Event, ...]
    gaps: tuple[Gap, ...]


def matches() -> list[str]:
    """What to read of the journal: everything of ours."""
    ids = [value for value in vars(journal).values() if isinstance(value, UUID)]
    return [f"MESSAGE_ID={message_id.hex}" for message_id in ids]


def exits() -> list[str]:
    """What to read of systemd's: the ends of our process."""
    return [f"MESSAGE_ID={PROCESS_EXIT.hex}", f"UNIT={UNIT}"]


def chronology(
    entries: Iterable[Entry], boot_end: Callable[[str], float | None], this_boot: str | None
) -> Chronology:
    """The events of these entries, in any order. `boot_end`: when a boot's journal ended.

    `this_boot` goes on; None: the last one does, as far as is known.
    """
    found = [event for event in map(_event, entries) if event]
    found.sort(key=lambda event: event.at)
    enis = {event.mac: event.eni for event in found if event.eni}
    named = [replace(event, eni=event.eni or enis.get(event.mac, "")) for event in found]
    events, gaps = _with_ends(named, boot_end, this_boot)
    return Chronology(tuple(_told_once(events)), tuple(gaps))


# --- one entry -----------------------------------------------------------------------------------


def _event(entry: Entry) -> Event | None:
    """What an entry tells; None: nothing of ours, or without a time."""
    at, read = time_of(entry), READERS.get(_hex(entry.get("MESSAGE_ID", "")))
    if at is None or read is None:
        return None
    what, detail = read(entry)
    status = _status(entry.get("NICWATCHD_STATUS", ""))
    state = (entry.get("NICWATCHD_STATE"), entry.get("NICWATCHD_REASONS", ""))
    return Event(
        at=at,
        boot=_line(entry.get("_BOOT_ID", "")),
        what=_line(what)[:WORD],
        detail=_line(detail),
        name=_line(entry.get("INTERFACE", "")),
        mac=_line(entry.get("NICWATCHD_MAC", "")),
        eni=_line(entry.get("NICWATCHD_ENI", "")),
        cause=_line(entry.get("NICWATCHD_CAUSE", "")),
        codes=tuple(entry.get("NICWATCHD_REASON_CODES", "").split()),
        lasted=seconds(entry.get("NICWATCHD_LASTED_USEC", "")),
        quiet=what == "configuring" and state == ("validated", ""),
        status=status,
    )


def _hex(text: str) -> str:
    return text.replace("-", "").lower()


def _line(text: str) -> str:
    """One line that no terminal takes for a command."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _status(text: str) -> Mapping[str, Any]:
    try:
        status = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return status if isinstance(status, dict) else {}


def _message(entry: Entry) -> str:
    """The message without the name of the interface, which has its own column."""
    return LABEL.sub("", entry.get("MESSAGE", ""))


def _after(entry: Entry, name: str) -> str:
    after = seconds(entry.get(name, ""))
    return "" if after is None else f"after {duration(after)}"


def _transition(entry: Entry) -> tuple[str, str]:
    state = entry.get("NICWATCHD_STATE", "")
    after = _after(entry, "NICWATCHD_ELAPSED_USEC")
    lines = entry.get("NICWATCHD_REASONS", "").splitlines()
    why = "; ".join(line.partition(": ")[2] for line in lines)
    match state:
        case "detected":
            again = entry.get("NICWATCHD_PREVIOUS_STATE") == "ignored"  # a release ended, say
            what = "managed" if again else "attached"
            return what, entry.get("NICWATCHD_ENI") or entry.get("NICWATCHD_MAC", "")
        case "awaiting-imds":
            return "waiting", why
        case "validated":
            return "configuring", why
        case "applied":
            return "configured", after
        case "ignored":
            is_primary = any(line.startswith("primary: ") for line in lines)
            return ("primary" if is_primary else "left alone"), why
        case "gone":
            return "detached", after
    return state or "changed", _message(entry)


def _overdue(entry: Entry) -> tuple[str, str]:
    return "overdue", _transition(entry)[1]


def _health(entry: Entry) -> tuple[str, str]:
    health = entry.get("NICWATCHD_FAMILY_HEALTH", "")
    text = _message(entry)
    if " waits" in text.partition(":")[0]:
        return "waiting", text
    return {"not-working": "NOT WORKING", "": "not judged"}.get(health, health), text


def _lost(entry: Entry) -> tuple[str, str]:
    return "lost", f"{entry.get('NICWATCHD_OBJECTS', '')}; {entry.get('NICWATCHD_CAUSE', '')}"


def _restored(entry: Entry) -> tuple[str, str]:
    parts = (entry.get("NICWATCHD_OBJECTS", ""), _after(entry, "NICWATCHD_LASTED_USEC"))
    return "restored", ", ".join(filter(None, parts))


def _wrote(entry: Entry) -> tuple[str, str]:
    return "changed", f"{entry.get('NICWATCHD_OBJECTS', '')}; {entry.get('NICWATCHD_CAUSE', '')}"


def _link(entry: Entry) -> tuple[str, str]:
    back = entry.get("NICWATCHD_REASON_CODES") == "link-up"
    return f"link {'up' if back else 'down'}", entry.get("NICWATCHD_CAUSE", "")


def _as(what: str) -> Callable[[Entry], tuple[str, str]]:
    return lambda entry: (what, _message(entry))


def _imds(entry: Entry) -> tuple[str, str]:
    return "IMDS", entry.get("MESSAGE", "")


READERS: Final[Mapping[str, Callable[[Entry], tuple[str, str]]]] = {
    journal.STARTED.hex: _as("started"),
    journal.STOPPED.hex: _as("stopped"),
    journal.TRANSITION.hex: _transition,
    journal.OVERDUE.hex: _overdue,
    journal.HEALTH_CHANGED.hex: _health,
    journal.LOST.hex: _lost,
    journal.RESTORED.hex: _restored,
    journal.WROTE.hex: _wrote,
    journal.LINK_CHANGED.hex: _link,
    journal.BYPASS_BEGAN.hex: _as("bypassed"),
    journal.BYPASS_ENDED.hex: _as("not bypassed"),
    journal.FAMILY_GIVEN_UP.hex: _as("given up"),
    journal.EGRESS_MOVED.hex: _as("egress"),
    journal.FIGHT_BEGAN.hex: _as("fought over"),
    journal.FIGHT_ENDED.hex: _as("fight over"),
    journal.IMDS_CHANGED.hex: _imds,
    journal.KERNEL_TROUBLE.hex: _as("kernel"),
    journal.RESUMED.hex: _as("resumed"),
    journal.RELOADED.hex: _as("settings"),
    journal.RELOAD_FAILED.hex: _as("settings"),
    journal.SURPRISE.hex: _as("bug"),
    journal.ENTRIES_LOST.hex: _as("unrecorded"),
    journal.IDLE.hex: _as("idle"),
    PROCESS_EXIT.hex: _as("exited"),
}


# --- all of them ---------------------------------------------------------------------------------


def _with_ends(
    events: Sequence[Event], boot_end: Callable[[str], float | None], this_boot: str | None
) -> tuple[list[Event], list[Gap]]:
    """The events with those that nobody could write: that the daemon died; and all gaps."""
    walk = _Runs(boot_end)
    for event in events:
        walk.take(event)
    if walk.running and walk.last and this_boot not in (None, walk.last.boot):
        walk.died(None)
    if walk.down_since is not None:
        walk.gaps.append(Gap(walk.down_since, None, walk.why))
    return walk.events, walk.gaps


class _Runs:
    """Follows the daemon from start to end, through all boots."""

    def __init__(self, boot_end: Callable[[str], float | None]) -> None:
        self.events: list[Event] = []
        self.gaps: list[Gap] = []
        self.running = False
        self.last: Event | None = None  # of ours
        self.down_since: float | None = None
        self.why = ""
        self._boot_end = boot_end

    def take(self, event: Event) -> None:
        """The next one."""
        if event.what == "exited":
            if self.running:  # else it had said so itself
                how = event.detail.removeprefix(f"{UNIT}: ")
                self._ends(event.at, f"the daemon died: {how}")
                self.events.append(replace(event, what="died", detail=how))
            return
        if event.what == "started":
            self._starts(event)
        elif event.what == "stopped":
            self._ends(event.at, "the daemon was stopped")
        elif not self.running:  # its start is not among the entries
            self._runs(event.at)
        self.events.append(event)
        self.last = event

    def _starts(self, event: Event) -> None:
        if self.running:
            self.died(event)
        self._runs(event.at)

    def _runs(self, at: float) -> None:
        if self.down_since is not None:
            self.gaps.append(Gap(self.down_since, at, self.why))
        self.running, self.down_since = True, None

    def _ends(self, at: float, why: str) -> None:
        self.running, self.down_since, self.why = False, at, why

    def died(self, start: Event | None) -> None:
        """It ended without a word: with its boot, or before the next `start` in the same one."""
        last = self.last
        if last is None:
            return
        at, why = last.at, "the daemon died: it was last heard of here"
        if start is None or start.boot != last.boot:
            at = max(last.at, self._boot_end(last.boot) or last.at)
            why = "the host went down with the daemon running"
        self.events.append(Event(at, last.boot, "died", why))
        self._ends(at, why)


def _told_once(events: Iterable[Event]) -> Iterable[Event]:
    """The events, without what only repeats: that it is configured again after each loss.

    Links that the daemon sees with its first look were there before: they are found.
    """
    started, first = float("-inf"), None
    configured: set[str] = set()
    every = list(events)
    for event, is_brief in zip(every, _brief(every), strict=True):
        if event.what == "started":
            started, first = event.at, None
            configured.clear()
        again = event.what == "configured" and event.key in configured
        if event.what == "configured":
            configured.add(event.key)
        elif event.what in ("attached", "managed", "waiting", "left alone", "primary", "detached"):
            configured.discard(event.key)
        if event.what == "attached":
            seen = event.status.get("seen")
            first = seen if first is None else first
            there = seen is not None and seen == first and event.at - started < FOUND
            what, detail = "found" if there else "attached", event.eni or event.detail
            event = replace(event, what=what, detail=detail)  # noqa: PLW2901
        yield replace(event, quiet=event.quiet or again or is_brief)


def _brief(events: Sequence[Event]) -> list[bool]:
    """Which events say only that IMDS was not asked yet, and that it was a moment later."""
    ends: dict[str, float] = {}  # when something else was told of an interface
    found: list[bool] = []
    for event in reversed(events):
        is_first = event.what == "waiting" and NOT_ASKED in event.detail
        found.append(is_first and ends.get(event.key, inf) - event.at < MOMENT)
        if not is_first and event.what in VERDICTS:
            ends[event.key] = event.at
    return found[::-1]
