"""Counters for the metrics."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import Family, Key, Operation
from nicwatchd.core.news import FightChanged, StateChanged
from nicwatchd.core.port import Outcome, Result
from nicwatchd.imds.histogram import Histogram
from nicwatchd.imds.transport import DURATIONS
from nicwatchd.service.status import InterfaceStatus
from nicwatchd.service.telling import Told

# s. An ENI is complete in IMDS some seconds after the attach; IPv6 is waited for up to 180 s.
TO_WORKING: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0)
FAMILIES: Final = ("ipv4", "ipv6")


def _times() -> Mapping[str, Histogram]:
    return {family: Histogram(TO_WORKING) for family in FAMILIES}


@dataclass(frozen=True, slots=True)
class InUse:
    """The settings in use: when they were read (Unix epoch), and whether a later reload failed."""

    at: float = 0.0
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """Counters since the daemon's start. `heals` are by kind, `imds` requests by their outcome.

    `heals_of` and `fights_of` are by ifindex, of the interfaces that are present. `to_working`: by
    family, the seconds from the attach until it worked first. `since_turn` is the time in seconds
    since the last turn ended. `entries_lost`: that the journal did not take. `leads`: by
    family, whether main's best default route is the primary's; empty where the settings want
    another one.
    """

    transitions: Counter[State] = field(default_factory=Counter)
    heals: Counter[str] = field(default_factory=Counter)
    heals_of: Counter[int] = field(default_factory=Counter)
    fights_of: Counter[int] = field(default_factory=Counter)
    to_working: Mapping[str, Histogram] = field(default_factory=_times)
    operations: Counter[tuple[str, Result]] = field(default_factory=Counter)
    imds: Counter[str] = field(default_factory=Counter)
    imds_durations: Histogram = field(default_factory=lambda: Histogram(DURATIONS))
    imds_success: float | None = None
    overruns: int = 0
    since_turn: float = 0.0
    entries_lost: int = 0
    settings: InUse = InUse()
    leads: Mapping[Family, bool] = field(default_factory=dict)


class Counters:
    """Counts transitions, fights, operations on the kernel, and the times until ENIs work."""

    def __init__(self) -> None:
        self.transitions: Counter[State] = Counter()
        self.operations: Counter[tuple[str, Result]] = Counter()
        self.fights_of: Counter[int] = Counter()
        self.to_working = _times()
        # Whether what comes now was attached. What the daemon finds at its start was there before.
        self.is_running = False
        self._awaited: dict[Key, set[str]] = {}  # the families that have not worked yet

    def observe(self, told: Told) -> None:
        """Count what was told."""
        match told.news:
            case StateChanged(view=view, transition=transition):
                self.transitions[transition.state] += 1
                if transition.previous is None and self.is_running:
                    self._awaited[view.key] = set(FAMILIES)
            case FightChanged(view=view, began=True):
                self.fights_of[view.link.index] += 1
        if told.status is not None:
            self._observe_status(told.status)

    def _observe_status(self, status: InterfaceStatus) -> None:
        key = (status.index, status.mac)
        awaited = self._awaited.get(key, set())
        for name, family in (("ipv4", status.ipv4), ("ipv6", status.ipv6)):
            if name in awaited and family and family.worked_after is not None:
                self.to_working[name].observe(family.worked_after)
                awaited.remove(name)
        if status.state is State.GONE:
            self._awaited.pop(key, None)
            del self.fights_of[status.index]

    def count_outcomes(self, outcomes: Iterable[Outcome]) -> None:
        """Count operations by their result."""
        self.operations.update((verb(type(o.operation)), o.result) for o in outcomes)


def verb(operation: type[Operation]) -> str:
    """The name of a kind of operation in metrics, such as add_rule."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation.__name__).lower()
