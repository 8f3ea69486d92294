"""Is everything right? What is in the kernel against what is true, without asking the daemon's
planner: what ought to be there is written down in `tests.promised`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any

from nicwatchd.core.model import (
    LINK_GROUP,
    MAIN_TABLE,
    PROTOCOL,
    Address,
    Family,
    IPAddress,
    Link,
    Numbers,
    Route,
    Rule,
    contains,
    ours,
)
from nicwatchd.core.policy import RuleMode, Section
from nicwatchd.core.port import Kernel
from nicwatchd.sim.parts import Eni
from tests.chaos.actions import ForeignAddress, ForeignDefault, ForeignRoute
from tests.chaos.marks import wrong_marks
from tests.chaos.truth import PRIMARY, Truth, cidrs, items_of
from tests.chaos.verdicts import Unanswered, Verdicts, unanswered, verdicts, wrong_verdicts
from tests.chaos.watched_kernel import selector, unguarded
from tests.promised import Expected, expected, of_primary


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there at a quiet point. `addresses` are marked as ours where the daemon knows so.

    `routes` are all of ours and the main table's through ENIs; `states` are by MAC. `unanswered`
    are the paths on which the kernel says that no answer comes.
    """

    links: Mapping[str, Link]
    addresses: Mapping[int, tuple[Address, ...]]
    routes: frozenset[Route]
    rules: tuple[Rule, ...]
    states: Mapping[str, str]
    verdicts: Verdicts = field(default_factory=dict)
    unanswered: Unanswered = field(default_factory=dict)
    ruleset: str | None = None  # our nftables table, where the settings ask for one; else None


async def see(kernel: Kernel, truth: Truth, interfaces: Iterable[Mapping[str, Any]]) -> Seen:
    """Read a kernel; `interfaces` are as the daemon shows them."""
    shown, wanted = list(interfaces), truth.enis.keys()
    states = {interface["mac"]: interface["state"] for interface in shown}
    links = {link.mac: link for link in (await kernel.links()).values() if link.mac in wanted}
    routes = set(await kernel.own_routes())
    addresses = {}
    for link in links.values():
        addresses[link.index] = await kernel.addresses(link.index)
        routes |= {each for r in await kernel.link_routes(link.index) for each in single(r)}
    rules, silent = await kernel.rules(), await unanswered(kernel, truth, links, addresses)
    return Seen(links, addresses, frozenset(routes), rules, states, verdicts(shown), silent)


def single(route: Route) -> Iterator[Route]:
    """A default route for each way: the kernel may have made one of two, which tie."""
    if not route.hops or route.dst.prefixlen:
        yield route
        return
    for hop in route.hops:
        yield replace(route, oif=hop.oif, gateway=hop.gateway, onlink=hop.onlink, hops=())


def differences(truth: Truth, seen: Seen) -> list[str]:
    """All that is not as it must be at a quiet point, a line each."""
    wrong = _links(truth, seen)
    if wrong:
        return wrong
    served = [mac for mac in truth.secondaries if not truth.is_left(mac)]
    promised = {mac: _promised(truth, mac, seen) for mac in served}
    if _is_protected(truth, seen):
        promised[PRIMARY] = _promised_to_primary(truth, seen)
    return [
        *_ours(promised, _egress(truth, seen), truth, seen),
        *_addresses(promised, truth, seen),
        *_foreign(truth, seen),
        *_states(truth, seen),
        *_verdicts(truth, seen),
    ]


def _links(truth: Truth, seen: Seen) -> list[str]:
    wrong = [f"link {mac}: there, or not there" for mac in truth.ports.keys() ^ seen.links.keys()]
    for mac in truth.ports.keys() & seen.links.keys():
        port, link = truth.ports[mac], seen.links[mac]
        group = 0 if truth.is_left(mac) else LINK_GROUP
        if (link.name, link.up, link.group) != (port.name, port.up, group):
            wrong.append(f"{link} is to be {port} in group {group}")
    return wrong


def _promised(truth: Truth, mac: str, seen: Seen) -> Expected:
    link, port = seen.links[mac], truth.ports[mac]
    # A default route that was learned is not the ENI's own, whose router is known.
    copied = [
        f.on(link.index)
        for f in truth.foreign_on(mac)
        if isinstance(f, ForeignRoute) or (isinstance(f, ForeignDefault) and f.chosen)
    ]
    theirs = [f.address.ip for f in truth.foreign_on(mac) if isinstance(f, ForeignAddress)]
    shared, away = truth.shared(mac), truth.contained
    eni = truth.usable(mac)
    if truth.sections.get(mac, Section()).rules is RuleMode.ADDRESS:
        shared = cidrs(eni.subnet)  # as if it had no subnet to itself
    return expected(eni, link.index, shared, copied, foreign=theirs, up=port.up, away=away)


def _is_protected(truth: Truth, seen: Seen) -> bool:
    """Whether the primary is: while there is an ENI beside it that has something of its own.

    Of what is left of one that died, only the daemon knows.
    """
    return bool(truth.beside) or any(seen.states.get(mac) != "ignored" for mac in truth.dead)


def _promised_to_primary(truth: Truth, seen: Seen) -> Expected:
    index = seen.links[PRIMARY].index
    main = [r for r in seen.routes if r.table == MAIN_TABLE and index in r.links]
    theirs = [f.address.ip for f in truth.foreign_on(PRIMARY) if isinstance(f, ForeignAddress)]
    others = (route for route in main if route.protocol != PROTOCOL)
    eni = truth.usable(PRIMARY)
    if truth.has_cni:  # what its manager did not put on the link is pods'
        eni = replace(eni, ipv4=eni.ipv4[:1], ipv6=eni.ipv6[:1])
        eni = replace(eni, ipv4_prefixes=(), ipv6_prefixes=())
    for family in _unprotected(truth, seen):
        nothing: dict[str, Any] = {f"ipv{family.value}": (), f"ipv{family.value}_prefixes": ()}
        eni = replace(eni, **nothing)
        theirs = [ip for ip in theirs if ip.version != family]
    return of_primary(eni, index, truth.shared(PRIMARY), [*others], theirs)


def _unprotected(truth: Truth, seen: Seen) -> set[Family]:
    """The families in which nothing of the primary is protected, and need not be.

    While an operator has the default route elsewhere, that is not begun; what was begun goes on.
    """
    table = Numbers().table_of(seen.links[PRIMARY].index)
    own = {rule.family for rule in seen.rules if (rule.table, rule.protocol) == (table, PROTOCOL)}
    return {*truth.chosen} - own


def _egress(truth: Truth, seen: Seen) -> frozenset[Route]:
    """Our default routes in main: the primary's, better than another ENI's that ties or wins.

    Not where an operator wants the other one. Main is asked which there are: of two that the kernel
    made one, it keeps what leads by a link that is down, and uses it once that is up.
    """
    if not _is_protected(truth, seen):
        return frozenset()
    found = set()
    index = seen.links[PRIMARY].index
    for family in set(Family) - truth.chosen:
        main = [r for r in seen.routes if (r.table, r.family) == (MAIN_TABLE, family)]
        theirs = [r for r in main if not r.dst.prefixlen and r.protocol != PROTOCOL]
        best = min((r for r in theirs if r.oif == index), key=lambda route: route.metric)
        others = min((r.metric for r in theirs if r.oif != index), default=None)
        if others is not None and others <= best.metric:
            found.add(replace(best, metric=others - 1, protocol=PROTOCOL))
    return frozenset(found)


def _ours(
    promised: Mapping[str, Expected], egress: frozenset[Route], truth: Truth, seen: Seen
) -> list[str]:
    # To the subnets of ENIs that are left there may be detours: whether, depends on what IMDS told
    # of them when it was last asked, which may be a CIDR that the subnet has lost since.
    left_alone = {mac for mac in truth.enis if truth.is_left(mac)}
    served = {c for mac in truth.enis.keys() - left_alone for c in cidrs(truth.enis[mac].subnet)}
    own = [rule for rule in seen.rules if rule.protocol == PROTOCOL]
    if left_alone:
        own = [rule for rule in own if rule.dst is None or rule.dst in served]
    marks = [f"not asked for: {rule}" for rule in own if rule.fwmark is not None]
    if seen.ruleset is not None:
        wanted = {seen.links[mac].index: e.rules for mac, e in promised.items()}
        gone = frozenset(seen.links[mac].index for mac in truth.dead)
        marks = wrong_marks(wanted, seen.links[PRIMARY].index, gone, seen.rules, seen.ruleset)
    own = [rule for rule in own if rule.fwmark is None]
    left = _of_dead(promised, truth, seen, own)
    rules = frozenset(own) - left
    dead = {seen.links[mac].index for mac in truth.dead}
    ours_there = (route for route in seen.routes if route.protocol == PROTOCOL)
    routes = frozenset(route for route in ours_there if not route.links & dead)
    wanted_rules = frozenset(rule for e in promised.values() for rule in e.rules)
    wanted_routes = egress.union(*(e.sourced for e in promised.values()))
    return [
        *_compare("rule", wanted_rules, rules),
        *_compare("route", wanted_routes, routes),
        *marks,
        *(f"twice: {rule}" for rule, copies in Counter(own).items() if copies > 1),
        *(f"before its guard: {rule}" for rule in unguarded(own)),
        *(f"kept by a dead NIC: {rule}" for rule in left if _takes(rule, promised, truth)),
    ]


def _of_dead(
    promised: Iterable[str], truth: Truth, seen: Seen, own: Iterable[Rule]
) -> frozenset[Rule]:
    """Our rules for what is left of ENIs. What they still have matters to nobody."""
    rules, numbers = list(own), Numbers()
    tables = {numbers.table_of(seen.links[mac].index) for mac in truth.dead}
    theirs = {selector(rule) for rule in rules if rule.table in tables}
    alive = {numbers.table_of(seen.links[mac].index) for mac in promised}
    theirs -= {selector(rule) for rule in rules if rule.table in alive}
    return frozenset(rule for rule in rules if rule.table in tables or selector(rule) in theirs)


def _takes(rule: Rule, promised: Iterable[str], truth: Truth) -> bool:
    """Whether a rule selects what an ENI has."""
    items = [item for mac in promised for item in truth.items(mac)]
    return any(rule.src and contains(rule.src, ip_network(item)) for item in items)


def _compare(what: str, wanted: frozenset[object], there: frozenset[object]) -> list[str]:
    missing = [f"missing {what}: {thing}" for thing in sorted(wanted - there, key=str)]
    return missing + [f"left {what}: {thing}" for thing in sorted(there - wanted, key=str)]


def _addresses(promised: Mapping[str, Expected], truth: Truth, seen: Seen) -> list[str]:
    wrong = []
    for mac, link in seen.links.items():
        there = seen.addresses[link.index]
        wanted = promised[mac].addresses if mac in promised else frozenset()
        held = wanted & _that_holds_its_place(truth.usable(mac), there)
        others = {lease.address.ip for lease in truth.leases if lease.mac == mac}
        others |= {f.address.ip for f in truth.foreign_on(mac) if isinstance(f, ForeignAddress)}
        mine = frozenset(address.ip for address in there if ours(address))
        if truth.ports[mac].dead:
            kept = mine & {item for other in truth.secondaries for item in truth.items(other)}
            wrong += [f"kept by a dead NIC: {ip}" for ip in kept]
            continue
        wrong += [f"{mac}: {line}" for line in _compare("address", wanted - others | held, mine)]
    return wrong


def _that_holds_its_place(eni: Eni, there: Sequence[Address]) -> frozenset[IPAddress]:
    """Ours of the first IPv4 address stays beside a lease while another one would be the first."""
    its = [address for address in there if address.family is Family.V4]
    if len(its) < 2 or not ours(its[0]) or its[0].ip == its[1].ip:
        return frozenset()
    return frozenset({its[0].ip}.intersection(eni.ipv4[:1]))


def _foreign(truth: Truth, seen: Seen) -> list[str]:
    """What others put is there, as they put it."""
    named = [rule for rule in truth.foreign_rules() if rule.priority]
    wrong = [f"foreign, gone: {rule}" for rule in named if rule not in seen.rules]
    wrong += _unnamed(truth, seen)
    for mac, link in seen.links.items():
        there = {(a.ip, a.prefixlen, a.dynamic) for a in seen.addresses[link.index] if not ours(a)}
        for thing in (*truth.foreign_on(mac), *(le for le in truth.leases if le.mac == mac)):
            match thing:
                case ForeignRoute() | ForeignDefault():
                    stands = thing.on(link.index) in seen.routes
                case _:
                    dynamic = not isinstance(thing, ForeignAddress)
                    ip, length = thing.address.ip, thing.address.network.prefixlen
                    stands = (ip, length, dynamic) in there
            if not stands:
                wrong.append(f"foreign, gone: {thing}")
    return wrong


def _unnamed(truth: Truth, seen: Seen) -> list[str]:
    """Rules without a priority come before all of ours, whoever was first."""
    wrong = []
    for wanted in truth.foreign_rules():
        if wanted.priority:
            continue
        its = [rule for rule in seen.rules if rule.family is wanted.family]
        places = [n for n, rule in enumerate(its) if replace(rule, priority=0) == wanted]
        before = [n for n, rule in enumerate(its) if rule.protocol == PROTOCOL]
        if not places:
            wrong.append(f"foreign, gone: {wanted}")
        elif before and min(before) < places[0]:
            wrong.append(f"loses to ours: {its[places[0]]}")
    return wrong


def _states(truth: Truth, seen: Seen) -> list[str]:
    """Applied, or the lasting state."""
    wrong = []
    for mac in truth.ports.keys() - {*truth.dead}:
        eni = truth.usable(mac)
        left_alone = mac == PRIMARY or truth.is_left(mac) or not items_of(eni)
        wanted, state = "ignored" if left_alone else "applied", seen.states.get(mac)
        if state != wanted:
            wrong.append(f"{mac} is {state}, not {wanted}")
    return wrong


def _verdicts(truth: Truth, seen: Seen) -> Iterator[str]:
    links = seen.links.items()
    on_links = {mac: {a.ip for a in seen.addresses[link.index]} for mac, link in links}
    protected = _is_protected(truth, seen)
    return wrong_verdicts(truth, seen.verdicts, seen.unanswered, on_links, is_protected=protected)
