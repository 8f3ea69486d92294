"""Tests of the simulator: what fails on EC2 fails here, and what works there works here.

The tests configure the host with `ip`, as the daemon would.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

import pytest

from nicwatchd.core.model import LINK_GROUP, Family, Numbers
from nicwatchd.sim import containers, dhcp
from nicwatchd.sim.parts import ROUTER_V6, Eni, Subnet
from nicwatchd.sim.probe import (
    Acceptor,
    Watch,
    all_answer,
    matrix,
    paths,
    reach,
    watch_primary,
)
from nicwatchd.sim.vpc import Vpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from nicwatchd.core.model import IPAddress


async def put_addresses(vpc: Vpc, eni: Eni) -> None:
    """Configure all addresses, permanent and without duplicate detection, and nothing else."""
    await vpc.ip(
        vpc.host,
        f"link set {eni.name} up",
        *(f"addr add {a}/32 dev {eni.name}" for a in eni.ipv4),
        *(f"addr add {a}/128 dev {eni.name} nodad preferred_lft 0" for a in eni.ipv6),
    )


def table_of(vpc: Vpc, eni: Eni) -> int:
    return Numbers().table_of(vpc.ifindex(eni))


async def configure(
    vpc: Vpc, eni: Eni, *, sources: Iterable[object] | None = None, by_subnet: bool = True
) -> None:
    """Configure an ENI as the daemon does: addresses, table, and rules with these selectors."""
    await put_addresses(vpc, eni)
    table = f"table {table_of(vpc, eni)} proto 236"
    subnets = [n for n in (eni.subnet.ipv4, *eni.subnet.ipv6) if n]
    await vpc.ip(
        vpc.host,
        *(f"link set {e.name} group {LINK_GROUP}" for e in (vpc.primary, eni)),
        *(f"route add {net} dev {eni.name} {table}" for net in (*subnets, "fe80::/64")),
        f"route add default via {eni.subnet.gateway} dev {eni.name} onlink {table}",
        f"route add ::/0 via {ROUTER_V6} dev {eni.name} {table}",
    )
    local = "iif lo " if by_subnet else ""
    for family in Family:
        selectors = [f"oif {eni.name}"] + [
            f"{local}from {source}"
            for source in sources or subnets
            if (":" in str(source)) == (family is Family.V6)
        ]
        await vpc.ip(vpc.host, *rules(selectors, table_of(vpc, eni)), family=family)


def rules(selectors: Iterable[str], table: int) -> Iterable[str]:
    for selector in selectors:
        yield (
            f"rule add pref 32765 {selector} lookup main suppress_prefixlength 0"
            f" suppress_ifgroup {LINK_GROUP} protocol 236"
        )
        yield f"rule add pref 32765 {selector} lookup {table} protocol 236"


async def test_the_primary_works_from_everywhere(vpc: Vpc) -> None:
    await all_answer(vpc, paths(vpc.peers(), vpc.primary.addresses()))


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
        await all_answer(vpc, reachable)
    assert [primary.failures(path) for path in primary.attempts] == [0, 0]
    assert all(primary.since(path) for path in primary.attempts)


async def test_connections_out(vpc: Vpc, eni: Eni) -> None:
    await vpc.plug(eni)
    await configure(vpc, eni)
    # A preferred address, as a lease gives it: a deprecated one loses to the primary's.
    await vpc.ip(vpc.host, f"addr change {eni.ipv6[0]}/128 dev {eni.name} preferred_lft 140")
    async with Acceptor(vpc, vpc.far):
        for to in (address for peer in vpc.far_hosts for address in peer.addresses):
            family = Family(to.version)
            second = eni.addresses(family)[1]
            for source, device, expected in (
                (second, None, (second,)),
                (None, eni.name, eni.addresses(family)),
                (None, None, vpc.primary.addresses(family)),
            ):
                reply = await reach(vpc, vpc.host, to, source=source, device=device, timeout=5)
                assert reply is not None, f"{to} from {source or device}"
                assert reply.seen_as in expected


async def test_spoof_between_two_enis_of_one_subnet_fails(vpc: Vpc, eni: Eni) -> None:
    other = Eni.numbered("ens7", eni.subnet, first=20)
    await vpc.plug(eni, other)
    await configure(vpc, eni, sources=eni.addresses(), by_subnet=False)
    await configure(vpc, other, sources=other.addresses(), by_subnet=False)
    reachable = paths(vpc.peers(eni, other), (*eni.addresses(), *other.addresses()))
    await all_answer(vpc, reachable)
    before = await vpc.dropped(other)
    # Now the answers of one ENI leave by the other, which is in the same subnet.
    for address in eni.addresses():
        line = f"rule add pref 1 from {address} lookup {table_of(vpc, other)}"
        await vpc.ip(vpc.host, line, family=Family(address.version))
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
    await all_answer(vpc, paths(vpc.peers(eni), more.addresses()))
    unassigned = paths(vpc.peers(eni), [eni.ipv6[1]])
    assert set((await matrix(vpc, unassigned)).values()) == {None}


async def test_update_moves_an_address_to_another_eni(vpc: Vpc, eni: Eni) -> None:
    other = Eni.numbered("ens7", eni.subnet, first=30)
    await vpc.plug(eni, other)
    mover = (eni.ipv4[1], eni.ipv6[1])
    without = replace(eni, ipv4=eni.ipv4[:1], ipv6=eni.ipv6[:1])
    more = replace(other, ipv4=(*other.ipv4, mover[0]), ipv6=(*other.ipv6, mover[1]))
    for now in ((more, without), (other, eni), (without, more)):
        await vpc.update(*now)  # in any order
    await configure(vpc, more, sources=more.addresses())
    await all_answer(vpc, paths(vpc.peers(more), mover))


async def test_a_subnet_gets_another_cidr(vpc: Vpc, eni: Eni) -> None:
    await vpc.plug(eni)
    wider = replace(eni.subnet, ipv6=(*eni.subnet.ipv6, IPv6Network("2001:db8:ec2:99::/64")))
    more = replace(eni, subnet=wider, ipv6=(*eni.ipv6, IPv6Address("2001:db8:ec2:99::5")))
    await vpc.update(more)
    await configure(vpc, more)
    assert vpc.neighbour(wider) == vpc.neighbour(eni.subnet)
    await all_answer(vpc, paths(vpc.peers(more), more.addresses()))


async def test_a_delegated_prefix_in_a_container(vpc: Vpc, eni: Eni) -> None:
    v4, v6 = IPv4Network("10.0.2.64/28"), IPv6Network("2001:db8:ec2:2:1::/80")
    with_prefixes = replace(eni, ipv4_prefixes=(v4,), ipv6_prefixes=(v6,))
    await vpc.plug(with_prefixes)
    addresses: tuple[IPAddress, ...] = (v4[5], v6[5])
    peer = await containers.delegated(vpc, "box", v4[5], v6[5])
    async with Acceptor(vpc, peer.namespace):
        assert set((await matrix(vpc, paths(vpc.far_hosts, addresses))).values()) == {None}
        await configure(vpc, with_prefixes, sources=(v4, v6), by_subnet=False)
        async with Watch(vpc, paths(vpc.peers(eni), addresses)) as watch:
            # To forward, the host needs a link-local address that is no longer tentative.
            await watch.all_reachable(10)


async def test_a_bridged_container_reaches_an_enis_address(vpc: Vpc, eni: Eni) -> None:
    peer = await containers.bridged(vpc, IPv4Network("172.18.0.0/24"), IPv6Network("fd00:18::/64"))
    await vpc.plug(eni)
    await configure(vpc, eni)
    await all_answer(vpc, paths([peer], eni.addresses()))


async def test_strict_reverse_path_filter(vpc: Vpc, eni: Eni) -> None:
    await vpc.plug(eni)
    await configure(vpc, eni)
    vpc.sysctl(vpc.host, {"ipv4/conf/all/rp_filter": "1"})
    await all_answer(vpc, paths(vpc.far_hosts, eni.addresses()))


@pytest.mark.parametrize("family", list(Family))
async def test_what_a_hot_plug_by_itself_does(vpc: Vpc, family: Family) -> None:
    """The new ENI works on its subnet only, and the primary no longer reaches that subnet."""
    eni = Eni.numbered("ens6", Subnet.numbered(3, [family]))
    await vpc.plug(eni)
    await vpc.lease(eni, family)
    await vpc.ra(eni)
    near = [vpc.neighbour(eni.subnet)]
    async with Watch(vpc, paths(near, eni.addresses())) as watch:
        assert len(watch.attempts) == 1
        await watch.all_reachable(5)
    assert set((await matrix(vpc, paths(vpc.far_hosts, eni.addresses()))).values()) == {None}
    assert set((await matrix(vpc, paths(near, vpc.primary.addresses()))).values()) == {None}


async def test_a_watch_that_is_kept_from_watching_says_so(vpc: Vpc) -> None:
    async with Watch(vpc, paths(vpc.far_hosts, vpc.primary.addresses())) as watch:
        await asyncio.sleep(0)  # it begins
        time.sleep(0.5)  # noqa: ASYNC251 (that is the point: nothing else runs meanwhile)
        await watch.all_reachable(10)
    assert watch.late > 0.3


async def test_metadata_sockets_answer_on_both_addresses(vpc: Vpc) -> None:
    loop = asyncio.get_running_loop()
    for listener, expected in zip(vpc.imds_sockets(), vpc.primary.addresses(), strict=True):
        with listener, vpc.socket(vpc.host, listener.family) as caller:
            await loop.sock_connect(caller, (listener.getsockname()[0], 80))
            served, (seen, *_) = await loop.sock_accept(listener)
            served.close()
        assert ip_address(seen) == expected


# --- network managers, good and bad --------------------------------------------------------------


@asynccontextmanager
async def managed(manager: dhcp.Manager, eni: Eni) -> AsyncIterator[Vpc]:
    """A host whose network manager has configured an ENI, with default routes."""
    async with Vpc(manager=manager) as vpc, Acceptor(vpc, vpc.host):
        await vpc.plug(eni)
        for family in Family:
            await vpc.lease(eni, family, default=True)
        yield vpc


async def defaults(vpc: Vpc, family: Family) -> list[tuple[str, str]]:
    """The links and the metrics of main's default routes, in order; those of next hops, too."""
    shown = await vpc.exec(vpc.host, "ip", f"-{family}", "-j", "route", "show", "default")
    return [
        (hop["dev"], str(route["metric"]))
        for route in json.loads(shown)
        for hop in route.get("nexthops", [route])
    ]


async def answers(vpc: Vpc, family: Family) -> set[bool]:
    """Whether far hosts reach the primary: each does, none does, or some do."""
    results = await matrix(vpc, paths(vpc.far_hosts, vpc.primary.addresses(family)))
    return {reply is not None for reply in results.values()}


@pytest.mark.parametrize("family", list(Family))
async def test_a_good_manager_costs_the_primary_nothing(eni: Eni, family: Family) -> None:
    async with managed(dhcp.GOOD, eni) as vpc:
        assert await defaults(vpc, family) == [("ens5", "1024"), ("ens6", "2048")]
        await vpc.relearn(family)
        assert await answers(vpc, family) == {True}


@pytest.mark.parametrize("family", list(Family))
async def test_a_better_default_cuts_the_primary_off(eni: Eni, family: Family) -> None:
    async with managed(dhcp.BEATS, eni) as vpc:
        assert await defaults(vpc, family) == [("ens6", "100"), ("ens5", "1024")]
        assert await answers(vpc, family) == {False}
        own = [vpc.neighbour(vpc.primary.subnet)]
        assert None not in (await matrix(vpc, paths(own, vpc.primary.addresses(family)))).values()


@pytest.mark.parametrize("family", list(Family))
async def test_a_replaced_default_cuts_the_primary_off(eni: Eni, family: Family) -> None:
    async with managed(dhcp.REPLACES, eni) as vpc:
        assert await defaults(vpc, family) == [("ens6", "1024")]
        assert await answers(vpc, family) == {False}


async def test_a_tie_in_ipv4_is_one_behind_the_other(eni: Eni) -> None:
    """Of both, the kernel takes the first, or the one whose router it has heard of lately."""
    async with managed(dhcp.TIES, eni) as vpc:
        first, last = ("ens5", "1024"), ("ens6", "1024")
        for order in ([first, last], [last, first]):
            assert await defaults(vpc, Family.V4) == order
            await vpc.lease(eni, Family.V4, default=True)  # a renewal adds nothing
            assert await defaults(vpc, Family.V4) == order
            await vpc.relearn(Family.V4)


async def test_a_tie_in_ipv6_is_one_route_with_two_next_hops(eni: Eni) -> None:
    """Which host reaches the primary is the hash's choice."""
    async with managed(dhcp.TIES, eni) as vpc:
        for _ in range(2):
            assert sorted(await defaults(vpc, Family.V6)) == [("ens5", "1024"), ("ens6", "1024")]
            await vpc.lease(eni, Family.V6, default=True)


@pytest.mark.parametrize("manager", [dhcp.GOOD, dhcp.BEATS])
@pytest.mark.parametrize("leased", [False, True])
async def test_the_kernel_learns_a_default_at_its_own_metric(
    eni: Eni, manager: dhcp.Manager, *, leased: bool
) -> None:
    """On a link that no network manager has to do with, one that nicwatchd set up for example."""
    async with Vpc(manager=manager) as vpc:
        await vpc.plug(eni)
        await vpc.ip(vpc.host, f"link set {eni.name} up")
        if leased:
            await vpc.lease(eni, Family.V4)
        expected = str(manager.metric) if leased else "1024"
        async with asyncio.timeout(10):
            while (eni.name, expected) not in await defaults(vpc, Family.V6):
                await vpc.ra(eni)  # again and again: a link that was just set up loses packets


async def test_what_the_kernel_learned_wins_once_the_primarys_is_learned_anew(eni: Eni) -> None:
    async with Vpc() as vpc, Acceptor(vpc, vpc.host):
        await vpc.plug(eni)
        await vpc.ip(vpc.host, f"link set {eni.name} up")
        async with asyncio.timeout(10):
            while (eni.name, "1024") not in await defaults(vpc, Family.V6):
                await vpc.ra(eni)
        assert await answers(vpc, Family.V6) == {True}
        await vpc.relearn(Family.V6)
        assert await answers(vpc, Family.V6) == {False}
