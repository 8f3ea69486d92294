"""What the kernel says over time, as lines of a recording: reads it at each event, tells changes.

It reads as the daemon does: upon events, all at once, and never for more than a small part of the
time. So what came and went between two reads is seen only where an event names it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Final, TypeVar

from nicwatchd.core.model import (
    LOCAL_TABLE,
    MAIN_TABLE,
    PROTOCOL,
    TO_TABLE,
    Address,
    Link,
    Route,
    Rule,
)
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import (
    AddressEvent,
    Event,
    EventSource,
    Heeded,
    Kernel,
    KernelError,
    RouteEvent,
    RuleEvent,
)
from nicwatchd.core.published import Published
from nicwatchd.core.treatment import is_candidate
from nicwatchd.recording.format import Line, Outside
from nicwatchd.service.driver import udev_is_done
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.outside import Outside as Files
from nicwatchd.service.status import shown

T = TypeVar("T", bound=Hashable)

PAUSE: Final = 0.01  # s between two reads at least
REST: Final = 5.0  # ... and so many times as long as the last read took
EVERY: Final = 5.0  # s; files change without an event
RETRY: Final = 1.0  # s, after the kernel did not answer
DEFAULT_TABLE: Final = 253
# Links whose routes in main are read: those of hardware and with addresses. A host of containers
# has thousands more.
LINKS: Final = 128
PORTS: Final = 256  # that are published
EVENTS: Final = 1000  # of one read that are told; a storm has more

Say = Callable[[Line], None]


@dataclass(frozen=True)
class Picture:
    """All that was read at one time."""

    links: dict[int, Link] = field(default_factory=dict)
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    outside: Outside = field(default_factory=Outside)


class KernelWatch:
    """Tells `say` what changes. `candidates` are the links that may be ENIs, as last read."""

    def __init__(
        self,
        kernel: Kernel,
        events: EventSource,
        policy: Policy,
        runtime_directory: Path,
        say: Say,
        clock: Callable[[], float],
    ) -> None:
        self._kernel = kernel
        self._events = events
        self._policy = policy
        self._directory = runtime_directory
        self._say = say
        self._clock = clock  # seconds since the recording began
        self._files = Files()
        self._picture = Picture()
        self._pending: list[tuple[float, Event]] = []
        self._late: list[Event] = []  # came during the last read; what they tell it may lack
        self._woken = asyncio.Event()
        self.candidates: dict[int, Link] = {}
        self.hinted: Callable[[int], None] = lambda _: None  # something happened to a link

    async def run(self) -> None:
        """Watch until cancelled."""
        self._events.start(self._take)
        self._events.heed(Heeded(firewall=True))
        try:
            while True:
                began = self._clock()
                try:
                    await self._look()
                    rest = max(PAUSE, REST * (self._clock() - began))
                except KernelError as error:
                    self._say(Line(t=self._clock(), note=f"the kernel did not answer: {error}"))
                    rest = RETRY
                await asyncio.sleep(rest)
                try:
                    await asyncio.wait_for(self._woken.wait(), EVERY)
                except TimeoutError:
                    continue
        finally:
            self._events.close()

    def _take(self, event: Event) -> None:
        self._pending.append((self._clock(), event))
        self._woken.set()

    async def _look(self) -> None:
        """Read everything, and tell what is not as before."""
        self._woken.clear()
        at = self._clock()
        now = await self._read()
        self._events.drain()  # else a change may be seen before the event that says whose it is
        events, self._pending = self._pending, []
        for when, event in events[:EVENTS]:
            self._say(Line(t=when, event=_in_words(event)))
        if len(events) > EVENTS:
            self._say(Line(t=at, note=f"{len(events) - EVENTS} more events came with these"))
        before, self._picture = self._picture, now
        causes = _Causes((*self._late, *(event for _, event in events)))
        self._late = [event for when, event in events if when >= at]
        for line in (*_gone(before, now, causes), *_new(before, now, causes)):
            self._say(line.model_copy(update={"t": at}))
        self.candidates = {i: link for i, link in now.links.items() if _asks(link, self._policy)}
        for index in {getattr(event, "index", 0) for _, event in events} & self.candidates.keys():
            self.hinted(index)

    async def _read(self) -> Picture:
        kernel = self._kernel
        links = {index: _printable(link) for index, link in (await kernel.links()).items()}
        found = await kernel.all_addresses()
        ledger = Ledger(self._directory)  # as the daemon has it now
        addresses = [
            address
            for index, on in found.items()
            for address in ledger.mark(links[index].mac if index in links else "", on)
        ]
        rules = tuple(_named(rule) for rule in await kernel.rules())
        return Picture(
            links,
            tuple(addresses),
            await self._read_routes(links, found.keys(), rules),
            rules,
            await self._read_outside(links),
        )

    async def _read_routes(
        self, links: dict[int, Link], with_addresses: Iterable[int], rules: Iterable[Rule]
    ) -> tuple[Route, ...]:
        kernel = self._kernel
        routes = dict.fromkeys((*await kernel.own_routes(), *await kernel.defaults()))
        hardware = [i for i, link in links.items() if is_candidate(link, self._policy)]
        for index in list(dict.fromkeys((*hardware, *with_addresses)))[:LINKS]:
            routes |= dict.fromkeys(await kernel.link_routes(index))
        for some in (await kernel.closed_main(frozenset())).values():
            routes |= dict.fromkeys(some)
        tables = {rule.table for rule in rules if rule.action == TO_TABLE}
        for table in sorted(tables - {0, LOCAL_TABLE, MAIN_TABLE, DEFAULT_TABLE}):
            routes |= dict.fromkeys(await kernel.table_routes(table))
        return tuple(routes)

    async def _read_outside(self, links: dict[int, Link]) -> Outside:
        indices = [i for i, link in links.items() if is_candidate(link, self._policy)]
        managers = {index: self._files.manager_of(index) for index in indices}
        clients = self._files.clients_of(indices)
        return Outside(
            udev_done=frozenset(index for index in indices if udev_is_done(index)),
            managers={index: who for index, who in managers.items() if who},
            clients={index: who for index, who in clients.items() if who},
            strict=frozenset(index for index in indices if self._files.is_strict(index)),
            multus=self._files.multus(),
            published=await self._read_published(),
            nft=await self._kernel.nft_problem(),
        )

    async def _read_published(self) -> tuple[Published, ...]:
        try:
            return (await self._kernel.published())[:PORTS]
        except KernelError:  # others change their rules all the time, perhaps
            return self._picture.outside.published


class _Causes:
    """Who added or removed an object of ours, by the events of the time."""

    def __init__(self, events: Iterable[Event]) -> None:
        kinds = (AddressEvent, RouteEvent, RuleEvent)
        found = [each for each in events if isinstance(each, kinds)]
        self._pids = {(each.deleted, _about(each)): each.pid for each in found}

    def of(self, thing: Address | Route | Rule, *, gone: bool) -> int:
        """The netlink port of whoever did it; 0: the kernel, or nobody knows, or it is not ours."""
        is_ours = thing.protocol == PROTOCOL
        return self._pids.get((gone, _about(thing)), 0) if is_ours else 0


def _about(what: Address | AddressEvent | Route | RouteEvent | Rule | RuleEvent) -> Hashable:
    """What an event and its object have in common."""
    match what:
        case Address() | AddressEvent():
            return "address", what.index, what.ip
        case Route() | RouteEvent():
            return "route", what.family, what.table, what.protocol
        case Rule() | RuleEvent():
            return "rule", what.family, what.priority, what.protocol


def _gone(before: Picture, now: Picture, causes: _Causes) -> Iterable[Line]:
    """What is gone, in an order in which it can have gone."""
    for rule in _without(before.rules, now.rules):
        yield Line(t=0.0, rule_gone=rule, pid=causes.of(rule, gone=True))
    for route in _without(before.routes, now.routes):
        yield Line(t=0.0, route_gone=route, pid=causes.of(route, gone=True))
    kept = {(each.index, each.ip, each.prefixlen) for each in now.addresses}
    for address in _without(before.addresses, now.addresses):
        if (address.index, address.ip, address.prefixlen) not in kept:
            yield Line(t=0.0, address_gone=address, pid=causes.of(address, gone=True))
    for index in before.links.keys() - now.links.keys():
        yield Line(t=0.0, link_gone=index)


def _new(before: Picture, now: Picture, causes: _Causes) -> Iterable[Line]:
    """What is new or has changed, each after what it needs."""
    if now.outside != before.outside:
        yield Line(t=0.0, outside=now.outside)
    for index, link in sorted(now.links.items()):
        if link != before.links.get(index):
            yield Line(t=0.0, link=link)
    for address in _without(now.addresses, before.addresses):
        yield Line(t=0.0, address=address)
    routes = _without(now.routes, before.routes)
    for route in sorted(routes, key=lambda route: not route.is_on_link):
        yield Line(t=0.0, route=route, pid=causes.of(route, gone=False))
    for rule in _without(now.rules, before.rules):
        yield Line(t=0.0, rule=rule, pid=causes.of(rule, gone=False))


def _without(these: Iterable[T], those: Iterable[T]) -> list[T]:
    """These in their order, each as often as it is more often here than there."""
    left, more = Counter(those), []
    for each in these:
        if left[each]:
            left[each] -= 1
        else:
            more.append(each)
    return more


def _in_words(event: Event) -> str:
    """The event's kind, and what it has beyond the default."""
    told = (
        f" {each.name}={value}"
        for each in fields(event)
        if (value := getattr(event, each.name)) != each.default
    )
    return shown(type(event).__name__ + "".join(told))


def _asks(link: Link, policy: Policy) -> bool:
    """Whether IMDS is asked about a link: it may be an ENI."""
    return is_candidate(link, policy) and link.driver in policy.drivers and not link.master


def _printable(link: Link) -> Link:
    return link if link.name.isprintable() else replace(link, name=shown(link.name))


def _named(rule: Rule) -> Rule:
    iif, oif = rule.iif, rule.oif
    if (iif or "").isprintable() and (oif or "").isprintable():
        return rule
    return replace(rule, iif=iif and shown(iif), oif=oif and shown(oif))
