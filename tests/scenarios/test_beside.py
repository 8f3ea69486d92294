"""What else there is on a host: containers, routes, rules, filters. All of it goes on working."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest

from nicwatchd.core.model import Family, IPAddress
from nicwatchd.sim import containers
from nicwatchd.sim.ec2 import Status
from nicwatchd.sim.probe import Acceptor, reach
from tests.scenarios.host import HostUnderTest, complete, ec2_host, numbered

ON_PREMISES = 3  # of the far hosts
PREFIXES = IPv4Network("10.0.2.64/28"), IPv6Network("2001:db8:ec2:2:1::/80")
WITH_PREFIXES = numbered(1, ipv4_prefixes=(str(PREFIXES[0]),), ipv6_prefixes=(str(PREFIXES[1]),))


async def seen_as(host: HostUnderTest, to: IPAddress, *, device: str | None = None) -> object:
    """The source that a peer sees when the host calls it."""
    reply = await reach(host.vpc, host.vpc.host, to, device=device)
    return reply and reply.seen_as


async def plug_with_prefixes(host: HostUnderTest) -> None:
    """Plug WITH_PREFIXES; its own addresses answer, and status lists its prefixes."""
    await host.plug("eth1")
    status = await host.until("eth1", complete)
    ipv4, ipv6 = PREFIXES
    assert (status["ipv4"]["prefixes"], status["ipv6"]["prefixes"]) == ([str(ipv4)], [str(ipv6)])
    await host.all_reachable("eth1")


async def test_a_bridged_container_talks_to_the_enis_address() -> None:
    async with ec2_host(numbered(1)) as host:
        container = await containers.bridged(
            host.vpc, IPv4Network("172.18.0.0/24"), IPv6Network("fd00:18::/64")
        )
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.all_reachable("eth1", peers=[container])


async def test_an_address_of_a_delegated_prefix_in_a_container() -> None:
    ipv4, ipv6 = PREFIXES
    async with ec2_host(WITH_PREFIXES) as host:
        box = await containers.delegated(host.vpc, "c-box", ipv4[5], ipv6[5])
        await plug_with_prefixes(host)
        async with Acceptor(host.vpc, box.namespace), Acceptor(host.vpc, host.vpc.far):
            await host.all_reachable("eth1", addresses=box.addresses)
            for far in host.vpc.far_hosts:
                for to in far.addresses:
                    reply = await reach(host.vpc, box.namespace, to)
                    assert reply is not None
                    assert reply.seen_as == box.address(Family(to.version))


@pytest.mark.parametrize("where", ["lo", "br0"])
async def test_a_delegated_prefix_that_the_host_itself_has_addresses_of(where: str) -> None:
    """On `lo`, for a service; on a bridge, as the gateway of the containers behind it."""
    ipv4, ipv6 = PREFIXES
    used: list[IPAddress]
    async with ec2_host(WITH_PREFIXES) as host, AsyncExitStack() as stack:
        if where == "lo":
            used = [ipv4[5], ipv6[5]]
            await host.ip(f"addr add {used[0]}/32 dev lo")
            await host.ip(f"addr add {used[1]}/128 dev lo nodad")
        else:
            box = await containers.bridged(host.vpc, ipv4, ipv6)
            used = [ipv4[1], ipv6[1], *box.addresses]
            await stack.enter_async_context(Acceptor(host.vpc, box.namespace))
        await plug_with_prefixes(host)
        await host.all_reachable("eth1", addresses=used)


async def test_a_secondary_address_that_the_host_has_on_lo() -> None:
    """As for IPVS, anycast or a service of its own. The link of the ENI does without it."""
    eni = numbered(
        1, ipv4=("10.0.2.11", "10.0.2.12"), ipv6=("2001:db8:ec2:2::11", "2001:db8:ec2:2::12")
    )
    async with ec2_host(eni) as host:
        await host.ip("addr add 10.0.2.12/32 dev lo")
        await host.ip("addr add 2001:db8:ec2:2::12/128 dev lo nodad")
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
        shown = await host.ip("-o addr show dev eth1")
        assert "10.0.2.12" not in shown
        assert "2001:db8:ec2:2::12" not in shown
        for ip in ("10.0.2.12", "2001:db8:ec2:2::12"):  # it is judged like those on the link
            family = f"ipv{ip_address(ip).version}"
            await host.ip(f"-{family[-1]} rule add pref 50 from {ip} prohibit")
            await host.until("eth1", partial(is_silent, family, [ip]))
            await host.ip(f"-{family[-1]} rule del pref 50")
            await host.until("eth1", partial(is_silent, family, []))


async def test_a_secondary_address_on_a_link_that_came_after_the_daemon() -> None:
    """Nothing that the daemon has heard of the link was of interest, until it has the address."""
    eni = numbered(
        1, ipv4=("10.0.2.11", "10.0.2.12"), ipv6=("2001:db8:ec2:2::11", "2001:db8:ec2:2::12")
    )
    async with ec2_host(eni) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.ip("link add services type vxlan id 5 dstport 4789")
        await host.ip("link set services up")
        await host.ip("addr add 10.0.2.12/32 dev services")
        await host.ip("addr add 2001:db8:ec2:2::12/128 dev services nodad")
        await host.all_reachable("eth1")


def is_silent(family: str, wanted: list[str], status: Status) -> bool:
    """Whether these addresses of a family, and no others, are said not to answer."""
    silent: list[str] = status[family]["silent"]
    return silent == wanted


async def test_a_static_route_in_main_through_the_eni() -> None:
    async with ec2_host(numbered(1)) as host, Acceptor(host.vpc, host.vpc.far):
        await host.plug("eth1")
        table = (await host.until("eth1", complete))["table"]
        eth1 = host.eni("eth1")
        far = host.vpc.far_hosts[ON_PREMISES]
        ipv4 = f"{far.ipv4} via 10.0.2.1 dev eth1 onlink src {eth1.ipv4[0]} proto static"
        ipv6 = f"{far.ipv6} via fe80:ec2::1 dev eth1 src {eth1.ipv6[0]} proto static"
        for route in (ipv4, ipv6):
            await host.ip(f"route add {route}")
        await host.daemon.post("/v1/reconcile")
        for to, own in zip(far.addresses, eth1.addresses(), strict=True):
            # What is not bound follows the operator's route, and so does what is the ENI's own.
            assert await seen_as(host, to) == own
            assert await seen_as(host, to, device="eth1") == own
            assert str(to) in await host.ip(f"-{to.version} route show table {table} proto 236")
        await host.all_reachable("eth1")
        for route in (ipv4, ipv6):
            await host.ip(f"route del {route}")
        await host.daemon.post("/v1/reconcile")
        for to in far.addresses:
            assert str(to) not in await host.ip(f"-{to.version} route show table {table}")


async def test_strict_reverse_path_filter() -> None:
    async with ec2_host(numbered(1)) as host:
        host.vpc.sysctl(
            host.vpc.host,
            {f"ipv4/conf/{name}/rp_filter": "1" for name in ("all", "default", "eth0")},
        )
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.all_reachable("eth0", "eth1")


async def test_a_socket_bound_to_the_device() -> None:
    async with ec2_host(numbered(1)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
        eth0, eth1 = host.eni("eth0"), host.eni("eth1")
        async with Acceptor(host.vpc, host.vpc.far):
            for far in host.vpc.far_hosts:
                for to in far.addresses:
                    family = Family(to.version)
                    bound = await seen_as(host, to, device="eth1")
                    assert bound == eth1.addresses(family)[0]
                    # An address that we add is no source of what did not ask for it.
                    assert await seen_as(host, to) == eth0.addresses(family)[0]


async def test_foreign_rules_of_automatic_priority() -> None:
    """The kernel puts such a rule before the second one there is: behind ours, then before them."""
    async with ec2_host(numbered(1)) as host:
        for table, mark in ((100, 1), (101, 2)):
            await host.ip(f"route add default via 10.0.1.1 table {table}")
            await host.ip(f"rule add fwmark {mark} lookup {table}")
            if mark == 1:
                await host.plug("eth1")
                await host.until("eth1", complete)
        await host.all_reachable("eth1")
        await host.daemon.post("/v1/reconcile")
        assert not (await host.status("eth1"))["shadowed"]
        rules = [line for line in (await host.ip("rule")).splitlines() if "fwmark" in line]
        assert [rule.split(":")[1].strip() for rule in rules] == [
            "from all fwmark 0x2 lookup 101",
            "from all fwmark 0x1 lookup 100",
        ]
        for table, mark in ((100, 1), (101, 2)):
            answer = await host.ip(f"route get 198.51.100.50 mark {mark}")
            assert f"table {table}" in answer


async def test_a_foreign_rule_that_wins_is_named() -> None:
    async with ec2_host(numbered(1)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.ip("route add default via 10.0.1.1 table 77")
        await host.ip("rule add pref 500 from 10.0.2.11 lookup 77")
        await host.daemon.post("/v1/reconcile")
        status = await host.status("eth1")
        assert status["state"] == "applied"
        assert status["shadowed"]
        assert "by the rule at priority 500 (table " in status["notes"][0]["text"]
