"""`nicwatchd history`: what happened, from the journal of this and earlier boots."""

from __future__ import annotations

import argparse
import json
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nicwatchd.cli.chronology import Chronology, Event, chronology, exits, matches
from nicwatchd.cli.history_svg import svg
from nicwatchd.cli.output import NO_INTERFACE, NOT_WELL, OK, USAGE, fail, say
from nicwatchd.cli.timeline import Interval, intervals
from nicwatchd.cli.times import clock, day, epoch
from nicwatchd.service.entries import duration
from nicwatchd.service.journal_reader import (
    JournalUnreadableError,
    Range,
    entries,
    last_entry,
    this_boot,
)

COLUMNS: Final = 80
LOOK_BACK: Final = 7 * 86_400.0  # s before `--since`, to know how things were at its beginning
SHORTEST: Final = 24  # columns for the details
OF_ALL: Final = ("started", "stopped", "died")  # shown with every interface
NOTHING: Final = (
    "the journal has no entry of nicwatchd from that time that you may read: either it did not "
    "run, or you need sudo or membership in the group systemd-journal"
)


@dataclass(frozen=True, slots=True)
class _Span:
    """The times that are shown; `begin` is None for all that there is."""

    begin: float | None
    end: float


def history(arguments: argparse.Namespace) -> int:
    """Print what happened; with `--svg`, draw it. 1 if the journal has nothing of it."""
    now = time.time()
    try:
        span = _span(arguments, now)
    except ValueError as error:
        return fail(str(error), USAGE)
    try:
        known = _read(span, arguments.directory, everything=arguments.since is not None)
    except JournalUnreadableError as error:
        return fail(str(error), NOT_WELL)
    if not known.events:
        return fail(NOTHING, NOT_WELL)
    if arguments.interface and not (known := _only(known, arguments.interface)).events:
        text = f"the journal has nothing about an interface {arguments.interface!r}"
        return fail(text, NO_INTERFACE)
    begin = known.events[0].at if span.begin is None else span.begin
    end = _end(known, arguments, span.end)
    shown = [e for e in known.events if begin <= e.at <= end and not e.quiet]
    found = intervals(known, begin, end)
    return _print(arguments, known, shown, found, (begin, end))


def _span(arguments: argparse.Namespace, now: float) -> _Span:
    """The times that are asked for. Raises ValueError."""
    begin = epoch(arguments.since, now) if arguments.since else None
    end = epoch(arguments.until, now) if arguments.until else now
    if begin is not None and begin >= end:
        than = "--until" if arguments.until else "now"
        raise ValueError(f"--since is not before {than}")
    return _Span(begin, end)


def _read(span: _Span, directory: Path | None, *, everything: bool) -> Chronology:
    """All that the journal tells up to the end of the span, and a while before it."""
    boot = None if everything or directory else this_boot()
    since = None if span.begin is None else span.begin - LOOK_BACK
    part = Range(since, span.end, boot, directory)
    found = [*entries(matches(), part), *entries(exits(), part)]
    here = None if directory else this_boot()
    return chronology(found, lambda boot: last_entry(boot, directory), here)


def _end(known: Chronology, arguments: argparse.Namespace, end: float) -> float:
    """Until when something is known: now, but in files from elsewhere until they end."""
    if arguments.until or not arguments.directory:
        return end
    last = known.events[-1]
    return max(last.at, last_entry(last.boot, arguments.directory) or last.at)


def _only(known: Chronology, wanted: str) -> Chronology:
    """What is about one interface, by any name that it had, and about the daemon."""
    word = wanted.lower()
    keys = {e.key for e in known.events if word in (e.name.lower(), e.mac, e.eni)} - {""}
    if not keys:
        return Chronology((), ())
    events = (e for e in known.events if e.key in keys or (not e.key and e.what in OF_ALL))
    return Chronology(tuple(events), known.gaps)


def _print(
    arguments: argparse.Namespace,
    known: Chronology,
    shown: Sequence[Event],
    found: Sequence[Interval],
    span: tuple[float, float],
) -> int:
    if arguments.svg:
        try:
            arguments.svg.write_text(svg(found, shown, *span), encoding="utf-8")
        except OSError as error:
            return fail(f"{arguments.svg}: {error.strerror}", USAGE)
    if arguments.json:
        say(json.dumps(_document(known, shown, found, span), indent=2))
    elif arguments.svg:
        enis = len({each.key for each in found})
        what = f"{enis} interface{'' if enis == 1 else 's'}, {duration(span[1] - span[0])}"
        say(f"{arguments.svg}: {what}")
    elif shown:
        say("\n".join(lines(shown)))
    else:
        say("nothing happened in that time")
    return OK


def _document(
    known: Chronology,
    shown: Sequence[Event],
    found: Sequence[Interval],
    span: tuple[float, float],
) -> dict[str, object]:
    """For programs."""
    gaps = [
        {"begin": g.begin, "end": g.end, "why": g.why}
        for g in known.gaps
        if g.begin <= span[1] and (g.end is None or g.end >= span[0])
    ]
    return {
        "since": span[0],
        "until": span[1],
        "events": [event.as_json() for event in shown],
        "intervals": [each.as_json() for each in found],
        "without_daemon": gaps,
    }


def lines(events: Iterable[Event]) -> Iterator[str]:
    """The events for people, with a line for each day and each boot."""
    events = list(events)
    link = max((len(event.name) for event in events), default=0)
    word = max((len(event.what) for event in events), default=0)
    head = 10 + 2 + (link + 2 if link else 0) + word + 2
    width = max(SHORTEST, COLUMNS - head)
    before: Event | None = None
    for event in events:
        if before is None or (event.boot, day(event.at)) != (before.boot, day(before.at)):
            yield _heading(event, before)
        before = event
        name = f"{event.name:{link}}  " if link else ""
        first = f"{clock(event.at)}  {name}{event.what:{word}}"
        parts = textwrap.wrap(event.detail, width) or [""]
        yield f"{first}  {parts[0]}".rstrip()
        yield from (" " * head + part for part in parts[1:])


def _heading(event: Event, before: Event | None) -> str:
    boots = before is not None and before.boot != event.boot
    boot = f", boot {event.boot[:8]}" if event.boot and (boots or before is None) else ""
    return f"--- {day(event.at)}{boot} ---"
