"""Is the daemon's verdict on each family of each ENI true?

A host anywhere gets an answer from an address if the address is on its ENI's link and what it sends
there leaves by that link: by no other does EC2 let it pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final, TypeAlias

from nicwatchd.core.model import Address, Family, IPAddress, Link
from nicwatchd.core.port import Kernel, RouteAnswer
from tests.chaos.truth import PRIMARY, Truth, cidrs, items_of

FAR: Final[Mapping[Family, IPAddress]] = {
    Family.V4: ip_address("203.0.113.60"),
    Family.V6: ip_address("3fff:113::60"),
}
NEIGHBOUR: Final = 200  # the place in its subnet of a host that nobody of the walk's is
WORKING: Final = "working"

# By the MAC of an ENI and an address of its: the hosts that get no answer from it.
Unanswered: TypeAlias = Mapping[tuple[str, IPAddress], frozenset[IPAddress]]


@dataclass(frozen=True, slots=True)
class Said:
    """What the daemon says of one family of an ENI."""

    health: str
    answering: frozenset[IPAddress]
    silent: frozenset[IPAddress]
    causes: tuple[str, ...] = ()


Verdicts: TypeAlias = Mapping[tuple[str, Family], Said]


def verdicts(interfaces: Iterable[Mapping[str, Any]]) -> Verdicts:
    """From the interfaces as the control socket shows them."""
    found = {}
    for interface in interfaces:
        for family in Family:
            status = interface[f"ipv{family.value}"]
            if status is not None and status["health"] is not None:
                found[interface["mac"], family] = Said(
                    status["health"],
                    frozenset(map(ip_address, status["answering"])),
                    frozenset(map(ip_address, status["silent"])),
                    tuple(cause["text"] for cause in status["causes"]),
                )
    return found


def callers(truth: Truth) -> dict[Family, tuple[IPAddress, ...]]:
    """Who calls: a host far away, and one in the subnet of each ENI that is attached."""
    found = {family: [FAR[family]] for family in Family}
    for cidr in dict.fromkeys(c for mac in truth.ports for c in cidrs(truth.enis[mac].subnet)):
        found[Family(cidr.version)].append(cidr[NEIGHBOUR])
    return {family: tuple(hosts) for family, hosts in found.items()}


async def unanswered(
    kernel: Kernel,
    truth: Truth,
    links: Mapping[str, Link],
    addresses: Mapping[int, tuple[Address, ...]],
) -> Unanswered:
    """Ask a kernel about all paths to all addresses of all ENIs."""
    found = {}
    hosts = callers(truth)
    for mac, link in links.items():
        usable = {a.ip for a in addresses[link.index] if not a.tentative}
        for ip in truth.usable(mac).addresses() if mac in truth.ports else ():
            calling = hosts[Family(ip.version)]
            silent = frozenset(calling)
            if link.up and link.running and ip in usable:
                answers = {host: await kernel.route_get(ip, host) for host in calling}
                silent = frozenset(h for h, at in answers.items() if not leaves_by(link.index, at))
            found[mac, ip] = silent
    return found


def leaves_by(index: int, answer: RouteAnswer | int) -> bool:
    """Whether a packet leaves by the link with this index."""
    return isinstance(answer, RouteAnswer) and answer.oif == index


def own(
    truth: Truth, mac: str, on_link: AbstractSet[IPAddress], *, is_protected: bool
) -> frozenset[IPAddress]:
    """The addresses of an ENI that are to answer on this host.

    Of those that the primary has but its manager did not put on the link, pods may have some. And
    while there is no other ENI, that is no wrong but a note, unless none of the family is there.
    """
    its = frozenset(truth.usable(mac).addresses()) - truth.contained
    if mac != PRIMARY or (is_protected and not truth.has_cni):
        return its
    there = its & on_link
    served = set() if truth.has_cni else {*Family} - {ip.version for ip in there}
    return there | {ip for ip in its if ip.version in served}


def wrong_verdicts(
    truth: Truth,
    said: Verdicts,
    silent: Unanswered,
    on_links: Mapping[str, AbstractSet[IPAddress]],
    *,
    is_protected: bool,
) -> Iterator[str]:
    """At a quiet point: each family works exactly where all paths answer.

    `is_protected`: whether the primary is; what counts of it otherwise, `own` says.
    """
    judged = [mac for mac in (PRIMARY, *truth.secondaries) if not truth.is_left(mac)]
    expected = {
        (mac, Family(item.version)) for mac in judged for item in items_of(truth.usable(mac))
    }
    told = {(mac, family) for mac, family in said if mac not in truth.dead}
    yield from (f"no verdict on {which}" for which in sorted(expected - told))
    yield from (f"a verdict on {which}, which it lacks" for which in sorted(told - expected))
    for mac, family in sorted(expected & told):
        every = own(truth, mac, on_links[mac], is_protected=is_protected)
        its = frozenset(ip for ip in every if ip.version == family)
        dead = frozenset(ip for ip in its if FAR[family] in silent[mac, ip])
        works = truth.ports[mac].up and not any(silent[mac, ip] for ip in its)
        verdict = said[mac, family]
        if (verdict.health == WORKING) is not works:
            paths = {ip: silent[mac, ip] for ip in its if silent[mac, ip]}
            yield f"{mac} is called {verdict}, and gets no answer: {paths}"
        if (verdict.answering, verdict.silent) != (its - dead, dead):
            yield f"{mac}: {verdict}, but of {its} these do not answer: {dead}"
