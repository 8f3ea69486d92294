"""One decision: judge and plan everything, and compare it with what the kernel has.

Reads: a host whose facts were just read. Gives: a `Decision`, with the operations to carry out.
Only the turn calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Final

from nicwatchd.core.backoff import Share
from nicwatchd.core.closed_main import ClosedMain
from nicwatchd.core.container_networks import container_network
from nicwatchd.core.contest import Contest
from nicwatchd.core.decision import Decision, Throttled
from nicwatchd.core.earlier import Earlier
from nicwatchd.core.eni_plan import groups_of
from nicwatchd.core.failures import Failure
from nicwatchd.core.fights import Thing, thing, without
from nicwatchd.core.forwarder import Forwarder
from nicwatchd.core.ground import ground_of
from nicwatchd.core.homes import (
    Homes,
    addresses_above,
    addresses_housed,
    networks_beyond_nics,
)
from nicwatchd.core.host import Host
from nicwatchd.core.host_plan import HostPlan
from nicwatchd.core.interface import JUDGING, PLANNING, Interface
from nicwatchd.core.kept import WHOLE
from nicwatchd.core.leadership import Leadership
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import (
    MAIN_TABLE,
    AddAddress,
    AddRoute,
    AddRule,
    Family,
    IPNetwork,
    Item,
    Operation,
    Plan,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    RemoveRuleset,
    Rule,
    SetGroup,
    SetRuleset,
    SetUp,
)
from nicwatchd.core.neighbourhood import Neighbourhood
from nicwatchd.core.operations import family_of
from nicwatchd.core.ownership import Snapshot, Undecided, selector
from nicwatchd.core.policy import Forwarded
from nicwatchd.core.port import Outcome
from nicwatchd.core.sections import own_policy
from nicwatchd.core.treatment import Managed, Primary, Unmanaged, is_nic, places_of, treat

AGAIN: Final = 60.0  # s; after an exception of ours, which may not come again


class Decider:
    """Makes the decisions of one host, and numbers them."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.revision = 0
        self.at = -inf  # when the last decision was made
        self._groups = frozenset({host.policy.numbers.group})  # all link groups that were ever ours
        self._rule_owners: Mapping[Rule, int] = {}
        self._carriers: Mapping[int, int] = {}  # in whose plan a link on top of it is
        self._without_table: frozenset[int] = frozenset()
        self._orphans: tuple[Plan, ...] = ()  # of links that stand on no ENI any more
        self._earlier = Earlier()
        self._told: frozenset[IPNetwork] = frozenset()  # the ENIs' subnets, in this run
        self._contest: Contest  # of the decision that is being made
        self._leadership = Leadership(host)
        self.forwarder = Forwarder(host)

    def is_stale(self, now: float) -> bool:
        """Whether everything is to be decided anew, however little changed."""
        age, interfaces = now - self._earlier.at, self.host.interfaces.values()
        return age >= WHOLE or (age >= AGAIN and any(i.surprised for i in interfaces))

    def forget(self, now: float) -> None:
        """Draw every conclusion of the next decision anew."""
        self._earlier = Earlier(now)
        for interface in self.host.interfaces.values():
            interface.judge_anew()

    def decide(self, now: float) -> Decision:
        """Judge, plan and compare what changed since the last decision; the rest stays."""
        host = self.host
        if self.is_stale(now):
            self.forget(now)
        self.at = now
        self._groups |= {host.policy.numbers.group} | groups_of(host.rules)
        network, kernel = container_network(host.link_names, host.rules), self._read_anew()
        self._treat_each(network, now)
        self._contest = _contest(host, self._earlier)
        if not host.policy.every_link:  # a release finishes no move
            self._contest.settle(now)
        _find_homes(host, self._contest.networks)
        self._each(lambda i: i.conclude(host.primary_mac, now, i.own.policy))
        before = {index: interface.plan for index, interface in host.interfaces.items()}
        self._plan(now, network)
        undecided = self._undecided()
        plans = [*_in_order(host.interfaces.values()), *self._orphans]
        differ = self._earlier.differ
        operations = differ.diff(plans, kernel, undecided, host.owners)
        operations = self.forwarder.around(operations, now)
        self._count_losses(before, operations, now)
        self._confirm(operations, now)
        allowed, throttled = self._throttle(operations, now)
        host.losses.open(operations, allowed)
        self.revision += 1
        return Decision(
            revision=self.revision,
            at=now,
            policy=host.policy,
            releases=host.releases,
            primary_mac=host.primary_mac,
            container_network=network,
            kernel=kernel,
            interfaces={index: i.view() for index, i in host.interfaces.items()},
            operations=allowed,
            throttled=throttled,
            protected=differ.protected(plans, kernel, operations, undecided),
        )

    def _read_anew(self) -> Snapshot:
        """Begin a decision with what the kernel has, and without the errors of the last one."""
        host, kernel = self.host, _snapshot(self.host)
        numbers, marks_end = host.policy.numbers, host.policy.forwarded is Forwarded.OFF
        host.owners = self._earlier.owners(kernel, numbers, marks_end=marks_end)
        for interface in host.interfaces.values():
            interface.surprise(JUDGING, None)
            interface.surprise(PLANNING, None)
        return kernel

    def close(self, failures: Sequence[Outcome], now: float) -> None:
        """Take the failed operations of the last decision, to count what others removed."""
        lost = (thing(outcome.operation) for outcome in failures)
        self.host.losses.close(frozenset(each for each in lost if each), now)
        self.forwarder.close(failures, self.at)

    def explain(self, failures: Sequence[Failure]) -> None:
        """Take the reasons of failures, for the next decision to show."""
        whose = [(self._owner(failure.operation), failure) for failure in failures]
        for index, interface in self.host.interfaces.items():
            interface.fail(tuple(f.reason for owner, f in whose if owner == index))

    # --- facts to conclusions ----------------------------------------------------------------

    def _each(self, work: Callable[[Interface], None]) -> None:
        self.host.for_each(work, JUDGING)

    def _treat_each(self, network: str | None, now: float) -> None:
        self._each(lambda interface: self._treat(interface, network, now))
        _share_out(self.host)

    def _treat(self, interface: Interface, network: str | None, now: float) -> None:
        host, facts = self.host, interface.facts
        # What is released needs no facts, so no mistake in judging them can hold it back.
        told, named = facts.memory.believed, facts.udev_is_over(now)
        interface.own = own_policy(host.policy, facts.link, told, host.outside.multus, named=named)
        policy = interface.own.policy
        needs_places = policy.exclude_subnets and interface.key not in host.releases
        places = places_of(facts.subnets, facts.addresses) if needs_places else ()
        manager = host.outside.manager_of(interface.key)
        treatment = treat(
            facts.link, places, policy, host.releases, host.primary_mac, network, manager
        )
        interface.treat(treatment, self._groups, pods=network is not None)

    def _undecided(self) -> Undecided:
        host = self.host
        interfaces = host.interfaces.items()
        waiting = {(index, family) for index in self._without_table for family in Family}
        releases = host.policy.every_link or host.releases.everything
        if not (isinstance(host.primary_mac, Value) or releases):  # who leads, depends on it
            waiting |= {(r.oif, r.family) for r in host.routes if r.table == MAIN_TABLE}
            waiting |= _left_alone(host.interfaces)
        return waiting | {(index, family) for index, i in interfaces for family in i.undecided}

    def _plan(self, now: float, network: str | None) -> None:
        host = self.host
        self._without_table = _without_table(host)
        protection = self._leadership.protection(network)
        ground = {index: ground_of(interface) for index, interface in host.interfaces.items()}
        stack = host.above.stack(ground, self._groups, joins=not host.policy.every_link)
        self._orphans = stack.orphans(host.policy.numbers.group)
        numbers, others = host.policy.numbers, host.foreign_addresses
        standing, places = self._earlier.standing(host.rules, numbers), self._earlier.places
        neighbourhood = Neighbourhood(stack, others, standing, numbers, self._told, places)
        self._told = neighbourhood.told
        planner = HostPlan(
            interfaces=host.interfaces,
            rules=host.rules,
            owners=host.owners,
            undecided=self._undecided(),
            knows_primary=isinstance(host.primary_mac, Value),
            without_table=self._without_table,
            now=now,
            neighbourhood=neighbourhood,
            enis=_hidden(host),
            closed=ClosedMain(host.closed_main, neighbourhood.hidden, _prefixes(host)),
            taken=self._contest.taken(),
            protection=protection,
            forwarding=self.forwarder.conclude(),
            clients=host.outside.clients,
            made=self._earlier.made,
        )
        plans = planner.plans(host.policy)
        for index, error in planner.errors.items():
            if host.strict:
                raise error
            host.caught(host.interfaces[index], PLANNING, error)
        self._take(plans | self._leadership.with_egress(plans))

    def _take(self, plans: Mapping[int, Plan]) -> None:
        """Give each interface its plan, and note whose things they are."""
        host = self.host
        for index, plan in plans.items():
            host.interfaces[index].take_plan(plan)
        self._earlier.made.keep_only(plans.keys())
        self._carriers = _carriers(host.interfaces)
        present = {index: interface.plan for index, interface in host.interfaces.items()}
        self._rule_owners = self._earlier.rule_owners(present)

    # --- conclusions to operations -----------------------------------------------------------

    def _count_losses(
        self, before: Mapping[int, Plan], operations: Sequence[Operation], now: float
    ) -> None:
        owners = {operation: self._owner(operation) for operation in operations}
        rules = frozenset(self.host.rules) if operations else frozenset()
        self.host.losses.count(before, operations, self.host.interfaces, owners, rules, now)

    def _confirm(self, operations: Sequence[Operation], now: float) -> None:
        """Tell each interface whether the kernel is as planned.

        What is fought over comes and goes, and with it the copies of rules that are to stand behind
        it. It is reported separately: the state leaves it out.
        """
        contested = {operation for operation in operations if self._is_contested(operation)}
        contested |= set(_copies(contested, operations, self.host.rules)) if contested else set()
        rest = [operation for operation in operations if operation not in contested]
        unequal = {(self._owner(operation), family_of(operation)) for operation in rest}
        self._each(lambda i: i.confirm(now, {f for o, f in unequal if o == i.link.index}))

    def _is_contested(self, operation: Operation) -> bool:
        owner, interfaces = self._owner(operation), self.host.interfaces
        return owner in interfaces and interfaces[owner].fights.over(thing(operation))

    def _throttle(
        self, operations: tuple[Operation, ...], now: float
    ) -> tuple[tuple[Operation, ...], tuple[Throttled, ...]]:
        """The operations to carry out now, and those to carry out later."""
        until: dict[Thing, float] = {}
        for interface in self.host.interfaces.values():
            until |= interface.fights.throttled(now)
        if not until:
            return operations, ()
        allowed = tuple(without(operations, until.keys()))
        at_once = frozenset(allowed)
        later = ((operation, thing(operation)) for operation in operations)
        throttled = (
            Throttled(operation, until.get(lost) if lost else None)
            for operation, lost in later
            if operation not in at_once
        )
        return allowed, tuple(throttled)

    def told_of(self, operation: Operation) -> int | None:
        """The interface that people think of: a guard's is that of the rule which it guards."""
        index = self._owner(operation)
        if index is None and isinstance(operation, RemoveRule):
            return next(iter(self.host.owners.of_guard(operation.rule)), None)
        return index

    def _owner(self, operation: Operation) -> int | None:
        """The ifindex of the interface that an operation is for; None: not known."""
        match operation:
            case SetGroup(index=i) if i not in self.host.interfaces:
                return self._carriers.get(i)
            case AddRoute(route=r) | RemoveRoute(route=r) if r.oif not in self.host.interfaces:
                return self._carriers.get(r.oif)
            case SetGroup(index=i) | SetUp(index=i) | AddAddress(index=i) | RemoveAddress(index=i):
                return i
            case AddRoute(route=route) | RemoveRoute(route=route):
                return route.oif
            case AddRule(rule=rule):
                return self._rule_owners.get(rule)
            case SetRuleset() | RemoveRuleset():
                return None
            case _:
                return next(iter(self.host.owners.of(operation.rule.table)), None)


def _copies(
    contested: Iterable[Operation], operations: Iterable[Operation], rules: Iterable[Rule]
) -> Iterator[Operation]:
    """What is but to stand behind something contested: copies of rules that are there."""
    chains = {selector(o.rule) for o in contested if isinstance(o, AddRule)}
    there = set(rules)
    about_rules = (o for o in operations if isinstance(o, AddRule | RemoveRule))
    present = (o for o in about_rules if o.rule in there)
    return (o for o in present if selector(o.rule) in chains)


def _hidden(host: Host) -> frozenset[int]:
    """The links that the guards hide."""
    every = host.interfaces.items()
    return frozenset(i for i, each in every if isinstance(each.treatment, Managed | Primary))


def _contest(host: Host, earlier: Earlier) -> Contest:
    """The contest of one decision, among the ENIs as they are treated now."""
    links = host.links or {}
    below = {index for each in host.above.beneath.values() for index in each}
    nics = {index for index in below & links.keys() if is_nic(links[index])}  # whoever serves them
    on_nics = host.above.on_top_of(host.enis | nics)
    return Contest(
        interfaces=host.interfaces,
        foreign=host.foreign_addresses,
        beneath=host.above.beneath,
        ruled=earlier.ruled(host.rules, host.owners),
        links=links,
        networks=networks_beyond_nics(links, on_nics, host.foreign_addresses),
        settled=earlier.settled,
    )


def _find_homes(host: Host, networks: Mapping[int, Mapping[Item, int]]) -> None:
    """Tell each ENI which of its addresses live elsewhere on the host."""
    above = addresses_above(host.above.beneath, host.foreign_addresses)
    housed = addresses_housed(networks)
    every = (address for on in host.foreign_addresses.values() for address in on)
    unready = {address.ip for address in every if address.tentative}
    homes = Homes(host.host_routes, host.rules, host.enis, host.name_of, above, housed, unready)
    for interface in host.interfaces.values():
        interface.facts.behind = homes.of(interface.facts)


def _without_table(host: Host) -> frozenset[int]:
    """The interfaces whose table still has routes of another one, by former numbers."""
    tables = {host.policy.numbers.table_of(index): index for index in host.interfaces}
    taken = (r for r in host.routes if r.oif != tables.get(r.table, r.oif))
    return frozenset(tables[route.table] for route in taken)


def _left_alone(interfaces: Mapping[int, Interface]) -> Undecided:
    """The interfaces that are left alone unless they are the primary, with both families."""
    left = (i for i, each in interfaces.items() if isinstance(each.treatment, Unmanaged))
    return frozenset((index, family) for index in left for family in Family)


def _prefixes(host: Host) -> frozenset[IPNetwork]:
    """The delegated prefixes of all ENIs."""
    verdicts = (v for i in host.interfaces.values() for v in i.verdicts.values())
    return frozenset(prefix for verdict in verdicts for prefix in verdict.usable.prefixes)


def _carriers(interfaces: Mapping[int, Interface]) -> dict[int, int]:
    """For links that are no ENIs: in whose plan their group is, or a default route by them."""
    found: dict[int, int] = {}
    for index, interface in interfaces.items():
        above = [each.index for each in interface.plan.standing]
        above += [route.oif for route in interface.plan.routes if route.table == MAIN_TABLE]
        found |= {each: index for each in above if each not in interfaces}
    return found


def _in_order(interfaces: Iterable[Interface]) -> Iterator[Plan]:
    """The plans; a primary that is protected comes first, so that at no moment it is cut off."""
    return (i.plan for i in sorted(interfaces, key=lambda i: not i.is_protected))


def _snapshot(host: Host) -> Snapshot:
    """The part of what the kernel has that decisions depend on."""
    return Snapshot(
        links={**host.above.layers, **{index: i.link for index, i in host.interfaces.items()}},
        addresses={index: i.facts.addresses for index, i in host.interfaces.items()},
        routes=host.routes,
        rules=host.rules,
    )


def _share_out(host: Host) -> None:
    """Share what the host may ask of IMDS among the interfaces that are polled now."""
    polled = [interface for interface in host.interfaces.values() if interface.is_polled]
    for number, interface in enumerate(polled):
        if (interface.share.number, interface.share.of) != (number, len(polled)):
            interface.share = Share(number, len(polled))
