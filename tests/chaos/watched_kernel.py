"""The fake kernel, in which each thing takes a moment, and which watches each write of the daemon.

No single write may take from an ENI what is its own and works: not for a moment, not on a doubt,
not on the way to something better.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    TABLE_BASE,
    AddAddress,
    Address,
    Family,
    IPAddress,
    Link,
    Numbers,
    Operation,
    RemoveAddress,
    Route,
    Rule,
)
from nicwatchd.core.port import Event, Outcome, Overrun, RouteAnswer, judge
from nicwatchd.sim.kernel_lookup import lookup
from nicwatchd.sim.memory_kernel import UNSPECIFIED, FakeEvents, FakeKernel
from tests.chaos.actions import Item
from tests.chaos.truth import PRIMARY, Truth
from tests.chaos.verdicts import FAR, leaves_by

EVENT: Final = 0.0005  # s until an event is heard; an overrun loses those on their way
READ: Final = 0.0005  # s for a question
WRITE: Final = 0.002  # s for an operation: long enough to be killed between two


@dataclass(frozen=True, slots=True)
class Safety:
    """`standing`: what of the ENIs' own leaves by its ENI. `hollow`: tables, by family, that rules
    lead into and that have no default route. `unguarded`: our rules that no guard comes before.
    `led`: the families in which the host's own traffic leaves by the primary."""

    standing: frozenset[tuple[str, Item]]
    hollow: frozenset[tuple[int, Family]]
    unguarded: frozenset[Rule]
    led: frozenset[Family]


class DelayedEvents(FakeEvents):
    """Events that are on their way for a moment."""

    def __init__(self, listeners: list[FakeEvents], lose: Callable[[Event], bool]) -> None:
        super().__init__(listeners)
        self._lose = lose
        self._under_way: deque[tuple[asyncio.TimerHandle, Event]] = deque()

    def emit(self, event: Event) -> None:
        if isinstance(event, Overrun):
            for handle, _ in self._under_way:
                handle.cancel()
            self._under_way.clear()
        elif self._lose(event):
            return
        handle = asyncio.get_running_loop().call_later(EVENT, self._arrive)
        self._under_way.append((handle, event))

    def _arrive(self) -> None:
        """The first one; timers of one moment end in any order."""
        self._deliver(self._under_way.popleft()[1])


class WatchedKernel(FakeKernel):
    """`wrongs` are the writes that did harm. `lose` tells which events are never heard of."""

    def __init__(self, lose: Callable[[Event], bool] = lambda _: False) -> None:
        super().__init__()
        self.wrongs: list[str] = []
        self._lose = lose
        self._truth = Truth()
        self._indexes: Mapping[str, int] = {}
        self._disturbed_at = 0.0
        self._pass_began = self._busy_until = 0.0
        self._safety: Safety | None = None  # as of the last operation, unless disturbed since
        self.changes = 0  # how often anything changed
        self._answers: dict[tuple[str, IPAddress, IPAddress], bool] = {}  # since the last event

    def disturbed(self, truth: Truth, indexes: Mapping[str, int]) -> None:
        """Something is about to happen that is not the daemon's doing."""
        self._truth, self._indexes = truth, indexes
        self._disturbed_at = asyncio.get_running_loop().time()
        self._safety = None

    async def _take(self, seconds: float) -> None:
        """Take time. Questions and operations without a pause between them are one pass."""
        loop = asyncio.get_running_loop()
        if loop.time() > self._busy_until:
            self._pass_began = loop.time()
        await asyncio.sleep(seconds)
        self._busy_until = loop.time()

    def _is_late(self) -> bool:
        """Whether something has changed that the daemon could not hear of before this pass."""
        return self._disturbed_at + EVENT >= self._pass_began

    def answers(self, mac: str, ip: IPAddress, caller: IPAddress) -> bool:
        """Whether a caller gets an answer from an address of an ENI."""
        known = self._answers.get((mac, ip, caller))
        if known is None:
            index, state = self._indexes.get(mac, 0), self._state
            there = any((a.index, a.ip) == (index, ip) for a in state.addresses)
            usable = there and state.links[index].up and state.links[index].running
            known = usable and leaves_by(index, lookup(state, ip, caller, 0))
            self._answers[mac, ip, caller] = known
        return known

    def _emit(self, event: Event) -> None:
        self._answers.clear()
        self.changes += 1
        super()._emit(event)

    def events(self) -> FakeEvents:
        return DelayedEvents(self._listeners, self._lose)

    # --- each question takes a moment ----------------------------------------------------------

    async def links(self) -> dict[int, Link]:
        await self._take(READ)
        return await super().links()

    async def link(self, index: int) -> Link | None:
        await self._take(READ)
        return await super().link(index)

    async def addresses(self, index: int) -> tuple[Address, ...]:
        await self._take(READ)
        return await super().addresses(index)

    async def all_addresses(self) -> dict[int, tuple[Address, ...]]:
        await self._take(READ)
        return await super().all_addresses()

    async def link_routes(self, index: int) -> tuple[Route, ...]:
        await self._take(READ)
        return await super().link_routes(index)

    async def defaults(self) -> tuple[Route, ...]:
        await self._take(READ)
        return await super().defaults()

    async def own_routes(self) -> tuple[Route, ...]:
        await self._take(READ)
        return await super().own_routes()

    async def rules(self) -> tuple[Rule, ...]:
        await self._take(READ)
        return await super().rules()

    # --- and each operation is looked at -------------------------------------------------------

    async def run(self, operations: Sequence[Operation]) -> list[Outcome]:
        outcomes = []
        for operation in operations:
            await self._take(WRITE)
            if self._is_late():
                self._safety = None
                outcomes.append(judge(operation, self._run_one(operation)))
                continue
            self._check_takings(operation)
            before = self._safety or self._look_at_safety()
            outcomes.append(judge(operation, self._run_one(operation)))
            self._safety = self._look_at_safety()
            self._compare(operation, before, self._safety)
        return outcomes

    def _check_takings(self, operation: Operation) -> None:
        if isinstance(operation, AddAddress):
            macs = {index: mac for mac, index in self._indexes.items()}
            mac = macs.get(operation.index, "")
            if (mac, operation.ip) in self._truth.taken:
                self.wrongs.append(f"{operation} put {operation.ip} back on {mac}")

    def _compare(self, operation: Operation, before: Safety, after: Safety) -> None:
        for mac, item in before.standing - after.standing:
            self.wrongs.append(f"{operation} took {item} from {mac}")
        # A link's IPv4 routes go with its last IPv4 address: that is the kernel's doing.
        hollow = set() if isinstance(operation, RemoveAddress) else after.hollow - before.hollow
        for table, family in hollow:
            self.wrongs.append(f"{operation} let {family.label} rules lead into empty {table}")
        for rule in after.unguarded - before.unguarded:
            self.wrongs.append(f"{operation} left {rule} without its guard")
        for family in before.led - after.led if self._truth.beside else ():
            self.wrongs.append(f"{operation} let the host's own {family.label} leave elsewhere")

    def _look_at_safety(self) -> Safety:
        state = self._state
        standing = {(mac, item) for mac, item in self._truth.steady if self._stands(mac, item)}
        led = {(r.table, r.family) for r in state.rules if r.table >= TABLE_BASE}
        defaults = {(r.table, r.family) for r in state.routes if not r.dst.prefixlen}
        up = {Numbers().table_of(link.index) for link in state.links.values() if link.up}
        hollow = {(table, family) for table, family in led - defaults if table in up}
        own = [rule for rule in state.rules if rule.protocol == PROTOCOL]
        leads = frozenset(filter(self._leads, Family))
        return Safety(frozenset(standing), frozenset(hollow), frozenset(unguarded(own)), leads)

    def _leads(self, family: Family) -> bool:
        answer = lookup(self._state, UNSPECIFIED[family], FAR[family], 0)
        return isinstance(answer, RouteAnswer) and answer.oif == self._indexes[PRIMARY]

    def _stands(self, mac: str, item: Item) -> bool:
        """Whether a packet from an address of the ENI's leaves by the ENI's own table.

        The primary's may do so by main's as well.
        """
        index = self._indexes.get(mac)
        if index is None:
            return False
        if isinstance(item, IPv4Address | IPv6Address):
            there = any((a.index, a.ip) == (index, item) for a in self._state.addresses)
            source: IPAddress = item
        else:
            there, source = True, item[1]
        answer = lookup(self._state, source, FAR[Family(item.version)], 0) if there else None
        if not isinstance(answer, RouteAnswer):
            return False
        if mac == PRIMARY:
            return answer.oif == index
        return answer.table == Numbers().table_of(index)

    def astray(self, truth: Truth) -> list[str]:
        """Addresses that are on their ENI's link, and whose packets leave by another ENI's table.

        Of two that had it, it is the one's by now: whatever IMDS lists still elsewhere.
        """
        found = []
        tables = {Numbers().table_of(index): mac for mac, index in self._indexes.items()}
        on: dict[IPAddress, set[int]] = {}
        for address in self._state.addresses:
            on.setdefault(address.ip, set()).add(address.index)
        for mac in truth.ports.keys() - {*truth.dead}:
            for ip in truth.enis[mac].addresses():
                if on.get(ip) == {self._indexes[mac]}:
                    answer = lookup(self._state, ip, FAR[Family(ip.version)], 0)
                    by = tables.get(answer.table) if isinstance(answer, RouteAnswer) else None
                    if by not in (None, mac):
                        found.append(f"{ip} of {mac} leaves by {by}")
        return found


def unguarded(rules: Iterable[Rule]) -> set[Rule]:
    """The rules that no guard comes before, of ours in their order; detours need none."""
    guards, found = set(), set()
    for rule in rules:
        if rule.table == MAIN_TABLE:
            guards.add(selector(rule))
        elif rule.dst is None and selector(rule) not in guards:
            found.add(rule)
    return found


def selector(rule: Rule) -> tuple[object, ...]:
    """What one of our rules selects by."""
    return (rule.family, rule.src, rule.iif, rule.oif)
