"""Tells a fight from an accident, and keeps it slow.

What goes missing is put back: that heals an accident. Who removes the same thing each time may have
a reason, and may be faster than we are: it is still put back, but at a limited pace, and told.

A thing is named by the operation that adds it. Each has its own count and pace, so that a fight
over one delays nothing else, unless that depends on it.

Reads: each loss, and whom notifications name. Gives: what is throttled, and the fight's reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, TypeAlias

from nicwatchd.core.backoff import Limiter
from nicwatchd.core.model import (
    AddAddress,
    AddRoute,
    AddRule,
    Operation,
    Plan,
    Reason,
    RemoveRule,
    SetGroup,
)
from nicwatchd.core.ownership import Selector, selector
from nicwatchd.core.words import brief

# Twice is chance. Tools that work from a timer (ec2-net-utils') do so each minute: three of their
# runs lie within the window, and who removes something more rarely does no harm that a heal in a
# tenth of a second leaves.
LOSSES: Final = 3
WINDOW: Final = 150.0  # s; a fight is over after as long without a loss
# What was removed is put back at once so often, and then once in so many seconds: ten is more than
# any restart of a network manager takes, and a write in 5 s costs nobody anything.
BURST, INTERVAL = 10, 5.0

Thing: TypeAlias = AddAddress | AddRoute | AddRule | SetGroup
# For people and metrics.
KINDS: Final[Mapping[type[Thing], str]] = {
    AddAddress: "address",
    AddRoute: "route",
    AddRule: "rule",
    SetGroup: "group",
}


class Place(NamedTuple):
    """Where something was removed, as closely as a notification tells.

    `number` is a rule's priority, else the ifindex; `family` 0 is either.
    """

    kind: type[Thing]
    number: int
    family: int = 0


def thing(operation: Operation) -> Thing | None:
    """What an operation adds or sets; None for a removal."""
    match operation:
        case AddRoute():
            return replace(operation, replace=False)
        case AddAddress() | AddRule() | SetGroup():
            return operation
        case _:
            return None


def things(operations: Iterable[Operation]) -> frozenset[Thing]:
    """What the operations add or set."""
    return frozenset(each for each in map(thing, operations) if each)


def has(plan: Plan, lost: Thing) -> bool:
    """Whether a plan has this very thing."""
    match lost:
        case AddAddress(ip=ip):
            return ip in plan.addresses
        case AddRoute(route=route):
            return route in plan.routes
        case AddRule(rule=rule):
            return rule in plan.rules
        case SetGroup(group=group):
            return plan.group == group


def place(lost: Thing) -> Place:
    """Where a notification of its removal would have pointed."""
    match lost:
        case AddRule(rule=rule):
            return Place(AddRule, rule.priority, rule.family)
        case AddRoute(route=route):
            return Place(AddRoute, route.oif, route.family)
        case AddAddress(index=index) | SetGroup(index=index):
            return Place(type(lost), index)


def without(operations: Iterable[Operation], throttled: AbstractSet[Thing]) -> Iterator[Operation]:
    """The operations but for what is throttled, and for what would be wrong without that.

    A route needs its source on the link. Of one chain of rules nothing overtakes what waits, and
    nothing is removed before all that replaces it is there.
    """
    sources = {(t.index, t.ip) for t in throttled if isinstance(t, AddAddress)}
    waiting: set[Selector] = set()
    for operation in operations:
        match operation:
            case AddRoute(route=route) if (route.oif, route.prefsrc) in sources:
                continue
            case AddRule(rule=rule) | RemoveRule(rule=rule) if selector(rule) in waiting:
                continue
            case AddRule(rule=rule) if operation in throttled:
                waiting.add(selector(rule))
            case _ if thing(operation) not in throttled:
                yield operation


@dataclass(slots=True)
class _Losses:
    """The losses of one thing; `recent` are the times of the last few."""

    limiter: Limiter = field(default_factory=lambda: Limiter(BURST, INTERVAL))
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=LOSSES))
    first: float = 0.0
    times: int = 0
    back_at: float = 0.0
    fought: bool = False
    who: str = ""


class Fights:
    """The losses of one interface's things. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._losses: dict[Thing, _Losses] = {}
        self._told = False

    def lose(self, lost: Thing, who: str, now: float) -> None:
        """Count a thing that others removed. `who` is for people; empty: not known."""
        losses = self._losses.setdefault(lost, _Losses(first=now))
        losses.times += 1
        losses.recent.append(now)
        losses.back_at = now + losses.limiter.delay(now)
        losses.fought |= len(losses.recent) == LOSSES and now - losses.recent[0] <= WINDOW
        losses.who = who or losses.who

    def forget(self, now: float) -> None:
        """End what was quiet for long enough."""
        quiet = [lost for lost, losses in self._losses.items() if now >= _end(losses)]
        for lost in quiet:
            del self._losses[lost]

    def give_up(self) -> None:
        """Forget all: nothing of these is put back any more."""
        self._losses.clear()

    def throttled(self, now: float) -> dict[Thing, float]:
        """What is not to be put back yet, and until when."""
        return {lost: each.back_at for lost, each in self._losses.items() if now < each.back_at}

    def over(self, lost: Thing | None) -> bool:
        """Whether this thing is fought over."""
        losses = self._losses.get(lost) if lost else None
        return losses is not None and losses.fought

    @property
    def reason(self) -> Reason | None:
        """What is fought over, and with whom; None when nothing is."""
        fought = {lost: losses for lost, losses in self._losses.items() if losses.fought}
        if not fought:
            return None
        lost, worst = max(fought.items(), key=lambda item: item[1].times)
        text = f"{brief(lost)} was removed {worst.times} times in "
        text += f"{max(1.0, worst.recent[-1] - worst.first):.0f} s"
        if len(fought) > 1:
            text += f", and {len(fought) - 1} more of ours repeatedly"
        text += f"; the kernel's notifications name {worst.who}" if worst.who else ""
        return Reason(
            "fought-over", f"{text}; nicwatchd puts it back, at most once in {INTERVAL:g} s"
        )

    def news(self) -> bool | None:
        """Whether a fight began (True) or ended (False) since the last call; None: neither."""
        now = any(losses.fought for losses in self._losses.values())
        told, self._told = self._told, now
        return None if now == told else now

    def deadlines(self) -> Iterator[float]:
        """When something may be put back, and when a fight ends."""
        for losses in self._losses.values():
            yield losses.back_at
            if losses.fought:
                yield _end(losses)


def _end(losses: _Losses) -> float:
    return losses.recent[-1] + WINDOW
