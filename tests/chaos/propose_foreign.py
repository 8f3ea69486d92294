"""What others may put on the host next, and take away, given what is true."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_network
from random import Random
from typing import Final, TypeVar

from nicwatchd.core.model import Family, IPAddress, Rule
from tests.chaos.actions import (
    Action,
    ContainerRoute,
    Foreign,
    ForeignAddress,
    ForeignDefault,
    ForeignRoute,
    ForeignRule,
    PutForeign,
    RouteForm,
    TakeForeign,
)
from tests.chaos.truth import PRIMARY, Truth, is_ipv6_on

T = TypeVar("T")

FOREIGN_AT_MOST: Final = 12
CONTAINERS_AT_MOST: Final = 3


def one(random: Random, things: Iterable[T]) -> T | None:
    """One of them, whichever order they came in; None where there is none."""
    chosen = sorted(things, key=str)
    return random.choice(chosen) if chosen else None


def up(truth: Truth) -> list[str]:
    """Secondaries whose link was set up for sure, and is up."""
    ports = truth.ports
    return [mac for mac in truth.secondaries if ports[mac].settled and ports[mac].up]


def put_foreign(truth: Truth, random: Random) -> Action | None:
    """IPv4 routes only where an operator's IPv4 address is.

    The kernel drops a link's IPv4 routes with its last IPv4 address, and that may be ours.
    """
    if len(truth.foreign) >= FOREIGN_AT_MOST:
        return None
    mac = random.choice([PRIMARY, *up(truth)])
    number = int(mac.rpartition(":")[2], 16)
    free: list[Foreign] = [
        ForeignAddress(mac, IPv4Interface(f"198.18.{number}.1/24")),
        ForeignAddress(mac, IPv6Interface(f"fd00:98:{number}::1/64")),
        ForeignRoute(mac, ip_network(f"fd00:99:{number}::/48")),
        *_daemons_routes(mac, f"fd00:97:{number}:{{}}::/64"),
    ]
    if free[0] in truth.foreign:
        free.append(ForeignRoute(mac, ip_network(f"198.19.{number}.0/24")))
        free += _daemons_routes(mac, f"198.20.{number}.{{}}/28")
    free += _unnamed_rules(100 + number)
    for priority in (100, 5210, 20000, 32000, 32650):
        source = ip_network(random.choice(["198.51.100.0/24", "2001:db8:5100::/48"]))
        rule = Rule(Family(source.version), priority, 100 + number, 4, src=source)
        free.append(ForeignRule(rule))
    if not truth.ports[mac].ipv6:
        free = [thing for thing in free if not is_ipv6_on(thing, mac)]
    thing = one(random, set(free) - truth.foreign)
    return None if thing is None else PutForeign(thing)


def _daemons_routes(mac: str, pattern: str) -> list[Foreign]:
    """Routes of a routing daemon, one of each form."""
    forms: tuple[RouteForm, ...] = ("bird", "metrics", "hops")
    return [ForeignRoute(mac, ip_network(pattern.format(16 * n)), f) for n, f in enumerate(forms)]


def _unnamed_rules(table: int) -> list[Foreign]:
    """Rules without a priority, whose tables are empty: what they select goes on to ours."""
    found: list[Foreign] = []
    for family, net in ((Family.V4, "198.51.100.0/24"), (Family.V6, "2001:db8:5100::/48")):
        plain = Rule(family, 0, table, 4)
        marked = replace(plain, fwmark=0x77, fwmask=0xFFFFFFFF)
        inside = replace(plain, src=ip_network(net))
        for rule, selector in (
            (marked, "fwmark 0x77"),
            (replace(marked, inverted=True), "not fwmark 0x77"),
            (inside, f"from {net}"),
            (replace(inside, inverted=True), f"not from {net}"),
            (replace(plain, exotic=True), "uidrange 4242-4242"),
        ):
            found.append(ForeignRule(rule, selector))
    return found


def take_foreign(truth: Truth, random: Random) -> Action | None:
    routes = [f for f in truth.foreign if isinstance(f, ForeignRoute | ForeignDefault)]
    needed = {f.mac for f in routes if f.on(0).family is Family.V4}
    loose = [
        thing
        for thing in truth.foreign
        if not isinstance(thing, ForeignAddress)
        or not isinstance(thing.address.ip, IPv4Address)
        or thing.mac not in needed
    ]
    thing = one(random, loose)
    return None if thing is None else TakeForeign(thing)


def _own_addresses(truth: Truth, mac: str) -> list[IPAddress]:
    """The addresses of an ENI that a container or a cluster manager may get next."""
    leased = {lease.address.ip for lease in truth.leases}
    used = leased | truth.contained | truth.floats(mac)
    given = (item for item in truth.given(mac) if item not in used)
    return [item for item in given if isinstance(item, IPv4Address | IPv6Address)]


def container_comes(truth: Truth, random: Random) -> Action | None:
    mac = one(random, truth.secondaries)
    ip = None if mac is None else one(random, _own_addresses(truth, mac))
    too_many = len(truth.contained) >= CONTAINERS_AT_MOST
    return None if ip is None or too_many else PutForeign(ContainerRoute(ip))


def manager_comes(truth: Truth, random: Random) -> Action | None:
    """It puts a floating address on the link, which EC2 has assigned."""
    mac = one(random, up(truth))
    ip = None if mac is None else one(random, _own_addresses(truth, mac))
    if mac is None or ip is None or truth.floats(mac):
        return None
    if ip.version == 6 and not truth.ports[mac].ipv6:
        return None
    bits = ip.max_prefixlen
    v4 = isinstance(ip, IPv4Address)
    address = IPv4Interface((ip, bits)) if v4 else IPv6Interface((ip, bits))
    return PutForeign(ForeignAddress(mac, address))


def manager_goes(truth: Truth, random: Random) -> Action | None:
    floats = [
        thing
        for thing in truth.foreign
        if isinstance(thing, ForeignAddress) and thing.address.ip in truth.floats(thing.mac)
    ]
    thing = one(random, floats)
    return None if thing is None else TakeForeign(thing)
