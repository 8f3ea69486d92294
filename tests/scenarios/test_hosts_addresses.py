"""Whose an address of an ENI is: the host's, a container's, or that of whoever moves it about.

Judged by TCP paths from every far host and neighbour where the address answers, and by what is on
the link where it must not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address

import pytest

from nicwatchd.core.model import Family
from nicwatchd.sim import containers
from nicwatchd.sim.parts import Peer
from nicwatchd.sim.probe import Acceptor, reach
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

pytestmark = pytest.mark.long


OWN = {Family.V4: "10.0.2.11", Family.V6: "2001:db8:ec2:2::11"}
OTHER = {Family.V4: "10.0.2.50", Family.V6: "2001:db8:ec2:2::50"}
PLAIN = numbered(1)
WITH_OTHER = numbered(
    1, ipv4=(OWN[Family.V4], OTHER[Family.V4]), ipv6=(OWN[Family.V6], OTHER[Family.V6])
)
FAST = settings(QUICK)

BOTH = pytest.mark.parametrize("family", Family, ids=lambda family: family.label)


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what has no event."""
    async with asyncio.timeout(WITHIN):
        while not await is_so():  # noqa: ASYNC110 (see above)
            await asyncio.sleep(0.05)


async def applied(host: HostUnderTest) -> None:
    await host.plug("eth1")
    await host.until("eth1", complete)


async def on_link(host: HostUnderTest, family: Family, address: str | None = None) -> bool:
    shown = await host.ip(f"-{family} -oneline addr show dev eth1 to {address or OTHER[family]}")
    return bool(shown.strip())


async def appears(host: HostUnderTest, family: Family) -> None:
    await until(lambda: on_link(host, family))


async def goes(host: HostUnderTest, family: Family) -> None:
    async def is_gone() -> bool:
        return not await on_link(host, family)

    await until(is_gone)


async def noted(host: HostUnderTest, code: str, *, times: int = 1) -> None:
    async def is_noted() -> bool:
        notes = (await host.status("eth1"))["notes"]
        return [note["code"] for note in notes].count(code) == times

    await until(is_noted)


# --- it lives elsewhere on the host --------------------------------------------------------------


async def restart(host: HostUnderTest, between: Callable[[], Awaitable[Peer]], config: str) -> Peer:
    await host.daemon.stop()
    made = await between()
    await host.daemon.start(config)
    await host.until("eth1", complete)
    return made


@asynccontextmanager
async def boxed(host: HostUnderTest, first: str) -> AsyncIterator[Peer]:
    """A container that has an address of eth1's: before the daemon knows eth1, or after."""
    v4, v6 = (ip_address(OTHER[family]) for family in Family)

    async def make() -> Peer:
        return await containers.delegated(host.vpc, "c-box", v4, v6)  # type: ignore[arg-type]

    match first:
        case "container":
            box = await make()
            await applied(host)
        case "daemon":
            await applied(host)
            for family in Family:
                await appears(host, family)
            box = await make()
        case _:
            await applied(host)
            box = await restart(host, make, settings())
    for family in Family:
        await goes(host, family)
    async with Acceptor(host.vpc, box.namespace):
        yield box


@pytest.mark.parametrize("first", ["container", "daemon", "restart"])
async def test_an_address_that_a_container_has(first: str) -> None:
    async with ec2_host(WITH_OTHER) as host, boxed(host, first) as box:
        await host.all_reachable("eth1", addresses=box.addresses)
        await host.all_reachable("eth1", addresses=[ip_address(ip) for ip in OWN.values()])
        async with Acceptor(host.vpc, host.vpc.far):
            for far in host.vpc.far_hosts:
                for to in far.addresses:
                    reply = await reach(host.vpc, box.namespace, to)
                    assert reply is not None
                    assert reply.seen_as == box.address(Family(to.version))
        await noted(host, "lives-elsewhere", times=2)
        assert complete(await host.status("eth1"))
        # It is the host's again when the container goes, which takes its routes without a word.
        await host.ip("link del c-box")
        await host.all_reachable("eth1")
        await noted(host, "lives-elsewhere", times=0)


@pytest.mark.parametrize("rules", ["subnet", "address"])
async def test_an_address_that_a_container_has_under_each_kind_of_rules(rules: str) -> None:
    config = settings(rules=rules)
    async with ec2_host(WITH_OTHER, config=config) as host, boxed(host, "daemon") as box:
        await host.all_reachable("eth1", addresses=box.addresses)


@dataclass(frozen=True)
class Sign:
    """What shows that an address lives elsewhere: how it comes, and how it goes."""

    add: tuple[str, ...]
    delete: tuple[str, ...]


LINK = "link add c-box type veth peer name c-box2"
UP = ("link set c-box up", "link set c-box2 up")
SIGNS = {
    "a route": Sign(("route add {other} dev c-box",), ("route del {other}",)),
    "a route by BIRD": Sign(
        ("route add {other} dev c-box proto bird metric 32",), ("route del {other}",)
    ),
    "several next hops": Sign(
        ("route add {other} nexthop {hop} dev c-box nexthop {hop} dev c-box2",),
        ("route del {other}",),
    ),
    "a next-hop object": Sign(
        ("nexthop add id 7 dev c-box", "route add {other} nhid 7"), ("nexthop del id 7",)
    ),
    "a link that goes down": Sign(("route add {other} dev c-box",), ("link set c-box down",)),
    "a rule `to`": Sign(("rule add pref 600 to {other} lookup main",), ("rule del pref 600",)),
    "a rule `from`": Sign(("rule add pref 1600 from {other} lookup 2",), ("rule del pref 1600",)),
}


@BOTH
@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("first", ["sign", "daemon"])
async def test_what_shows_that_an_address_lives_elsewhere(
    sign: str, first: str, family: Family
) -> None:
    its = SIGNS[sign]

    async def do(commands: tuple[str, ...]) -> None:
        hop = "via fe80::7" if family is Family.V6 else ""  # which IPv6 needs for several
        for command in commands:
            await host.ip(f"-{family} {command.format(other=OTHER[family], hop=hop)}")

    async with ec2_host(WITH_OTHER) as host:
        for command in (LINK, *UP):
            await host.ip(command)
        if first == "sign":
            await do(its.add)
            await applied(host)
        else:
            await applied(host)
            await appears(host, family)
            await do(its.add)
        await goes(host, family)
        await noted(host, "lives-elsewhere")
        table = (await host.status("eth1"))["table"]
        assert f"from {OTHER[family]} lookup {table}" in await host.own_rules()
        assert await on_link(host, family, OWN[family])
        await do(its.delete)
        await appears(host, family)
        await noted(host, "lives-elsewhere", times=0)


@BOTH
@pytest.mark.parametrize("which", [OWN, OTHER], ids=["first", "second"])
async def test_rules_that_lead_both_ways_to_one_table_are_of_the_hosts_own_address(
    which: dict[Family, str], family: Family
) -> None:
    """As many guides have it for a host with two interfaces."""
    async with ec2_host(WITH_OTHER) as host:
        for word in ("from", "to"):
            await host.ip(f"-{family} rule add {word} {which[family]} lookup 100")
        await applied(host)
        await host.daemon.post("/v1/reconcile")
        assert await on_link(host, family, which[family])


@BOTH
async def test_a_route_to_the_address_through_an_eni_is_no_sign(family: Family) -> None:
    router = "10.0.1.1" if family is Family.V4 else "fe80:ec2::1"
    async with ec2_host(WITH_OTHER) as host:
        await host.ip(f"-{family} route add {OTHER[family]} via {router} dev eth0")
        await applied(host)
        await host.daemon.post("/v1/reconcile")
        assert await on_link(host, family)


@BOTH
async def test_the_settings_leave_an_address_to_others(family: Family) -> None:
    async with ec2_host(WITH_OTHER) as host:
        await applied(host)
        await appears(host, family)
        left = settings(leave_addresses=[OTHER[family]])
        host.daemon.config.write_text(left)
        host.daemon.process.send_signal(1)
        await goes(host, family)
        await noted(host, "left-alone")
        assert await on_link(host, family, OWN[family])


# --- others put it on the link, and take it away -------------------------------------------------


async def floats(host: HostUnderTest, family: Family, verb: str) -> None:
    lifetime = " nodad" if family is Family.V6 and verb == "add" else ""
    bits = ip_address(OTHER[family]).max_prefixlen
    await host.ip(f"-{family} addr {verb} {OTHER[family]}/{bits} dev eth1{lifetime}")


async def stays_away(host: HostUnderTest, family: Family) -> None:
    """After a full look, which asks IMDS as well."""
    await noted(host, "taken-away")
    await host.daemon.post("/v1/reconcile")
    await noted(host, "taken-away")
    assert not await on_link(host, family)
    assert OTHER[family] not in " ".join(await host.own_rules())
    assert complete(await host.status("eth1"))


@BOTH
@pytest.mark.parametrize("first", ["manager", "IMDS"])
async def test_an_address_that_its_manager_took_away_is_not_put_back(
    first: str, family: Family
) -> None:
    async with ec2_host(PLAIN, config=FAST) as host:
        await applied(host)
        await floats(host, family, "add")
        await host.change(WITH_OTHER)
        await host.daemon.post("/v1/reconcile")
        if first == "IMDS":  # the next node had it for a while, and EC2 gives it back
            await floats(host, family, "del")
            await stays_away(host, family)
            await floats(host, family, "add")
            await noted(host, "taken-away", times=0)
        await host.all_reachable("eth1", addresses=[ip_address(OTHER[family])])
        await floats(host, family, "del")
        await stays_away(host, family)
        # Once IMDS has ceased to list it, it may come again.
        await host.change(PLAIN)
        await noted(host, "taken-away", times=0)
        await host.change(WITH_OTHER)
        await host.all_reachable("eth1", addresses=[ip_address(OTHER[family])])


@BOTH
@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_a_restart_does_not_forget_who_took_an_address_away(
    when: str, family: Family
) -> None:
    async with ec2_host(PLAIN, config=FAST) as host:
        await applied(host)
        await floats(host, family, "add")
        await host.change(WITH_OTHER)
        await host.daemon.post("/v1/reconcile")
        if when == "before":
            await floats(host, family, "del")
            await stays_away(host, family)
        await host.daemon.stop()
        if when == "meanwhile":
            await floats(host, family, "del")
        await host.daemon.start(FAST)
        await host.until("eth1", complete)
        await stays_away(host, family)
        # A release is the end of it.
        await host.daemon.post("/v1/release?interface=eth1")
        await host.daemon.post("/v1/reconcile?interface=eth1")
        await host.all_reachable("eth1", addresses=[ip_address(OTHER[family])])


@BOTH
async def test_an_address_of_ours_that_others_took_over_is_theirs(family: Family) -> None:
    bits = ip_address(OTHER[family]).max_prefixlen
    async with ec2_host(WITH_OTHER, config=FAST) as host:
        await applied(host)
        await appears(host, family)
        await host.ip(f"-{family} addr replace {OTHER[family]}/{bits} dev eth1")
        await host.daemon.post("/v1/reconcile")
        await floats(host, family, "del")
        await stays_away(host, family)


@BOTH
async def test_what_we_added_and_others_flush_is_put_back(family: Family) -> None:
    async with ec2_host(WITH_OTHER) as host:
        await applied(host)
        await appears(host, family)
        await host.ip(f"-{family} addr flush dev eth1 scope global")
        await host.all_reachable("eth1")
        await floats(host, family, "del")
        await host.all_reachable("eth1")
        assert not codes((await host.status("eth1"))["notes"]) & {"taken-away", "lives-elsewhere"}


@BOTH
async def test_a_lease_that_ends_was_not_taken_away(family: Family) -> None:
    async with ec2_host(WITH_OTHER) as host:
        await host.plug("eth1")
        await host.vpc.lease(host.eni("eth1"), family)
        await host.until("eth1", complete)
        bits = 24 if family is Family.V4 else 128
        await host.ip(f"-{family} addr del {OWN[family]}/{bits} dev eth1")
        await host.all_reachable("eth1")


async def test_a_flap_takes_ipv6_addresses_and_nobody_else() -> None:
    async with ec2_host(PLAIN, config=FAST) as host:
        await applied(host)
        for family in Family:
            await floats(host, family, "add")
        await host.change(WITH_OTHER)
        await host.daemon.post("/v1/reconcile")
        await host.ip("link set eth1 down")
        await host.ip("link set eth1 up")
        await host.all_reachable("eth1")


# --- which comes first ---------------------------------------------------------------------------


async def source(host: HostUnderTest, family: Family, to: str) -> str:
    """The source of what is bound to no address."""
    words = (await host.ip(f"-{family} route get {to}")).split()
    return words[words.index("src") + 1] + " by " + words[words.index("dev") + 1]


FAR = {Family.V4: "203.0.113.60", Family.V6: "3fff:113::60"}
AWAY = {Family.V4: "198.51.100.50", Family.V6: "2001:db8:5100::50"}
WAY = {
    Family.V4: "203.0.113.0/24 via 10.0.2.1 dev eth1 onlink",
    Family.V6: "3fff:113::/32 via fe80:ec2::1 dev eth1",
}


@BOTH
async def test_the_first_address_is_the_source_of_what_leaves_there(family: Family) -> None:
    async with ec2_host(WITH_OTHER) as host:
        await applied(host)
        await host.ip(f"-{family} route add {WAY[family]}")
        assert await source(host, family, FAR[family]) == f"{OWN[family]} by eth1"
        primary = host.eni("eth0").addresses(family)[0]
        assert await source(host, family, AWAY[family]) == f"{primary} by eth0"


async def test_another_first_ipv6_address_is_preferred_then() -> None:
    family = Family.V6
    async with ec2_host(PLAIN, config=FAST) as host:
        await applied(host)
        await host.ip(f"-6 route add {WAY[family]}")
        await host.change(replace(PLAIN, ipv6=(OTHER[family], OWN[family])))

        async def is_other() -> bool:
            return await source(host, family, FAR[family]) == f"{OTHER[family]} by eth1"

        await until(is_other)
        await host.change(PLAIN)
        await goes(host, family)
        assert await source(host, family, FAR[family]) == f"{OWN[family]} by eth1"


async def test_with_dhcpv6_ours_are_not_preferred() -> None:
    async with ec2_host(WITH_OTHER) as host:
        await host.plug("eth1")
        await host.vpc.lease(host.eni("eth1"), Family.V6)
        await host.until("eth1", complete)
        shown = await host.ip(f"-6 -oneline addr show dev eth1 to {OTHER[Family.V6]}")
        assert "deprecated" in shown
