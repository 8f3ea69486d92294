"""Good and bad network managers, and what is on the host for longer than the daemon.

The new ENI works with each manager, and so does the primary: everybody reaches both, from the
subnets of both and from beyond.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest

from nicwatchd.core.model import Family
from nicwatchd.sim import containers, dhcp
from nicwatchd.sim.ec2 import SETTINGS, Ec2
from nicwatchd.sim.probe import Acceptor
from tests.scenarios.host import HostUnderTest, complete, ec2_host, nothing, numbered

MANAGERS = pytest.mark.parametrize(
    "manager",
    [dhcp.GOOD, dhcp.TIES, dhcp.BEATS, dhcp.REPLACES],
    ids=["good", "ties", "beats", "replaces"],
)
FIRST = pytest.mark.parametrize("first", ["daemon", "others"])
HOPS = {Family.V4: "10.0.2.7", Family.V6: "fe80::77"}
SOURCES = {Family.V4: "10.0.2.11", Family.V6: "2001:db8:ec2:2::11"}
FAR = {Family.V4: "198.51.100.50", Family.V6: "2001:db8:5100::50"}


async def leases(ec2: Ec2) -> None:
    """The ENI comes, and the network manager configures it."""
    await ec2.plug("eth1")
    for family in Family:
        await ec2.vpc.lease(ec2.eni("eth1"), family, default=True)


@MANAGERS
@FIRST
@pytest.mark.parametrize("subnet", [1, 2])
@pytest.mark.lasts(25)
async def test_an_eni_works_whatever_the_network_manager_does(
    first: str, manager: dhcp.Manager, subnet: int
) -> None:
    before = leases if first == "others" else nothing
    eth1 = numbered(1, subnet=subnet, ipv4=(f"10.0.{subnet}.11", f"10.0.{subnet}.12"))
    async with ec2_host(eth1, config=SETTINGS, manager=manager, before=before) as host:
        if first == "daemon":
            await leases(host.ec2)
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
        for family in Family:
            await host.vpc.lease(host.eni("eth1"), family, default=True)
        await host.everybody_reaches()


async def test_a_good_manager_leaves_the_primary_its_own_after_it_is_learned_anew() -> None:
    async with ec2_host(numbered(1), config=SETTINGS) as host:
        await leases(host.ec2)
        await host.until("eth1", complete)
        for family in Family:
            await host.vpc.relearn(family)


async def test_containers_that_are_older_than_the_daemon_and_the_eni() -> None:
    ipv4, ipv6 = IPv4Network("10.0.2.64/28"), IPv6Network("2001:db8:ec2:2:1::/80")
    eni = numbered(1, ipv4_prefixes=(str(ipv4),), ipv6_prefixes=(str(ipv6),))
    peers = []

    async def before(ec2: Ec2) -> None:
        peers.append(await containers.delegated(ec2.vpc, "c-box", ipv4[5], ipv6[5]))
        bridged = (ec2.vpc, IPv4Network("172.18.0.0/24"), IPv6Network("fd00:18::/64"))
        peers.append(await containers.bridged(*bridged))
        await ec2.plug("eth1")

    async with ec2_host(eni, before=before) as host:
        await host.until("eth1", complete)
        box, on_bridge = peers
        await host.all_reachable("eth1", peers=[on_bridge])
        async with Acceptor(host.vpc, box.namespace):
            await host.all_reachable("eth1", addresses=box.addresses)


async def leads(host: HostUnderTest, family: Family) -> bool:
    """Whether what comes from the ENI's address goes the way that the foreign rule says."""
    to, source = FAR[family], SOURCES[family]
    found = await host.ip(f"-{family} route get {to} from {source}")
    return HOPS[family] in found and "table 77" in found


@FIRST
@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_a_foreign_rule_without_a_priority_comes_first(first: str, family: Family) -> None:
    """An inspection appliance's, older or younger than the daemon: theirs first."""

    async def put(ec2: Ec2) -> None:
        await ec2.plug("eth1")
        for line in (
            "link set eth1 up",
            f"-{family} route add default via {HOPS[family]} dev eth1 onlink table 77",
            f"-{family} rule add from {SOURCES[family]} lookup 77",
        ):
            await ec2.vpc.exec(ec2.vpc.host, "ip", *line.split())

    before = put if first == "others" else nothing
    # Nobody stands at the appliance's address: what goes there is lost.
    async with ec2_host(numbered(1), before=before, judged=False) as host:
        if first == "daemon":
            await put(host.ec2)
        await host.until("eth1", complete)
        await host.daemon.post("/v1/reconcile")
        assert await leads(host, family)
        status = await host.status("eth1")
        assert status["shadowed"]
        other = Family.V4 if family is Family.V6 else Family.V6
        await host.all_reachable("eth1", addresses=[ip_address(SOURCES[other])])


async def test_what_does_not_work_is_found_at_the_end() -> None:
    """The primary too, and from each neighbour."""
    async with ec2_host(numbered(1), judged=False) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.everybody_reaches()
        for lost in ("10.0.1.10", "10.0.2.11"):
            for verb in ("add", "del"):
                await host.ip(f"rule {verb} pref 1 from {lost} to 10.0.2.250 blackhole")
                if verb == "add":
                    with pytest.raises(TimeoutError, match=rf"subnet 10.0.2.0-24|to {lost}"):
                        await host.everybody_reaches(within=0.1)
