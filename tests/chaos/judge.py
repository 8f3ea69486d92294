"""Is everything right? What is in the kernel against what is true, without asking the daemon's
planner: what ought to be there is written down in `tests.promised`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nicwatchd.core.model import LINK_GROUP, PROTOCOL, Address, Link, Route, Rule, ours
from nicwatchd.core.port import Kernel
from tests.chaos.actions import ForeignAddress, ForeignRoute
from tests.chaos.truth import PRIMARY, Truth
from tests.chaos.watched_kernel import unguarded
from tests.promised import Expected, expected


@dataclass(frozen=True, slots=True)
class Seen:
    """What is there at a quiet point. `addresses` are marked as ours where the daemon knows so.

    `routes` are all of ours and the main table's through ENIs; `states` are by MAC.
    """

    links: Mapping[str, Link]
    addresses: Mapping[int, tuple[Address, ...]]
    routes: frozenset[Route]
    rules: tuple[Rule, ...]
    states: Mapping[str, str]


async def see(kernel: Kernel, macs: Iterable[str], states: Mapping[str, str]) -> Seen:
    """Read a kernel; `macs` are those of ENIs."""
    wanted = set(macs)
    links = {link.mac: link for link in (await kernel.links()).values() if link.mac in wanted}
    routes = set(await kernel.own_routes())
    addresses = {}
    for link in links.values():
        addresses[link.index] = await kernel.addresses(link.index)
        routes |= set(await kernel.link_routes(link.index))
    return Seen(links, addresses, frozenset(routes), await kernel.rules(), states)


def differences(truth: Truth, seen: Seen) -> list[str]:
    """All that is not as it must be at a quiet point, a line each."""
    wrong = _links(truth, seen)
    if wrong:
        return wrong
    promised = {mac: _promised(truth, mac, seen) for mac in truth.secondaries}
    return [
        *_ours(promised, seen),
        *_addresses(promised, truth, seen),
        *_foreign(truth, seen),
        *_states(truth, seen),
    ]


def _links(truth: Truth, seen: Seen) -> list[str]:
    wrong = [f"link {mac}: there, or not there" for mac in truth.ports.keys() ^ seen.links.keys()]
    for mac in truth.ports.keys() & seen.links.keys():
        port, link = truth.ports[mac], seen.links[mac]
        if (link.name, link.up, link.group) != (port.name, port.up, LINK_GROUP):
            wrong.append(f"{link} is to be {port} in group {LINK_GROUP}")
    return wrong


def _promised(truth: Truth, mac: str, seen: Seen) -> Expected:
    link, port = seen.links[mac], truth.ports[mac]
    copied = [f.on(link.index) for f in truth.foreign_on(mac) if isinstance(f, ForeignRoute)]
    theirs = [f.address.ip for f in truth.foreign_on(mac) if isinstance(f, ForeignAddress)]
    shared = truth.shared(mac)
    eni = truth.usable(mac)
    return expected(eni, link.index, shared, copied, foreign=theirs, up=port.up)


def _ours(promised: Mapping[str, Expected], seen: Seen) -> list[str]:
    own = [rule for rule in seen.rules if rule.protocol == PROTOCOL]
    rules = frozenset(own)
    routes = frozenset(route for route in seen.routes if route.protocol == PROTOCOL)
    wanted_rules = frozenset(rule for e in promised.values() for rule in e.rules)
    wanted_routes = frozenset(route for e in promised.values() for route in e.sourced)
    return [
        *_compare("rule", wanted_rules, rules),
        *_compare("route", wanted_routes, routes),
        *(f"twice: {rule}" for rule, copies in Counter(own).items() if copies > 1),
        *(f"before its guard: {rule}" for rule in unguarded(own)),
    ]


def _compare(what: str, wanted: frozenset[object], there: frozenset[object]) -> list[str]:
    missing = [f"missing {what}: {thing}" for thing in sorted(wanted - there, key=str)]
    return missing + [f"left {what}: {thing}" for thing in sorted(there - wanted, key=str)]


def _addresses(promised: Mapping[str, Expected], truth: Truth, seen: Seen) -> list[str]:
    wrong = []
    for mac, link in seen.links.items():
        there = seen.addresses[link.index]
        wanted = promised[mac].addresses if mac in promised else frozenset()
        leased = {lease.address.ip for lease in truth.leases if lease.mac == mac}
        mine = frozenset(address.ip for address in there if ours(address))
        wrong += [f"{mac}: {line}" for line in _compare("address", wanted - leased, mine)]
    return wrong


def _foreign(truth: Truth, seen: Seen) -> list[str]:
    """What others put is there, as they put it."""
    wrong = [f"foreign, gone: {rule}" for rule in truth.foreign_rules() if rule not in seen.rules]
    for mac, link in seen.links.items():
        there = {(a.ip, a.prefixlen, a.dynamic) for a in seen.addresses[link.index] if not ours(a)}
        for thing in (*truth.foreign_on(mac), *(le for le in truth.leases if le.mac == mac)):
            match thing:
                case ForeignRoute():
                    stands = thing.on(link.index) in seen.routes
                case _:
                    dynamic = not isinstance(thing, ForeignAddress)
                    ip, length = thing.address.ip, thing.address.network.prefixlen
                    stands = (ip, length, dynamic) in there
            if not stands:
                wrong.append(f"foreign, gone: {thing}")
    return wrong


def _states(truth: Truth, seen: Seen) -> list[str]:
    """Applied, or the lasting state."""
    wrong = []
    for mac in truth.ports:
        eni = truth.usable(mac)
        left_alone = mac == PRIMARY or not (*eni.addresses(), *eni.prefixes)
        wanted, state = "ignored" if left_alone else "applied", seen.states.get(mac)
        if state != wanted:
            wrong.append(f"{mac} is {state}, not {wanted}")
    return wrong
