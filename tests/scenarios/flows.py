"""`make flows`: who reaches whom once a network manager has configured a new ENI.

Prints a table for each network manager: with nicwatchd as it leaves the primary and the host's own
traffic alone, and as it is. Exits 1 if in the second somebody is not reached, or if the host's own
traffic does not leave by the primary.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from nicwatchd.core.model import Family, IPAddress
from nicwatchd.sim import containers, dhcp, netns
from nicwatchd.sim.dhcp import Manager
from nicwatchd.sim.ec2 import SETTINGS
from nicwatchd.sim.parts import Peer
from nicwatchd.sim.probe import Acceptor, all_answer, matrix, paths
from tests.scenarios.host import PRIMARY, HostUnderTest, complete, ec2_host, numbered, settings

ETH1: Final = numbered(
    1,
    ipv4=("10.0.2.11", "10.0.2.12"),
    ipv6=("2001:db8:ec2:2::11", "2001:db8:ec2:2::12"),
    ipv4_prefixes=("10.0.2.64/28",),
    ipv6_prefixes=("2001:db8:ec2:2:1::/80",),
)
MANAGERS: Final[Mapping[str, Manager | None]] = {
    "good": dhcp.GOOD,
    "ties": dhcp.TIES,
    "beats": dhcp.BEATS,
    "replaces": dhcp.REPLACES,
    "none": None,  # the kernel takes the router advertisements of a link that nicwatchd set up
}
LEAVES: Final = 'primary = "leave"\negress = "leave"\n'
PUBLISHED: Final = 8080
# As Docker publishes a port of a container on all addresses of the host.
DOCKER: Final = """
table inet docker {
    chain pre {
        type nat hook prerouting priority dstnat
        fib daddr type local meta nfproto ipv4 tcp dport 8080 dnat ip to 172.18.0.2:7777
        fib daddr type local meta nfproto ipv6 tcp dport 8080 dnat ip6 to [fd00:18::2]:7777
    }
    chain post {
        type nat hook postrouting priority srcnat
        ip saddr 172.18.0.0/24 oifname != "br0" masquerade
        ip6 saddr fd00:18::/64 oifname != "br0" masquerade
    }
}
"""
FAR: Final = {Family.V4: "198.51.100.50", Family.V6: "2001:db8:5100::50"}
WITHIN: Final = 15.0  # s until everybody should be reached


@dataclass(frozen=True)
class Flows:
    """Who reached whom, in words: by the one who calls and the one who is called."""

    title: str
    reached: Mapping[tuple[str, str], tuple[int, int]]  # how many of how many calls
    unbound: Mapping[Family, str]  # the link that the host's own traffic leaves by

    @property
    def all_reached(self) -> bool:
        """Whether all calls were answered, and the host's own traffic leaves by the primary."""
        calls = all(answered == tried for answered, tried in self.reached.values())
        return calls and set(self.unbound.values()) == {PRIMARY.name}

    def __str__(self) -> str:
        callers = list(dict.fromkeys(caller for caller, _ in self.reached))
        called = list(dict.fromkeys(to for _, to in self.reached))
        width = max(map(len, callers))
        lines = [self.title, " " * width + "".join(f"  {to}" for to in called)]
        for caller in callers:
            cells = (f"  {self._cell(caller, to):>{len(to)}}" for to in called)
            lines.append(f"{caller:<{width}}" + "".join(cells))
        said = ", ".join(f"{family.label} by {link}" for family, link in self.unbound.items())
        return "\n".join([*lines, f"the host's own traffic: {said}"])

    def _cell(self, caller: str, to: str) -> str:
        answered, tried = self.reached.get((caller, to), (0, 0))
        if not tried:
            return "-"
        return "yes" if answered == tried else "no" if not answered else f"{answered} of {tried}"


async def configured(host: HostUnderTest, manager: Manager | None, *, relearned: bool) -> None:
    """A network manager gives eth1 its leases, renews them, and learns the primary's way anew."""
    await host.plug("eth1")
    await host.until("eth1", complete)
    if manager is None:
        await host.advertise("eth1")
    for _ in range(2 if manager else 0):
        for family in Family:
            await host.vpc.lease(host.eni("eth1"), family, default=True)
    if relearned:
        for family in Family:
            await host.vpc.relearn(family)
    await host.until("eth1", complete)


async def unbound(host: HostUnderTest, family: Family) -> str:
    """The link that what the host sends to far hosts leaves by, if it binds to nothing."""
    words = (await host.ip(f"-{family.value} route get {FAR[family]}")).split()
    return words[words.index("dev") + 1]


async def flows(
    title: str, manager: Manager | None, *, left: bool, relearned: bool = False
) -> Flows:
    """Everybody calls everybody. `left`: the primary and the host's own traffic are left alone."""
    forwarded = '[interfaces]\nforwarded = "connmark"\n'
    config = settings() if manager is None else SETTINGS
    config = LEAVES + config if left else config.replace("[interfaces]\n", forwarded)
    kind = manager or dhcp.TIES  # nobody's: only the metric of the primary matters
    async with ec2_host(ETH1, config=config, manager=kind, judged=False, watched=not left) as host:
        vpc = host.vpc
        bridged = (vpc, IPv4Network("172.18.0.0/24"), IPv6Network("fd00:18::/64"))
        on_bridge = await containers.bridged(*bridged)
        inside = IPv4Network(ETH1.ipv4_prefixes[0])[5], IPv6Network(ETH1.ipv6_prefixes[0])[5]
        box = await containers.delegated(vpc, "c-box", *inside)
        await configured(host, manager, relearned=relearned)
        called: dict[str, Sequence[IPAddress]] = {}
        for family in Family:
            called |= {
                f"primary {family.label}": vpc.primary.addresses(family),
                f"eth1 {family.label}": host.eni("eth1").addresses(family),
                f"prefix {family.label}": [ip for ip in inside if ip.version == family],
            }
        callers: dict[str, Sequence[Peer]] = {
            "far hosts": vpc.far_hosts,
            "the primary's subnet": [vpc.neighbour(vpc.primary.subnet)],
            "the new subnet": [vpc.neighbour(host.eni("eth1").subnet)],
            "a container on a bridge": [on_bridge],
        }
        netns.nft(vpc.host, DOCKER)
        async with Acceptor(vpc, box.namespace), Acceptor(vpc, on_bridge.namespace):
            pairs = [(who, to) for who in callers.values() for to in called.values()]
            every = [path for who, to in pairs for path in paths(who, to)]
            with suppress(TimeoutError):  # the table says who was not reached
                await all_answer(vpc, every, WITHIN if not left else 3.0)
            reached = {}
            for caller, who in callers.items():
                for to, addresses in called.items():
                    replies = (await matrix(vpc, paths(who, addresses))).values()
                    reached[caller, to] = (sum(r is not None for r in replies), len(replies))
            reached |= await published(host, callers, called)
        own = {family: await unbound(host, family) for family in Family}
        return Flows(title, reached, own)


async def published(
    host: HostUnderTest,
    callers: Mapping[str, Sequence[Peer]],
    called: Mapping[str, Sequence[IPAddress]],
) -> dict[tuple[str, str], tuple[int, int]]:
    """Call the port that a container publishes, on the addresses of the ENIs themselves."""
    reached = {}
    for caller, who in callers.items():
        for to, addresses in called.items():
            if "prefix" not in to and "container" not in caller:
                replies = (await matrix(host.vpc, paths(who, addresses), PUBLISHED)).values()
                counts = (sum(r is not None for r in replies), len(replies))
                reached[caller, f"{to}:{PUBLISHED}"] = counts
    return reached


async def main() -> int:
    """Print all tables; 1 if somebody is not reached."""
    good = True
    for name, manager in MANAGERS.items():
        for relearned in (False, True):
            how = ", the primary's default learned anew" if relearned else ""
            for left in (True, False):
                title = f"{name}{how}: " + ("the primary left alone" if left else "as it is")
                found = await flows(title, manager, left=left, relearned=relearned)
                good &= left or found.all_reached
                sys.stdout.write(f"{found}\n\n")
                sys.stdout.flush()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
