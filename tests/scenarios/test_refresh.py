"""What changes in place: addresses, prefixes and subnets that come, go, and move between ENIs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest

from nicwatchd.core.model import Family
from nicwatchd.sim import containers
from nicwatchd.sim.ec2 import Status, eni_of
from nicwatchd.sim.probe import Acceptor
from nicwatchd.sim.script import EniScript
from tests.scenarios.host import (
    QUICK,
    WITHIN,
    HostUnderTest,
    codes,
    complete,
    ec2_host,
    numbered,
    settings,
)

ETH1 = numbered(1)
MORE4 = (*ETH1.ipv4, "10.0.2.99")
MORE6 = (*ETH1.ipv6, "2001:db8:ec2:2::99")
PREFIX4, PREFIX6 = "10.0.2.128/28", "2001:db8:ec2:2:8000::/80"
SECOND = "2001:db8:ec2:99::/64"


async def seen(host: HostUnderTest, name: str, wanted: Callable[[Status], bool]) -> None:
    """Wait until the status of an interface is so; changes in place have no transition."""
    async with asyncio.timeout(WITHIN):
        while not wanted(await host.status(name)):  # noqa: ASYNC110 (no event tells)
            await asyncio.sleep(0.05)


async def shown(host: HostUnderTest, name: str, family: str, field: str, *wanted: str) -> None:
    """Wait until an interface is complete and has just these."""
    await seen(host, name, lambda now: complete(now) and {*wanted} == {*now[family][field]})


@pytest.mark.parametrize(
    ("family", "changes"),
    [("ipv4", {"ipv4": MORE4}), ("ipv6", {"ipv6": MORE6})],
    ids=["ipv4", "ipv6"],
)
async def test_an_address_comes_and_goes(family: str, changes: Mapping[str, Any]) -> None:
    async with ec2_host(ETH1, config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        before = await host.kernel_objects()
        await host.change(replace(ETH1, **changes))
        await shown(host, "eth1", family, "added", *changes[family])
        await host.all_reachable("eth1")
        assert f"from {changes[family][-1]} lookup" in str(await host.own_rules())
        await host.change(ETH1)
        await shown(host, "eth1", family, "added", *getattr(ETH1, family))
        assert changes[family][-1] not in await host.ip("addr show dev eth1")
        await host.all_reachable("eth1")
        assert await host.kernel_objects() == before


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
async def test_a_rule_for_the_subnet_has_room_for_all(family: str) -> None:
    many = numbered(
        1,
        ipv4=tuple(f"10.0.2.{n}" for n in range(11, 16)),
        ipv6=tuple(f"2001:db8:ec2:2::{n}" for n in range(11, 16)),
    )
    listed = getattr(many, family)
    another = {"ipv4": "10.0.2.99", "ipv6": "2001:db8:ec2:2::99"}[family]
    more: dict[str, Any] = {family: (*listed, another)}
    async with ec2_host(many, config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.daemon.post("/v1/reconcile")
        before = await host.kernel_objects()
        assert sum(" iif lo lookup " in rule for rule in await host.own_rules()) == 2
        await host.change(replace(many, **more))
        await shown(host, "eth1", family, "added", *listed, another)
        await host.all_reachable("eth1")
        assert await host.kernel_objects() == before


@pytest.mark.parametrize(
    ("family", "changes"),
    [("ipv4", {"ipv4_prefixes": (PREFIX4,)}), ("ipv6", {"ipv6_prefixes": (PREFIX6,)})],
    ids=["ipv4", "ipv6"],
)
async def test_a_prefix_comes_and_goes(family: str, changes: Mapping[str, Any]) -> None:
    async with ec2_host(ETH1, config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        before = await host.kernel_objects()
        changed = replace(ETH1, **changes)
        (prefix,) = eni_of(changed).prefixes
        await host.change(changed)
        await shown(host, "eth1", family, "prefixes", str(prefix))
        v4 = prefix[5] if isinstance(prefix, IPv4Network) else None
        v6 = prefix[5] if isinstance(prefix, IPv6Network) else None
        box = await containers.delegated(host.vpc, "c-box", v4, v6)
        async with Acceptor(host.vpc, box.namespace):
            await host.all_reachable("eth1", addresses=box.addresses)
        assert any(str(prefix) in rule for rule in await host.own_rules())
        await host.change(ETH1)
        await shown(host, "eth1", family, "prefixes")
        await host.ip("link del c-box")
        assert await host.kernel_objects() == before


async def test_a_second_subnet_cidr_comes_and_goes() -> None:
    async with ec2_host(ETH1, config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        before = await host.kernel_objects()
        await host.change(replace(ETH1, subnet_ipv6=(*ETH1.subnet_ipv6, SECOND)))
        await shown(host, "eth1", "ipv6", "subnets", *ETH1.subnet_ipv6, SECOND)
        address = SECOND.replace("/64", "77")
        await host.change(
            replace(ETH1, subnet_ipv6=(*ETH1.subnet_ipv6, SECOND), ipv6=(*ETH1.ipv6, address))
        )
        await shown(host, "eth1", "ipv6", "added", *ETH1.ipv6, address)
        await host.all_reachable("eth1")
        await host.change(ETH1)
        await shown(host, "eth1", "ipv6", "subnets", *ETH1.subnet_ipv6)
        await shown(host, "eth1", "ipv6", "added", *ETH1.ipv6)
        await host.all_reachable("eth1")
        assert await host.kernel_objects() == before


FROM, TO = numbered(1, subnet=2), numbered(2, subnet=2)
MOVING = ("10.0.2.77", "2001:db8:ec2:2::77")


def with_moving(eni: EniScript) -> EniScript:
    return replace(eni, ipv4=(*eni.ipv4, MOVING[0]), ipv6=(*eni.ipv6, MOVING[1]))


async def rules_of_moving(host: HostUnderTest) -> set[str]:
    return {rule for rule in await host.own_rules() if "77 " in rule}


@pytest.mark.parametrize("first", ["old", "new", "both"])
async def test_addresses_move_between_two_enis(first: str) -> None:
    """Whichever list IMDS changes first, they are on one of the two, and in the end on the new."""
    # Doubts that outlast the test: that it is done at all shows that none was waited for.
    config = settings(QUICK | {"doubts": 50, "doubt_span": 600.0})
    async with ec2_host(with_moving(FROM), TO, config=config) as host:
        await host.plug("eth1", "eth2")
        tables = [(await host.until(name, complete))["table"] for name in ("eth1", "eth2")]
        await host.all_reachable("eth1", "eth2")
        assert await rules_of_moving(host) == {f"from {ip} lookup {tables[0]}" for ip in MOVING}

        await host.reassign(FROM, with_moving(TO))
        if first == "new":
            host.tell(with_moving(TO))
            await seen(host, "eth2", lambda now: codes(now["notes"]) == {"held-elsewhere"})
            kept = {f"from {ip} lookup {tables[0]}" for ip in MOVING}
            assert await rules_of_moving(host) == kept
            assert MOVING[0] not in await host.ip("addr show dev eth2")
        elif first == "old":
            host.tell(FROM)
            await host.daemon.post("/v1/reconcile")
            assert MOVING[0] in await host.ip("addr show dev eth1"), "one list alone is a doubt"
        host.tell(FROM)
        host.tell(with_moving(TO))
        await shown(host, "eth2", "ipv4", "added", *with_moving(TO).ipv4)
        await shown(host, "eth2", "ipv6", "added", *with_moving(TO).ipv6)
        await shown(host, "eth1", "ipv4", "added", *FROM.ipv4)
        await shown(host, "eth1", "ipv6", "added", *FROM.ipv6)
        assert await rules_of_moving(host) == {f"from {ip} lookup {tables[1]}" for ip in MOVING}
        await host.all_reachable("eth1", "eth2")


async def is_quiet(host: HostUnderTest) -> None:
    """Wait until IMDS is not asked any more."""
    asked = -1
    while asked != len(host.imds.log):
        asked = len(host.imds.log)
        await asyncio.sleep(1.0)


async def test_an_event_of_the_link_shows_what_changed_before_the_refresh() -> None:
    """The refresh is an hour away; that the MTU changes is a hint, whatever it means."""
    async with ec2_host(ETH1, config=settings(QUICK | {"refresh": 3600.0})) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await is_quiet(host)
        await host.change(replace(ETH1, ipv4=MORE4))
        await host.ip("link set eth1 mtu 1400")
        await shown(host, "eth1", "ipv4", "added", *MORE4)
        await host.all_reachable("eth1")


async def test_dhcp_renews_and_nothing_is_written() -> None:
    async with ec2_host(ETH1, config=settings(QUICK)) as host:
        await host.plug("eth1")
        for family in Family:
            await host.vpc.lease(host.eni("eth1"), family)
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
        await host.checked()
        objects = await host.kernel_objects()
        since = (await host.status("eth1"))["since"]
        async with host.changes("address", "route", "link", "rule") as said:
            for _ in range(20):
                for family in Family:
                    await host.vpc.lease(host.eni("eth1"), family)
                await host.daemon.post("/v1/reconcile")
        assert {line.split()[2] for line in said} == {"inet", "inet6"}, "renewals, nothing else"
        assert not any(line.startswith("Deleted") for line in said)
        assert len(said) >= 40
        assert not any("proto 236" in line for line in said)
        assert await host.kernel_objects() == objects
        assert (await host.status("eth1"))["since"] == since
