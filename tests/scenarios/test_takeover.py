"""All addresses are there at once, and a DHCP client that comes later takes its own over.

What each real client does then is in tests/vm/test_leases.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from nicwatchd.core.model import Family
from nicwatchd.sim.script import EniScript
from tests.scenarios.host import HostUnderTest, complete, ec2_host, numbered, settings
from tests.scenarios.software import eventually
from tests.scenarios.streams import streams

ONE = numbered(1)
FIRST = {Family.V4: "10.0.2.11", Family.V6: "2001:db8:ec2:2::11"}
THREE = replace(
    ONE,
    ipv4=(FIRST[Family.V4], "10.0.2.50", "10.0.2.7"),
    ipv6=(FIRST[Family.V6], "2001:db8:ec2:2::50", "2001:db8:ec2:2::7"),
)
SIZES = pytest.mark.parametrize("script", [ONE, THREE], ids=["one-address", "three"])
FAMILIES = pytest.mark.parametrize("family", Family, ids=lambda family: family.label)


async def on_link(host: HostUnderTest, family: Family, *which: str) -> list[str]:
    """The global addresses with their lengths, in the kernel's order."""
    words = " ".join(which)
    shown = await host.ip(f"-{family} -oneline addr show dev eth1 scope global {words}")
    return [line.split()[3] for line in shown.splitlines()]


async def are(host: HostUnderTest, family: Family, *wanted: str) -> None:
    """Wait until the link has these addresses; of IPv4 in this order, which IPv6 does not have."""

    async def so() -> bool:
        there = await on_link(host, family)
        return there == [*wanted] or (family is Family.V6 and sorted(there) == sorted(wanted))

    await eventually(so, lambda: f"the link has not {wanted}")


def ours(host: HostUnderTest, family: Family) -> list[str]:
    return [f"{ip}/{ip.max_prefixlen}" for ip in host.eni("eth1").addresses(family)]


def lease(family: Family) -> str:
    """A client's address, with the length that its leases have."""
    return f"{FIRST[family]}/{24 if family is Family.V4 else 128}"


def taken_over(host: HostUnderTest, family: Family) -> list[str]:
    """What the link has beside a client that came last.

    In IPv4 its address stands behind all others; so ours, the first, stays where there are others.
    """
    first, *others = ours(host, family)
    if family is Family.V4 and others:
        return [first, *others, lease(family)]
    return [lease(family), *others]


async def is_settled(host: HostUnderTest) -> None:
    await host.daemon.post("/v1/reconcile")
    await host.until("eth1", complete)


def without_the_first(said: Sequence[str], there: Sequence[str]) -> list[Family]:
    """The families whose first address was missing on the link at some moment."""
    entries, missing = set(there), set[Family]()
    for line in said:
        words = line.removeprefix("Deleted ").split()
        if "inet" not in words[2]:
            continue
        (entries.discard if line.startswith("Deleted") else entries.add)(words[3])
        has = {entry.partition("/")[0] for entry in entries}
        missing |= {family for family, first in FIRST.items() if first not in has}
    return sorted(missing)


@SIZES
async def test_without_a_client_all_are_there_in_imds_s_order(script: EniScript) -> None:
    async with ec2_host(script) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        assert await on_link(host, Family.V4) == ours(host, Family.V4)
        assert await on_link(host, Family.V6, "-deprecated") == [f"{FIRST[Family.V6]}/128"]
        await host.all_reachable("eth1")


@SIZES
@FAMILIES
async def test_a_client_takes_over_and_no_moment_lacks_the_address(
    family: Family, script: EniScript
) -> None:
    """It comes late, and renews, and streams go on all the while."""
    async with ec2_host(script) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        before = [entry for each in Family for entry in await on_link(host, each)]
        async with streams(host, "eth1"), host.changes("address") as said:
            for _ in range(2):
                await host.vpc.lease(host.eni("eth1"), family, default=True)
                await is_settled(host)
                await are(host, family, *taken_over(host, family))
        assert without_the_first(said, before) == []
        assert any(lease(family) in line for line in said)  # it has heard of the lease


@SIZES
@FAMILIES
async def test_a_client_that_lets_go_leaves_the_address_to_us(
    family: Family, script: EniScript
) -> None:
    """It takes its address away at its end, or all of the link's, as dhclient does in IPv4."""
    async with ec2_host(script) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        for command in (f"addr del {lease(family)} dev eth1", f"-{family} addr flush dev eth1"):
            async with streams(host, "eth1"):
                await host.vpc.lease(host.eni("eth1"), family)
                await are(host, family, *taken_over(host, family))
                scope = " scope global" if "flush" in command else ""
                await host.ip(command + scope)
                await are(host, family, *ours(host, family))
        assert await on_link(host, Family.V6, "-deprecated") == [f"{FIRST[Family.V6]}/128"]
        await host.all_reachable("eth1")


@FAMILIES
async def test_a_setting_leaves_the_first_address_to_a_client_for_a_while(family: Family) -> None:
    async with ec2_host(THREE, config=settings({"address_wait": 3600.0})) as host:
        await host.plug("eth1")
        await host.shows("eth1", "state", "validated")
        assert FIRST[family] not in await host.ip(f"-{family} addr show dev eth1")
        await host.vpc.lease(host.eni("eth1"), family)
        await are(host, family, lease(family), *ours(host, family)[1:])


async def test_one_that_was_removed_alone_comes_back_behind_the_others() -> None:
    """As by a dhclient that was refused; the order stays: nothing that is there is taken for it."""
    async with ec2_host(THREE) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        first, *others = ours(host, Family.V4)
        async with streams(host, "eth1"):
            await host.ip(f"address del {first} dev eth1")
            await are(host, Family.V4, *others, first)
            await host.vpc.lease(host.eni("eth1"), Family.V4, default=True)
            await is_settled(host)
            await are(host, Family.V4, *others, lease(Family.V4))
        await host.all_reachable("eth1")
