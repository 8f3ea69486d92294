"""The sim itself on trial: what fails on EC2 fails here, and what works there works here.

The host is configured by hand, with `ip`, as the daemon is to do it.
"""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

import pytest

from nicwatchd.core.model import LINK_GROUP, Family
from nicwatchd.sim import containers
from nicwatchd.sim.parts import ROUTER_V6, Eni, Subnet
from nicwatchd.sim.probe import Acceptor, Path, Watch, matrix, paths, reach, watch_primary

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nicwatchd.core.model import IPAddress
    from nicwatchd.sim.probe import Reply
    from nicwatchd.sim.vpc import Vpc


def failed(results: dict[Path, Reply | None]) -> list[str]:
    return [str(path) for path, reply in results.items() if reply is None]


async def put_addresses(vpc: Vpc, eni: Eni) -> None:
    """All addresses, permanent and without duplicate detection, and nothing else."""
    await vpc.ip(
        vpc.host,
        f"link set {eni.name} up",
        *(f"addr add {a}/32 dev {eni.name}" for a in eni.ipv4),
        *(f"addr add {a}/128 dev {eni.name} nodad preferred_lft 0" for a in eni.ipv6),
    )


def table_lines(eni: Eni, table: int, *, sources: Iterable[object], priority: int) -> list[str]:
    """Table and rules of section 5 of the design, with these selectors."""
    cidrs = [eni.subnet.ipv4] if eni.subnet.ipv4 else []
    onlink = [*cidrs, *eni.subnet.ipv6, IPv6Network("fe80::/64")]
    local = "iif lo " if priority == 32602 else ""
    lines = [
        f"link set {eni.name} group {LINK_GROUP}",
        *(f"route add {cidr} dev {eni.name} table {table} proto 236" for cidr in onlink),
        f"route add default via {eni.subnet.gateway} dev {eni.name} onlink table {table} proto 236",
        f"route add ::/0 via {ROUTER_V6} dev {eni.name} table {table} proto 236",
    ]
    for source in sources:
        selector = f"{local}from {source}"
        lines += [
            f"rule add pref 32600 {selector} lookup main suppress_prefixlength 0"
            f" suppress_ifgroup {LINK_GROUP} protocol 236",
            f"rule add pref {priority} {selector} lookup {table} protocol 236",
        ]
    for family in ("", "-6"):
        lines.append(f"{family} rule add pref 32601 oif {eni.name} lookup {table} protocol 236")
    return lines


async def configure(
    vpc: Vpc, eni: Eni, *, sources: Iterable[object] | None = None, priority: int = 32602
) -> None:
    """What the daemon does for an ENI that is plugged."""
    await put_addresses(vpc, eni)
    await vpc.ip(vpc.host, f"link set {vpc.primary.name} group {LINK_GROUP}")
    table = 1_000_000 + vpc.ifindex(eni)
    subnets = [n for n in (eni.subnet.ipv4, *eni.subnet.ipv6) if n]
    lines = table_lines(eni, table, sources=sources or subnets, priority=priority)
    for line in lines:
        await vpc.exec(vpc.host, "ip", *line.split())


async def test_the_primary_works_from_everywhere(vpc: Vpc) -> None:
    assert failed(await matrix(vpc, paths(vpc.peers(), vpc.primary.addresses()))) == []


async def test_addresses_alone_do_not_reach_off_subnet_hosts(vpc: Vpc, eni: Eni) -> None:
    await vpc.plug(eni)
    await put_addresses(vpc, eni)
    results = await matrix(vpc, paths(vpc.far_hosts, eni.addresses()))
    assert set(results.values()) == {None}
    assert await vpc.dropped(vpc.primary) > 0  # the answers left by the primary


async def test_the_designs_rules_reach_everybody(vpc: Vpc, eni: Eni) -> None:
    async with watch_primary(vpc) as primary:
        await vpc.plug(eni)
        for family in Family:
            await vpc.lease(eni, family)
        leased = replace(eni, ipv4=eni.ipv4[1:], ipv6=eni.ipv6[1:])
        await configure(vpc, leased)
        reachable = paths(vpc.peers(eni), eni.addresses())
        assert len(reachable) == 8 * 4
        async with Watch(vpc, reachable) as watch:
            await watch.all_reachable(10)  # the leased IPv6 address is tentative at first
        assert failed(await matrix(vpc, reachable)) == []
    assert [primary.failures(path) for path in primary.attempts] == [0, 0]
    assert all(primary.since(path) for path in primary.attempts)


async def test_connections_out(vpc: Vpc, eni: Eni) -> None:
    await vpc.plug(eni)
    await configure(vpc, eni)
    async with Acceptor(vpc, vpc.far):
        for peer in vpc.far_hosts:
            for to, bound in ((peer.ipv4, eni.ipv4), (peer.ipv6, eni.ipv6)):
                assert to is not None
                reply = await reach(vpc, vpc.host, to, source=bound[1])
                assert reply is not None
                assert reply.seen_as == bound[1]
                by_device = await reach(vpc, vpc.host, to, device=eni.name)
                assert by_device is not None
                assert by_device.seen_as in bound
                unbound = await reach(vpc, vpc.host, to)
                assert unbound is not None
                assert unbound.seen_as in vpc.primary.addresses()


async def test_spoof_between_two_enis_of_one_subnet_fails(vpc: Vpc, eni: Eni) -> None:
    other = Eni.numbered("ens7", eni.subnet, first=20)
    await vpc.plug(eni, other)
    await configure(vpc, eni, sources=eni.addresses(), priority=32601)
    await configure(vpc, other, sources=other.addresses(), priority=32601)
    reachable = paths(vpc.peers(eni, other), (*eni.addresses(), *other.addresses()))
    assert failed(await matrix(vpc, reachable)) == []
    before = await vpc.dropped(other)
    # Now the answers of one ENI leave by the other, which is in the same subnet.
    for address in eni.addresses():
        await vpc.exec(
            *(vpc.host, "ip", "-6" if address.version == 6 else "-4", "rule", "add", "pref", "1"),
            *("from", str(address), "lookup", str(1_000_000 + vpc.ifindex(other))),
        )
    results = await matrix(vpc, paths(vpc.peers(eni), eni.addresses()))
    assert set(results.values()) == {None}
    assert await vpc.dropped(other) > before


async def test_a_foreign_source_mac_fails(vpc: Vpc) -> None:
    await vpc.ip(vpc.host, f"link set {vpc.primary.name} address 06:66:66:66:66:66")
    results = await matrix(vpc, paths(vpc.far_hosts, vpc.primary.addresses()))
    assert set(results.values()) == {None}


async def test_update_moves_an_address(vpc: Vpc, eni: Eni) -> None:
    await vpc.plug(eni)
    await configure(vpc, eni)
    more = replace(eni, ipv6=(eni.ipv6[0], IPv6Address("2001:db8:ec2:2::77")))
    await vpc.update(more)
    assert vpc.enis == (vpc.primary, more)
    await vpc.ip(vpc.host, f"addr add {more.ipv6[1]}/128 dev {eni.name} nodad")
    assert failed(await matrix(vpc, paths(vpc.peers(eni), more.addresses()))) == []
    unassigned = paths(vpc.peers(eni), [eni.ipv6[1]])
    assert set((await matrix(vpc, unassigned)).values()) == {None}


async def test_a_delegated_prefix_in_a_container(vpc: Vpc, eni: Eni) -> None:
    v4, v6 = IPv4Network("10.0.2.64/28"), IPv6Network("2001:db8:ec2:2:1::/80")
    with_prefixes = replace(eni, ipv4_prefixes=(v4,), ipv6_prefixes=(v6,))
    await vpc.plug(with_prefixes)
    addresses: tuple[IPAddress, ...] = (v4[5], v6[5])
    peer = await containers.delegated(vpc, "box", v4[5], v6[5])
    async with Acceptor(vpc, peer.namespace):
        assert set((await matrix(vpc, paths(vpc.far_hosts, addresses))).values()) == {None}
        await configure(vpc, with_prefixes, sources=(v4, v6), priority=32601)
        assert failed(await matrix(vpc, paths(vpc.peers(eni), addresses))) == []


async def test_a_bridged_container_reaches_an_enis_address(vpc: Vpc, eni: Eni) -> None:
    peer = await containers.bridged(
        vpc, IPv4Network("172.18.0.0/24"), IPv6Network("fd00:18::/64")
    )
    await vpc.plug(eni)
    await configure(vpc, eni)
    assert failed(await matrix(vpc, paths([peer], eni.addresses()))) == []


async def test_strict_reverse_path_filter(vpc: Vpc, eni: Eni) -> None:
    await vpc.plug(eni)
    await configure(vpc, eni)
    vpc.sysctl(vpc.host, {"ipv4/conf/all/rp_filter": "1"})
    assert failed(await matrix(vpc, paths(vpc.far_hosts, eni.addresses()))) == []


@pytest.mark.parametrize("family", list(Family))
async def test_subnet_of_one_family(vpc: Vpc, family: Family) -> None:
    eni = Eni.numbered("ens6", Subnet.numbered(3, [family]))
    await vpc.plug(eni)
    await vpc.lease(eni, family)
    async with Watch(vpc, paths([vpc.neighbour(eni.subnet)], vpc.primary.addresses())) as watch:
        assert len(watch.attempts) == 1
        await watch.all_reachable(5)


async def test_metadata_sockets_answer_on_both_addresses(vpc: Vpc) -> None:
    async with AsyncExitStack() as stack:
        for listener in vpc.imds_sockets():
            listener.setblocking(True)
            stack.enter_context(listener)
            address = listener.getsockname()[0]
            with vpc.socket(vpc.host, listener.family) as caller:
                caller.setblocking(True)
                caller.connect((address, 80))
                served, (seen, *_) = listener.accept()
                served.close()
            assert IPv4Address(seen) == vpc.primary.ipv4[0] if listener.family == socket.AF_INET \
                else IPv6Address(seen) == vpc.primary.ipv6[0]
