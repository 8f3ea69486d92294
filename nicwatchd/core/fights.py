"""Tells a fight from an accident, and limits its pace.

What goes missing is put back: that heals an accident. But whoever keeps removing the same thing may
have a reason, and may be faster than we are. We still put it back, but at a limited pace, and
report it.

A thing is identified by the operation that adds it. Each has its own count and pace, so that a
fight over one delays nothing else, except what depends on it.

Reads: each loss, and whom notifications name. Gives: what is throttled, and the fight's reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final, NamedTuple, TypeAlias

from nicwatchd.core.backoff import Limiter
from nicwatchd.core.model import (
    AddAddress,
    AddRoute,
    AddRule,
    Family,
    Operation,
    Plan,
    Reason,
    RemoveRule,
    SetGroup,
)
from nicwatchd.core.operations import family_of
from nicwatchd.core.ownership import Selector, selector
from nicwatchd.core.words import brief

# Twice is chance. Tools that run from a timer (ec2-net-utils) do so once a minute: three of their
# runs fit into the window. Rarer removals do no lasting harm, because we heal each within 0.1 s.
LOSSES: Final = 3
WINDOW: Final = 150.0  # s; a fight is over after this time without a loss
# A thing is put back at once the first BURST times, then once in INTERVAL seconds. Ten is more than
# any restart of a network manager causes, and one write in 5 s costs next to nothing.
BURST, INTERVAL = 10, 5.0
AGAIN: Final = 2  # times in succession that one culprit is found, until it is told what stops it

Thing: TypeAlias = AddAddress | AddRoute | AddRule | SetGroup
# For people and metrics.
KINDS: Final[Mapping[type[Thing], str]] = {
    AddAddress: "address",
    AddRoute: "route",
    AddRule: "rule",
    SetGroup: "group",
}


class Place(NamedTuple):
    """Where something was removed, as precisely as a notification says.

    `number` is a rule's priority, else the ifindex; `family` 0 is either.
    """

    kind: type[Thing]
    number: int
    family: int = 0


def thing(operation: Operation) -> Thing | None:
    """What an operation adds or sets; None for a removal, and for a change of an address."""
    if isinstance(operation, AddRoute):
        return replace(operation, replace=False) if operation.replace else operation
    if isinstance(operation, AddAddress):
        if operation.replace:  # one that is there and changes was not lost
            return None
        return replace(operation, preferred=False) if operation.preferred else operation
    return operation if isinstance(operation, AddRule | SetGroup) else None


def things(operations: Iterable[Operation]) -> frozenset[Thing]:
    """What the operations add or set."""
    return frozenset(each for each in map(thing, operations) if each)


def has(plan: Plan, lost: Thing) -> bool:
    """Whether a plan contains exactly this thing."""
    match lost:
        case AddAddress(ip=ip):
            return ip in plan.addresses
        case AddRoute(route=route):
            return route in plan.routes
        case AddRule(rule=rule):
            return rule in plan.rules
        case SetGroup():
            return lost in plan.groups


def place(lost: Thing) -> Place:
    """The place that a notification of its removal names."""
    match lost:
        case AddRule(rule=rule):
            return Place(AddRule, rule.priority, rule.family)
        case AddRoute(route=route):
            return Place(AddRoute, route.oif, route.family)
        case AddAddress(index=index) | SetGroup(index=index):
            return Place(type(lost), index)


def without(operations: Iterable[Operation], throttled: AbstractSet[Thing]) -> Iterator[Operation]:
    """The operations without those that are throttled, and without those that depend on these.

    A route needs its source on the link. In one chain of rules nothing overtakes what waits, and
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

    first: float
    limiter: Limiter = field(default_factory=lambda: Limiter(BURST, INTERVAL))
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=LOSSES))
    times: int = 0
    back_at: float = field(init=False)
    fought: bool = False
    who: str = ""
    stop: str = ""  # what ends it, if the culprit is known
    named: int = 0  # how often in succession that was so


class Fights:
    """What others removed of one interface's things, and how often. Times: monotonic seconds."""

    def __init__(self) -> None:
        self._losses: dict[Thing, _Losses] = {}
        self._told = False

    def lose(self, lost: Thing, who: str | None, now: float, stop: str = "") -> None:
        """Count a thing that others removed. `who` is for people; None: not known.

        `stop`: what ends it, if that is known. A guess that is repeated is told.
        """
        losses = self._losses.setdefault(lost, _Losses(now))
        losses.times += 1
        losses.recent.append(now)
        losses.back_at = now + losses.limiter.delay(now)
        losses.fought |= len(losses.recent) == LOSSES and now - losses.recent[0] <= WINDOW
        if stop:
            losses.named = losses.named + 1 if stop == losses.stop else 1
        if stop or not losses.stop:
            losses.who, losses.stop = who or losses.who, stop

    def forget(self, now: float) -> None:
        """Forget the things that nobody has removed for WINDOW seconds."""
        quiet = [lost for lost, losses in self._losses.items() if now >= _end(losses)]
        for lost in quiet:
            del self._losses[lost]

    def give_up(self) -> None:
        """Forget all losses: none of these things is put back any more."""
        self._losses.clear()

    def throttled(self, now: float) -> dict[Thing, float]:
        """The things that must not be put back yet, and until when."""
        return {lost: each.back_at for lost, each in self._losses.items() if now < each.back_at}

    def over(self, lost: Thing | None) -> bool:
        """Whether this thing is fought over."""
        return lost in self._losses and self._losses[lost].fought

    @property
    def reason(self) -> Reason | None:
        """What is fought over, and with whom; None when nothing is."""
        fought = {lost: losses for lost, losses in self._losses.items() if losses.fought}
        if not fought:
            return None
        lost, worst = max(fought.items(), key=lambda item: (_is_named(item[1]), item[1].times))
        text = f"{brief(lost)} was removed {worst.times} times in "
        text += f"{max(1.0, worst.recent[-1] - worst.first):.0f} s"
        if len(fought) > 1:
            text += f", and {len(fought) - 1} more of nicwatchd's objects repeatedly"
        text += f"; the kernel's notifications name {worst.who}" if worst.who else ""
        text += f"; nicwatchd puts it back each time: {BURST} times at once, then once in "
        remedy = worst.stop if _is_named(worst) else ""
        return Reason("fought-over", f"{text}{INTERVAL:g} s", remedy, family=_family(fought))

    @property
    def last(self) -> float:
        """When something that is fought over was removed last."""
        return max((e.recent[-1] for e in self._losses.values() if e.fought), default=-inf)

    def news(self) -> bool | None:
        """Whether a fight began (True) or ended (False) since the last call; None: neither."""
        if not self._losses and not self._told:
            return None  # nearly always
        now = any(losses.fought for losses in self._losses.values())
        told, self._told = self._told, now
        return None if now == told else now

    def deadlines(self) -> Iterator[float]:
        """When something may be put back, and when a fight ends."""
        for losses in self._losses.values():
            yield losses.back_at
            if losses.fought:
                yield _end(losses)


def _family(things: Iterable[Thing]) -> Family | None:
    """The family that all of them are of; None: of several, or of none."""
    families = {family_of(each) for each in things}
    return families.pop() if len(families) == 1 else None


def _is_named(losses: _Losses) -> bool:
    """Whether the same culprit was found again: once may be chance."""
    return losses.named >= AGAIN


def _end(losses: _Losses) -> float:
    return losses.recent[-1] + WINDOW
