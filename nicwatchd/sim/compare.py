"""Compares what a daemon said while it was recorded with what a replay of that comes to. Pure.

The states must be the same at all times but near a transition. How near, is by design: IMDS is
polled, so a change there is seen up to an interval (and a key that is asked in turn with another,
up to two) later by the recorder, and again by the replay; the daemon itself was late as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import SequenceMatcher
from itertools import groupby
from textwrap import wrap
from typing import Final, TypeAlias

from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import Address, Route, Rule
from nicwatchd.core.policy import Policy
from nicwatchd.recording.format import Said
from nicwatchd.sim.recorded import Object, Recording, is_ours

IN_TURN: Final = 2  # polls, until a key that is awaited beside another one is asked
SEEN: Final = 2  # times that a change in IMDS is seen late: by the recorder, and by the replay
# Seconds for what takes time in a daemon and none in a replay: turns, requests, a busy host.
SLACK: Final = 0.5
COLUMNS, INDENT = 80, 24  # of a report

SAME: Final = "the same states and objects, at the same times, as far as polls go"

# A state, the codes of its reasons, and the health of each family.
Label: TypeAlias = tuple[str, tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Phase:
    """A time in which an interface's state, reasons and health stayed the same."""

    name: str
    label: Label
    start: float
    end: float

    def __str__(self) -> str:
        state, codes, health = self.label
        why = f" ({', '.join(codes)})" if codes else ""
        return f"{state}{why}{''.join(f'; {each}' for each in health)}"


Phases: TypeAlias = Mapping[str, tuple[Phase, ...]]  # by MAC


@dataclass(frozen=True)
class Replayed:
    """What a replay came to: the phases, and what of ours is in the kernel at the end."""

    phases: Phases
    objects: frozenset[str]


def phases_of(said: Iterable[tuple[float, Said]], end: float) -> Phases:
    """The phases, from what was said at what time; `end` is that of the recording."""
    by_mac: dict[str, list[tuple[float, Said]]] = {}
    for at, each in said:
        by_mac.setdefault(each.mac, []).append((at, each))
    return {mac: tuple(_phases(told, end)) for mac, told in by_mac.items()}


def _phases(told: list[tuple[float, Said]], end: float) -> Iterator[Phase]:
    ends = [at for at, _ in told[1:]] + [end]
    lasting = [
        Phase(said.name, _label(said), at, until)
        for (at, said), until in zip(told, ends, strict=True)
        if until > at
    ]
    for label, same in groupby(lasting, key=lambda phase: phase.label):
        phases = list(same)
        yield Phase(phases[-1].name, label, phases[0].start, phases[-1].end)


def _label(said: Said) -> Label:
    if said.state == State.GONE:
        return said.state, (), ()
    health = tuple(f"{family} {health}" for family, health in sorted(said.health.items()))
    return said.state, said.reasons, health


def recorded_phases(recording: Recording) -> Phases:
    """The phases by the word of the daemon that was recorded."""
    said = ((line.t, line.said) for line in recording.lines if line.said)
    return phases_of(said, recording.duration)


def recorded_objects(recording: Recording) -> frozenset[str]:
    """What of ours was in the kernel at the end."""
    there: set[Object] = set()
    for line in recording.lines:
        if line.new:
            there.add(line.new)
        if line.gone:
            there.discard(line.gone)
    return objects_of(there)


def objects_of(things: Iterable[Object]) -> frozenset[str]:
    """Those that are ours, in words; without what has no weight, as the metric of a last route."""
    return frozenset(_in_words(thing) for thing in things if is_ours(thing))


def _in_words(thing: Object) -> str:
    match thing:
        case Address():
            return f"address {thing.ip} on link {thing.index}"
        case Route():
            way = f"via {thing.gateway} " if thing.gateway else ""
            return f"route {thing.dst} {way}by link {thing.oif} in table {thing.table}"
        case Rule():
            told = ((f.name, getattr(thing, f.name)) for f in fields(thing))
            return "rule " + ", ".join(f"{n} {v}" for n, v in told if v not in (None, False))


def late(policy: Policy, age: float, *, complete: bool) -> float:
    """How much later than recorded a transition may come by design, at this age of the link."""
    schedule = policy.schedule
    if age < schedule.fast_for:
        interval = IN_TURN * schedule.interval
    elif age < (schedule.keep if complete else schedule.patience):
        interval = schedule.cap
    else:
        interval = schedule.refresh
    return SEEN * interval + SLACK


def differences(recording: Recording, replayed: Replayed) -> list[str]:
    """What is not the same, a line for each; the times are those of the recording."""
    if recording.daemon_since is None:
        return []
    found = []
    for mac, phases in recorded_phases(recording).items():
        for before, phase in zip((None, *phases), phases, strict=False):
            others = _others(
                recording, before, phase, phases[0].start, replayed.phases.get(mac, ())
            )
            found += [
                f"{phase.name}: {phase} from {phase.start:.2f} to {phase.end:.2f} s, "
                f"but {other} in the replay"
                for other in others
            ]
    objects = recorded_objects(recording)
    found += [f"not in the replay: {each}" for each in sorted(objects - replayed.objects)]
    return found + [f"in the replay only: {each}" for each in sorted(replayed.objects - objects)]


def _others(
    recording: Recording,
    before: Phase | None,
    phase: Phase,
    came: float,
    replayed: Iterable[Phase],
) -> Iterator[str]:
    """What the replay has instead, in the part of a phase that is not near a transition."""
    policy = recording.header.policy
    complete = phase.label[0] == State.APPLIED
    begin = phase.start + late(policy, phase.start - came, complete=False)
    if before is None and recording.daemon_since == 0.0:
        # The daemon knew the interface from before, and the replay has to learn it.
        begin = phase.start + policy.settling
    end = phase.end
    if end < recording.duration:
        end -= late(policy, phase.end - came, complete=complete)
    within = [each for each in replayed if each.start < end and each.end > begin]
    if begin < end:
        yield from (str(each) for each in within if each.label != phase.label)
        if not within:
            yield "nothing"


def report(recording: Recording, replayed: Replayed) -> tuple[list[str], bool]:
    """Lines for people, and whether the replay came to the same."""
    recorded = recorded_phases(recording)
    lines = []
    for mac, phases in replayed.phases.items():
        lines += [f"{phases[-1].name if phases else ''}  {mac}", "  recorded  replayed"]
        for row in _rows(recorded.get(mac, ()), phases):
            lines += wrap(row, COLUMNS, initial_indent="  ", subsequent_indent=" " * INDENT)
    if recording.daemon_since is None:
        return [*lines, "no daemon was running, so there is nothing to compare with"], True
    found = differences(recording, replayed)
    for each in found or [SAME]:
        lines += wrap(each, COLUMNS, subsequent_indent="  ")
    return lines, not found


def _rows(recorded: tuple[Phase, ...], replayed: tuple[Phase, ...]) -> Iterator[str]:
    """Both, side by side where they agree."""
    first, second = ([phase.label for phase in each] for each in (recorded, replayed))
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    for what, i, i_end, j, j_end in matcher.get_opcodes():
        if what == "equal":
            for one, other in zip(recorded[i:i_end], replayed[j:j_end], strict=True):
                yield f"{one.start:8.2f}  {other.start:8.2f}  {one}"
        else:
            yield from (f"{one.start:8.2f}  {'-':>8}  {one}" for one in recorded[i:i_end])
            yield from (f"{'-':>8}  {other.start:8.2f}  {other}" for other in replayed[j:j_end])
