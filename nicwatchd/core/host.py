"""The whole host: facts in, operations out. The service around it only feeds and carries out.

One way leads through it, whatever happened: the facts are replaced by newer ones (`see_*`,
`hear*`), `decide` judges and plans everything anew and answers with the operations that are
missing, and the same call after they were carried out confirms what was achieved. No operations
is what an unchanged world leads to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network

from nicwatchd.core.diff import diff
from nicwatchd.core.eni_plan import groups_of
from nicwatchd.core.fights import KINDS, Place, Thing, has, place, thing, things, without
from nicwatchd.core.host_plan import Planner
from nicwatchd.core.interface import Interface
from nicwatchd.core.lifecycle import Event, OffTheTableError, Transition
from nicwatchd.core.metadata import NOT_ASKED, Answer, EniMetadata, Value
from nicwatchd.core.model import (
    AddAddress,
    Address,
    AddRoute,
    AddRule,
    Item,
    Link,
    Operation,
    Plan,
    Reason,
    RemoveAddress,
    RemoveRoute,
    Route,
    Rule,
    SetGroup,
    SetUp,
    contains,
)
from nicwatchd.core.moves import holders, programmed
from nicwatchd.core.ownership import Held, Owners, Snapshot
from nicwatchd.core.policy import Policy
from nicwatchd.core.releases import Releases
from nicwatchd.core.treatment import container_network, hands_off, is_candidate, is_primary

PRIMARY = Reason("primary", "the primary interface, which the host's own software configures")


def _released(name: str) -> Reason:
    back = f"`nicwatchd reconcile {name}` takes it up again"
    return Reason("released", f"released by the operator; {back}")


@dataclass(frozen=True, slots=True)
class Failure:
    """An operation that the kernel did not carry out, and why; `code` is a reason's."""

    operation: Operation
    text: str
    code: str = "kernel-refused"


class Host:
    """All interfaces of one host. Times are seconds of one monotonic clock.

    `random` gives floats in [0, 1) for the jitter. `strict` lets a machine's input off the table
    raise, as tests want it; otherwise it is counted in `surprises`, and the next look answers it.
    """

    def __init__(
        self, policy: Policy, random: Callable[[], float], *, strict: bool = False
    ) -> None:
        self.policy = policy
        self.interfaces: dict[int, Interface] = {}
        self.primary_mac: Answer[str] = NOT_ASKED
        self.container_network: str | None = None
        self.releases = Releases()  # what the operator took from us
        self.surprises = 0
        self.heals: Counter[str] = Counter()  # what others removed and we put back, by kind
        self._decided = float("-inf")  # when `decide` was called last
        self._links: Mapping[int, Link] | None = None  # before the first look
        self._routes: tuple[Route, ...] = ()
        self._rules: tuple[Rule, ...] = ()
        self._rule_owners: Mapping[Rule, int] = {}
        self._owners = Owners(Snapshot(), policy.numbers)
        self._groups = frozenset({policy.numbers.group})  # that were ever ours
        self._missing: frozenset[Thing] = frozenset()  # what was not there at the last look
        self._held_back: frozenset[Thing] = frozenset()  # ... and was not put there since
        self._suspects: dict[Place, str] = {}
        self._random = random
        self._strict = strict
        self._ended: list[tuple[Interface, Transition]] = []

    def set_policy(self, policy: Policy) -> None:
        """Decide by other settings from now on."""
        self.policy = policy
        for interface in self.interfaces.values():
            interface.lifecycle.patience = policy.patience
            interface.numbers = policy.numbers

    # --- facts -------------------------------------------------------------------------------

    def see_links(self, links: Mapping[int, Link], now: float) -> None:
        """Take all links of the host: new ones begin, missing ones end."""
        links = {index: self._with_driver(link) for index, link in links.items()}
        before, self._links = self._links, links
        for index, interface in list(self.interfaces.items()):
            link = links.get(index)
            # A MAC that changed is another interface: IMDS knows it by nothing else.
            if link is None or link.mac != interface.link.mac or not self._tracks(link):
                self._end(interface, now)
        for index, link in links.items():
            if index in self.interfaces:
                self.interfaces[index].see_link(link)
            elif self._tracks(link):
                came = before is not None and index not in before
                self.interfaces[index] = Interface(link, now, self.policy, came=came)
        self.releases = self.releases.among(i.key for i in self.interfaces.values())

    def _with_driver(self, link: Link) -> Link:
        """The link with its driver, which is asked for by name and so not told during a rename."""
        known = self.interfaces.get(link.index)
        if link.driver is None and known and known.link.mac == link.mac:
            return replace(link, driver=known.link.driver)
        return link

    def _tracks(self, link: Link) -> bool:
        return is_candidate(link, self.policy)

    def _end(self, interface: Interface, now: float) -> None:
        interface.lifecycle.handle(Event.REMOVED, now)
        self._ended += [(interface, transition) for transition in interface.lifecycle.drain()]
        index = interface.link.index
        del self.interfaces[index]
        self._suspects = {
            where: who
            for where, who in self._suspects.items()
            if where.kind is AddRule or where.number != index
        }

    def see_addresses(
        self, index: int, addresses: tuple[Address, ...], routes: tuple[Route, ...], now: float
    ) -> None:
        """Take one link's addresses and the main table's routes through it.

        A change that others made asks IMDS at once: it is often the same change arriving there.
        """
        interface = self.interfaces.get(index)
        if interface and interface.see(addresses, routes):
            interface.hint(now)

    def hint(self, index: int, now: float) -> None:
        """Ask IMDS about an interface at once: the kernel told of its link, whatever it was."""
        if index in self.interfaces:
            self.interfaces[index].hint(now)

    def see_own(self, routes: tuple[Route, ...], rules: tuple[Rule, ...]) -> None:
        """Take all routes of ours, and all rules of the host."""
        self._routes, self._rules = routes, rules

    def hear_primary(self, answer: Answer[str]) -> None:
        """Take IMDS's word for the primary's MAC. It never changes, so errors change nothing."""
        if not isinstance(self.primary_mac, Value):
            self.primary_mac = answer

    def hear(self, index: int, mac: str, heard: EniMetadata, now: float) -> bool:
        """Take a reading of one ENI; whether it says anything new.

        A late one for a link that has gone is dropped.
        """
        interface = self.interfaces.get(index)
        if interface is None or interface.link.mac != mac:
            return False
        had: tuple[Item, ...] = ()
        if interface.memory.unread and isinstance(heard.directory, Value):  # else no list is heard
            had = programmed(index, interface.addresses, self._rules, self._owners.of)
        return interface.hear(heard, now, self.policy, self._random, had)

    def suspect(self, where: Place, who: str) -> None:
        """Take whom a notification names for the removal of something of ours."""
        if where.kind is AddRule or where.number in self.interfaces:
            self._suspects[where] = who

    def flapped(self, index: int) -> None:
        """A link was down, if only for a moment: the kernel itself removes much then."""
        interface = self.interfaces.get(index)
        if interface:
            interface.flapped = True

    def failed(self, failures: list[Failure]) -> None:
        """Take what the last operations did not achieve; the next `decide` shows it as reasons.

        To be called after each run: what was achieved and is missing at the next look was removed.
        """
        self._missing = self._held_back | things(failure.operation for failure in failures)
        owners = [(self._owner(failure.operation), failure) for failure in failures]
        for index, interface in self.interfaces.items():
            interface.failures = tuple(
                Reason(failure.code, failure.text) for o, failure in owners if o == index
            )

    # --- decisions ---------------------------------------------------------------------------

    def decide(self, now: float) -> tuple[Operation, ...]:
        """Judge and plan everything anew. The operations are in the order to carry them out."""
        self._decided = now
        self.container_network = container_network(self._links or {}, self._rules)
        self._groups |= {self.policy.numbers.group} | groups_of(self._rules)
        kernel = self._snapshot()
        self._owners = Owners(kernel, self.policy.numbers)
        self._settle_moves(now)
        for interface in self.interfaces.values():
            interface.groups = self._groups
            try:
                self._conclude(interface, now)
            except OffTheTableError:
                self.surprises += 1
                if self._strict:
                    raise
        before = {index: interface.plan for index, interface in self.interfaces.items()}
        judged = {(i.link.index, family) for i in self.interfaces.values() for family in i.held}
        self._plan(now, judged)
        plans = [interface.plan for interface in self.interfaces.values()]
        operations = diff(plans, kernel, judged, self._owners)
        self._count_losses(before, operations, now)
        # What is fought over comes and goes. It is told by itself, once; the state tells the rest.
        unequal = {self._owner(o) for o in operations if not self._is_fought_over(o)}
        for index, interface in self.interfaces.items():
            interface.confirm(now, self.policy, equal=index not in unequal)
        held = (i.fights.held(now) for i in self.interfaces.values())
        allowed = tuple(without(operations, frozenset().union(*held)))
        self._missing = things(operations)
        self._held_back = self._missing - things(allowed)
        return allowed

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            links={i.link.index: i.link for i in self.interfaces.values()},
            addresses={i.link.index: i.addresses for i in self.interfaces.values()},
            routes=self._routes,
            rules=self._rules,
        )

    def _count_losses(
        self, before: Mapping[int, Plan], operations: Sequence[Operation], now: float
    ) -> None:
        """Count what was there as planned, and is planned still, but missing: others took it."""
        for interface in self.interfaces.values():
            interface.fights.forget(now)
        for lost in map(thing, operations):
            index = self._owner(lost) if lost else None
            if lost is None or index is None or lost in self._missing:
                continue
            interface = self.interfaces[index]
            by_kernel = interface.flapped and isinstance(lost, AddRoute | AddAddress)
            if has(before[index], lost) and not by_kernel:
                interface.fights.lose(lost, self._suspects.get(place(lost), ""), now)
                self.heals[KINDS[type(lost)]] += 1
        for interface in self.interfaces.values():
            interface.flapped = False

    def _is_fought_over(self, operation: Operation) -> bool:
        interface = self.interfaces.get(self._owner(operation) or 0)
        return interface is not None and interface.fights.over(thing(operation))

    def _settle_moves(self, now: float) -> None:
        """Tell each interface what another one has; of a move, the other end is asked at once."""
        polled = {index: i for index, i in self.interfaces.items() if i.is_polled}
        claims = [interface.claims for interface in polled.values()]
        held = holders(claims, self._rules, self._owners.of)
        for index, interface in self.interfaces.items():
            others = {item: holder for item, holder in held.items() if holder != index}
            names = {item: self.interfaces[holder].link.name for item, holder in others.items()}
            for item in interface.leave(names):
                self.interfaces[others[item]].hint(now)

    def _conclude(self, interface: Interface, now: float) -> None:
        interface.is_primary = is_primary(interface.link, self.primary_mac)
        reason = hands_off(interface.link, self.policy, self.container_network)
        if interface.key in self.releases:
            interface.fights.give_up()
            reason = _released(interface.link.name)
        elif interface.is_primary:
            reason = PRIMARY
        elif not reason and self._lies_in_excluded(interface):
            reason = Reason("excluded", "its subnet is excluded by the settings")
        if reason:
            interface.ignore(reason, now)
        else:
            interface.conclude(self.primary_mac, now, self.policy)

    def _lies_in_excluded(self, interface: Interface) -> bool:
        if not self.policy.exclude_subnets:
            return False
        # DHCPv6 brings a single address, and its subnet may come later.
        hosts = (ip_network(address.ip) for address in interface.addresses)
        places = (*interface.subnets, *hosts)
        return any(contains(outer, p) for outer in self.policy.exclude_subnets for p in places)

    def _plan(self, now: float, held: Held) -> None:
        planner = Planner(
            interfaces=self.interfaces,
            releases=self.releases,
            rules=self._rules,
            owners=self._owners,
            held=held,
            knows_primary=isinstance(self.primary_mac, Value),
            now=now,
        )
        for index, its in planner.plans(self.policy).items():
            self.interfaces[index].plan = its
        self._rule_owners = {
            rule: index for index, i in self.interfaces.items() for rule in i.plan.rules
        }

    def _owner(self, operation: Operation) -> int | None:
        """The ifindex of the interface that an operation is for; None for a leftover's."""
        match operation:
            case SetGroup(index=i) | SetUp(index=i) | AddAddress(index=i) | RemoveAddress(index=i):
                return i
            case AddRoute(route=route) | RemoveRoute(route=route):
                return route.oif
            case AddRule(rule=rule):
                return self._rule_owners.get(rule)
            case _:
                return next(iter(self._owners.of(operation.rule.table)), None)

    # --- what to do, and when ----------------------------------------------------------------

    def polls_due(self, now: float) -> list[tuple[Interface, bool]]:
        """The interfaces to ask IMDS about now, and whether for everything; each is asked once."""
        due = []
        for interface in self.interfaces.values():
            polling = interface.polling
            if interface.is_polled and not polling.in_flight and polling.next_at <= now:
                polling.in_flight = True
                due.append((interface, polling.whole_at <= now))
        return due

    def next_poll(self) -> float | None:
        """When IMDS is to be asked next."""
        times = (
            i.polling.next_at
            for i in self.interfaces.values()
            if i.is_polled and not i.polling.in_flight
        )
        return min(times, default=None)

    def poll_all(self, now: float) -> None:
        """Ask IMDS about everything at once."""
        for interface in self.interfaces.values():
            interface.poll_at(now)

    def next_deadline(self, now: float) -> float | None:
        """When to decide again, if nothing happens before: `now`, if a deadline was missed."""
        decided = self._decided
        deadlines = (i.next_deadline(decided, self.policy) for i in self.interfaces.values())
        return min((max(now, time) for time in deadlines if time is not None), default=None)

    def fights(self) -> list[tuple[Interface, bool]]:
        """The interfaces that began (True) or ceased (False) to be fought over since last asked."""
        news = ((interface, interface.fights.news()) for interface in self.interfaces.values())
        return [(interface, began) for interface, began in news if began is not None]

    def transitions(self) -> list[tuple[Interface, Transition]]:
        """All transitions since the last call, in their order within each interface."""
        ended, self._ended = self._ended, []
        living = [
            (interface, transition)
            for interface in self.interfaces.values()
            for transition in interface.lifecycle.drain()
        ]
        return ended + living
