"""What a turn asks of its driver, and what the driver answers.

A driver takes a step, carries it out, and hands the answer back. It decides nothing.

Reads: nothing; the turn makes the steps, a driver the answers. Gives: values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from nicwatchd.core.metadata import Answer, EniMetadata
from nicwatchd.core.model import (
    Address,
    Family,
    IPAddress,
    Key,
    Link,
    Operation,
    Route,
    Rule,
    Ruleset,
)
from nicwatchd.core.polling import Depth
from nicwatchd.core.port import Outcome, RouteAnswer
from nicwatchd.core.shadow import Probe

if TYPE_CHECKING:
    from nicwatchd.core.firewall import Published


@dataclass(frozen=True, slots=True)
class ReadLinks:
    """Read these links, by ifindex; None: every link of the host.

    `known` are the present interfaces: what the driver has recorded about others is void.
    """

    indices: frozenset[int] | None
    known: frozenset[Key]


@dataclass(frozen=True, slots=True)
class LinksRead:
    """Those of the requested links that exist."""

    links: Mapping[int, Link]


@dataclass(frozen=True, slots=True)
class ReadObjects:
    """Read the addresses of these links, the main table's routes through them, and the rest.

    `everywhere`: whether to read the addresses of all links of the host. `own`: whether to read all
    routes of ours. `rules`: whether to read all rules of the host. `tables`: the tables in which to
    read everybody's routes. `udev`: the links for which to ask whether udev has finished. `known`:
    as above. `hosts`: the addresses to which to read main's host routes. `closed`: whether to read
    what else main has where an error route closes it, and the links through which that is of no
    interest.
    `defaults`: whether to read main's default routes.
    `ruleset`: whether to read our nftables table; a driver that recorded one reads it in any case.
    `marked`: the links of which to ask whose they are by udev's word, and which client of DHCP
    has them; `cni`: whether to look for Multus.
    `filtered`: the links of which to read whether their reverse-path filter is strict.
    `published`: whether to read which ports containers publish.
    """

    links: tuple[Key, ...]
    own: bool
    rules: bool
    tables: frozenset[int]
    udev: frozenset[int]
    known: frozenset[Key]
    everywhere: bool = False
    hosts: frozenset[IPAddress] = frozenset()
    closed: frozenset[int] | None = None
    defaults: bool = False
    ruleset: bool = False
    marked: frozenset[int] = frozenset()
    cni: bool = False
    filtered: frozenset[int] = frozenset()
    published: bool = False


@dataclass(frozen=True, slots=True)
class ObjectsRead:
    """What was read: addresses (ours are marked) and main-table routes, both by ifindex."""

    addresses: Mapping[int, tuple[Address, ...]] = field(default_factory=dict)
    routes: Mapping[int, tuple[Route, ...]] = field(default_factory=dict)
    own: tuple[Route, ...] | None = None  # None: not read
    rules: tuple[Rule, ...] | None = None
    tables: Mapping[int, tuple[Route, ...]] = field(default_factory=dict)
    udev_done: frozenset[int] = frozenset()
    everywhere: Mapping[int, tuple[Address, ...]] | None = None
    # The links that main's host routes lead through.
    hosts: Mapping[IPAddress, frozenset[int]] | None = None
    closed: Mapping[Family, tuple[Route, ...]] | None = None  # see `Kernel.closed_main`
    defaults: tuple[Route, ...] | None = None  # see `Kernel.defaults`
    ruleset: Ruleset | None = None
    managers: Mapping[int, str] = field(default_factory=dict)  # by udev's word; "": nobody's
    # The DHCP client that may serve a link, of those that are waited for by name; "": none of them.
    clients: Mapping[int, str] = field(default_factory=dict)
    strict: Mapping[int, bool] = field(default_factory=dict)  # reverse-path filters of IPv4
    published: tuple[Published, ...] | None = None  # None: not read
    multus: tuple[str, ...] | None = None  # the files that configure it; None: not looked at


@dataclass(frozen=True, slots=True)
class Apply:
    """Carry out all these operations, in order. `macs`: the links' MACs, by ifindex."""

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
    """The kernel's answer to each, in order; an errno where no route lets the packet pass."""

    answers: tuple[RouteAnswer | int, ...]


Step: TypeAlias = ReadLinks | ReadObjects | Apply | LookUp
StepAnswer: TypeAlias = LinksRead | ObjectsRead | Applied | LookedUp


# --- IMDS: polled independently of turns, because an answer may take long ------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """Ask IMDS about one interface. `named`: the keys by which sections match."""

    index: int
    mac: str
    depth: Depth
    named: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Reading:
    """IMDS's answers on one interface. `error`, `trace`: of an exception in asking, a bug."""

    index: int
    mac: str
    metadata: EniMetadata
    error: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True)
class MacsReading:
    """IMDS's list of the MACs of all ENIs, in lower case. `error` and `trace` as above."""

    answer: Answer[frozenset[str]]
    error: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True)
class PrimaryReading:
    """IMDS's answer for the primary's MAC. `error` and `trace` as above."""

    answer: Answer[str]
    error: str = ""
    trace: str = ""
