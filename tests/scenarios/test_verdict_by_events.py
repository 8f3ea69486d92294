"""The verdict follows events, and waits for nothing that is done from time to time.

So it is never green for long while the host can know that a path is dead. The daemon here looks at
nothing again without an event.
"""

from __future__ import annotations

import sys
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from nicwatchd.sim import containers, netns
from tests.scenarios.host import HostUnderTest, complete, ec2_host, numbered, settings
from tests.scenarios.publishing import Form, docker_nftables, kube_proxy, podman
from tests.scenarios.software import eventually
from tests.scenarios.test_published_ports import CONNMARK, until_marked

pytestmark = pytest.mark.long

ONLY_EVENTS = (sys.executable, str(Path(__file__).with_name("only_events.py")))
HOUR = settings({"address_wait": 0.2, "refresh": 3600.0})  # nor does a reading bring news


async def says(host: HostUnderTest, name: str, family: str, health: str, *codes: str) -> None:
    """Wait until the verdict on a family of an ENI is this, with these causes."""

    async def so() -> bool:
        said = (await host.status(name))[family]
        causes = {cause["code"] for cause in said["causes"]}
        return (said["health"], causes) == (health, {*codes})

    await eventually(so)


FAMILIES = {
    "ipv4": ("-4", "10.0.2.0/24", "via 10.0.1.1 dev eth0"),
    "ipv6": ("-6", "2001:db8:ec2:2::/64", "via fe80:ec2::1 dev eth0"),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("where", ["77", "main suppress_prefixlength 0"])
async def test_a_narrow_route_of_a_table_that_a_foreign_rule_leads_to(
    family: str, where: str
) -> None:
    """It takes what goes to the ENI's subnet: by table 77, or by main as wg-quick looks it up."""
    version, subnet, way = FAMILIES[family]
    table = where.split(maxsplit=1)[0]
    async with ec2_host(numbered(1), config=HOUR, wrapper=ONLY_EVENTS) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.ip(f"{version} rule add pref 100 from {subnet} to {subnet} lookup {where}")
        await says(host, "eth1", family, "working")
        route = f"{subnet} {way} metric 7 table {table}"
        for _ in range(2):
            await host.ip(f"{version} route add {route}")
            await says(host, "eth1", family, "degraded", "leaves-elsewhere")
            await host.ip(f"{version} route del {route}")
            await says(host, "eth1", family, "working")
        await host.ip(f"{version} route add unreachable {subnet} metric 7 table {table}")
        await says(host, "eth1", family, "degraded", "leaves-elsewhere")
        await host.ip(f"{version} route flush table {table} type unreachable")
        await says(host, "eth1", family, "working")


async def test_a_route_that_goes_with_a_link_uncovers_another() -> None:
    """IPv4 has no event of the routes that a link takes along when it goes down."""
    async with ec2_host(numbered(1), config=HOUR, wrapper=ONLY_EVENTS) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.ip("rule add pref 100 from 10.0.2.0/24 lookup 77")
        await host.ip("route add 10.0.2.0/24 dev eth1 table 77 metric 1")
        await host.ip("route add unreachable 10.0.2.0/24 table 77 metric 2")
        await says(host, "eth1", "ipv4", "working")
        await host.vpc._do(netns.ip, host.vpc.host, ["link set eth1 down", "link set eth1 up"])
        await says(host, "eth1", "ipv4", "degraded", "leaves-elsewhere")
        await host.ip("route del unreachable 10.0.2.0/24 table 77 metric 2")
        await says(host, "eth1", "ipv4", "working")


@pytest.mark.parametrize("form", [docker_nftables, podman, kube_proxy])
async def test_ports_that_containers_publish(form: Form) -> None:
    """Whoever publishes them, and however often others changed theirs before."""
    async with ec2_host(numbered(1), config=HOUR, wrapper=ONLY_EVENTS, judged=False) as host:
        box = await containers.bridged(
            host.vpc, IPv4Network("172.18.0.0/24"), IPv6Network("fd00:18::/64")
        )
        await host.plug("eth1")
        await host.until("eth1", complete)
        for family in FAMILIES:
            await says(host, "eth1", family, "working")
        busy = "".join(f"add element inet others these {{ {n} }}\n" for n in range(1000))
        for _ in range(2):
            sets = "table inet others { set these { type mark; }; }\n"
            await host.vpc._do(netns.nft, host.vpc.host, sets + busy)
            await form(host, box, "br0")
            for family in FAMILIES:
                await says(host, "eth1", family, "degraded", "published-port")
            await host.vpc.exec(host.vpc.host, "nft", "flush", "ruleset")
            for family in FAMILIES:
                await says(host, "eth1", family, "working")


async def test_marks_that_a_firewall_flushes_are_back() -> None:
    """With `forwarded`, published ports answer by them."""
    config = CONNMARK + "refresh = 3600.0\n"
    async with ec2_host(numbered(1), config=config, wrapper=ONLY_EVENTS) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await until_marked(host, "eth0", "eth1")
        for _ in range(2):
            await host.vpc.exec(host.vpc.host, "nft", "flush", "ruleset")
            await until_marked(host, "eth0", "eth1")
