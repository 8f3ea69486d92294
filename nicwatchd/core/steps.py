"""What the core asks of its driver in the course of a turn, and what the driver answers.

A driver takes a step, carries it out, and hands the answer back. It decides nothing.

Reads: nothing; the turn makes the steps, a driver the answers. Gives: values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from nicwatchd.core.metadata import Answer, EniMetadata
from nicwatchd.core.model import Address, Key, Link, Operation, Route, Rule
from nicwatchd.core.port import Outcome, RouteAnswer
from nicwatchd.core.shadow import Probe


@dataclass(frozen=True, slots=True)
class ReadLinks:
    """Read these links, by ifindex; None: every link of the host.

    `known` are the interfaces that live: what is noted of others is void.
    """

    indices: frozenset[int] | None
    known: frozenset[Key]


@dataclass(frozen=True, slots=True)
class LinksRead:
    """The links that were asked for and are there."""

    links: Mapping[int, Link]


@dataclass(frozen=True, slots=True)
class ReadObjects:
    """Read the addresses of these links, the main table's routes through them, and the rest.

    `everywhere`: the addresses of all links of the host. `own`: all routes of ours and all rules.
    `tables`: everybody's routes in these tables. `udev`: of which links to ask whether udev has
    finished with them. `known`: as above.
    """

    links: tuple[Key, ...]
    own: bool
    tables: frozenset[int]
    udev: frozenset[int]
    known: frozenset[Key]
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class ObjectsRead:
    """What was read: addresses and main-table routes by ifindex, marked ours where they are."""

    addresses: Mapping[int, tuple[Address, ...]] = field(default_factory=dict)
    routes: Mapping[int, tuple[Route, ...]] = field(default_factory=dict)
    own: tuple[tuple[Route, ...], tuple[Rule, ...]] | None = None
    tables: Mapping[int, tuple[Route, ...]] = field(default_factory=dict)
    udev_done: frozenset[int] = frozenset()
    everywhere: Mapping[int, tuple[Address, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Apply:
    """Carry these operations out, in order, all of them. `macs`: of the links, by ifindex."""

    operations: tuple[Operation, ...]
    macs: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of each operation."""

    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask the kernel where it would send these packets."""

    probes: tuple[Probe, ...]


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What it answered to each, in order; an errno where no route lets the packet pass."""

    answers: tuple[RouteAnswer | int, ...]


Step: TypeAlias = ReadLinks | ReadObjects | Apply | LookUp
StepAnswer: TypeAlias = LinksRead | ObjectsRead | Applied | LookedUp


# --- IMDS: asked beside the turns; an answer may take long ---------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """Ask IMDS about one interface; `sweep`: read every key."""

    index: int
    mac: str
    sweep: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """What IMDS says of one interface. `trace`: of an exception that asking raised, a bug."""

    index: int
    mac: str
    metadata: EniMetadata
    error: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True)
class PrimaryReading:
    """What IMDS says of the primary's MAC. `error` and `trace` as above."""

    answer: Answer[str]
    error: str = ""
    trace: str = ""
