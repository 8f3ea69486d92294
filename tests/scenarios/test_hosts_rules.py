"""What else lives on a host keeps its traffic, and what is an ENI's leaves by it.

Reachability is judged by TCP, from far hosts and neighbours, to every ENI of the host, the primary
too. What others do comes before the daemon's work on the ENI, or after it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest

from nicwatchd.core.model import Family, IPAddress
from nicwatchd.sim import containers
from nicwatchd.sim.probe import all_answer, paths
from tests.scenarios.earlier import first_edition
from tests.scenarios.host import (
    DEFAULT,
    WITHIN,
    HostUnderTest,
    complete,
    ec2_host,
    numbered,
    settings,
)
from tests.scenarios.streams import streams

pytestmark = pytest.mark.long


ETH1 = numbered(1)
# So many addresses that they have a rule for the subnet.
MANY = numbered(
    1,
    ipv4=tuple(f"10.0.2.{n}" for n in (11, *range(21, 26))),
    ipv6=tuple(f"2001:db8:ec2:2::{n}" for n in (11, *range(21, 26))),
)
SOURCE = {Family.V4: ETH1.ipv4[0], Family.V6: ETH1.ipv6[0]}
FAR = {Family.V4: "198.51.100.50", Family.V6: "2001:db8:5100::50"}
WITHOUT_ETH2 = settings().replace('exclude = ["c-*"]', 'exclude = ["c-*", "eth2"]')

BOTH = pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
FIRST = pytest.mark.parametrize("first", ["theirs", "ours"])


async def way(host: HostUnderTest, to: str, source: str) -> str:
    """Where the kernel sends a packet from this source, as `ip` says it."""
    words = f"-{ip_address(to).version} route get {to} from {source}"
    return " ".join((await host.ip(words)).split())


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that no event tells of."""
    async with asyncio.timeout(WITHIN):
        while not await holds():  # noqa: ASYNC110 (see above)
            await asyncio.sleep(0.02)


async def becomes(right: Callable[[str], bool], host: HostUnderTest, to: str, source: str) -> None:
    """Wait until the kernel's answer is right."""

    async def holds() -> bool:
        return right(await way(host, to, source))

    await eventually(holds)


async def no_rule_has(words: str, host: HostUnderTest) -> None:
    """Wait until no rule of ours, guards aside, has these words."""

    async def holds() -> bool:
        return not any(words in rule for rule in await host.own_rules())

    await eventually(holds)


async def applied(host: HostUnderTest) -> None:
    await host.plug("eth1")
    await host.until("eth1", complete)


def excluded_parts() -> tuple[str, ...]:
    """How its owner configures eth2, with host addresses and rules that name no priority."""
    a4, a6 = numbered(2, subnet=2).ipv4[0], numbered(2, subnet=2).ipv6[0]
    return (
        "link set eth2 up",
        f"addr add {a4}/32 dev eth2",
        f"addr add {a6}/128 dev eth2 nodad",
        "route add default via 10.0.2.1 dev eth2 onlink table 102",
        "-6 route add default via fe80:ec2::1 dev eth2 table 102",
        f"rule add from {a4} lookup 102",
        f"-6 rule add from {a6} lookup 102",
    )


@FIRST
async def test_a_subnet_with_another_links_address_is_not_selected_as_a_whole(first: str) -> None:
    """An excluded ENI in the subnet, with a /32 and a /128."""
    async with ec2_host(MANY, numbered(2, subnet=2), config=WITHOUT_ETH2) as host:
        if first == "ours":
            await applied(host)
        await host.plug("eth2")
        for words in excluded_parts():
            await host.ip(words)
        if first == "theirs":
            await applied(host)
        await host.daemon.post("/v1/reconcile")
        assert not [rule for rule in await host.own_rules() if " iif lo " in rule]
        await host.all_reachable("eth0", "eth1", "eth2")


@FIRST
async def test_the_primarys_host_address_in_the_subnet_keeps_its_traffic(first: str) -> None:
    """By DHCPv6 as a /128, which IMDS does not tell of."""
    address = "2001:db8:ec2:2::99"
    async with ec2_host(MANY) as host:
        if first == "ours":
            await applied(host)
        await host.ip(f"addr add {address}/128 dev eth0 nodad valid_lft 450 preferred_lft 140")
        if first == "theirs":
            await applied(host)
        await becomes(lambda answer: "dev eth0" in answer, host, FAR[Family.V6], address)
        await host.ip(f"addr del {address}/128 dev eth0")
        await host.all_reachable("eth0", "eth1")


@BOTH
@FIRST
@pytest.mark.parametrize("priority", ["", "pref 32765"], ids=["none", "networkd 252's choice"])
async def test_a_rule_without_a_priority_comes_before_ours(
    first: str, family: Family, priority: str
) -> None:
    hop = {Family.V4: "10.0.2.250", Family.V6: "2001:db8:ec2:2::fa"}[family]
    rule = f"-{family.value} rule add from {SOURCE[family]} {priority} lookup 1000"
    async with ec2_host(ETH1) as host:
        await host.plug("eth1")
        if first == "theirs":
            await host.ip(rule)
        await host.until("eth1", complete)
        if first == "ours":
            await host.ip(rule)
        # What their table leaves open is ours.
        assert "table 100" in await way(host, FAR[family], SOURCE[family])
        await host.all_reachable("eth0", "eth1")
        words = f"default via {hop} dev eth1 onlink table 1000"
        await host.ip(f"-{family.value} route add {words}")
        await becomes(lambda answer: f"via {hop}" in answer, host, FAR[family], SOURCE[family])


@BOTH
async def test_a_negated_rule_that_wins_is_named(family: Family) -> None:
    async with ec2_host(ETH1) as host:
        await applied(host)
        await host.ip("link add c-wg type veth peer name c-wgp")
        await host.ip("link set c-wg up")
        await host.ip("link set c-wgp up")
        anybody = {Family.V4: "198.18.0.0/15", Family.V6: "2001:2::/48"}[family]
        await host.ip(f"-{family.value} route add {anybody} dev c-wg table 51820")
        await host.ip(f"-{family.value} rule add not fwmark 51820 lookup 51820")
        await host.daemon.post("/v1/reconcile")
        assert "by the rule at priority" in (await host.status("eth1"))["notes"][0]["text"]


async def test_whoever_reads_all_tables_finds_mains_default_first() -> None:
    async with ec2_host(ETH1) as host:
        await applied(host)
        shown = await host.vpc.exec(host.vpc.host, "cat", "/proc/net/ipv6_route")
        fields = [line.split() for line in shown.splitlines()]
        defaults = [f for f in fields if f[0] == "0" * 32 and f[1] == "00" and f[9] != "lo"]
        assert sorted(f[9] for f in defaults) == ["eth0", "eth0", "eth0", "eth1"]
        assert defaults[0][9] == "eth0"
        assert min(defaults, key=lambda f: int(f[5], 16))[9] == "eth0"
        for family in Family:
            dumped = (await host.ip(f"-{family.value} route show table all")).splitlines()
            ways = [line for line in dumped if line.startswith("default via")]
            assert "dev eth0" in ways[0]


@FIRST
async def test_where_the_local_table_comes_late_the_hosts_own_addresses_stay_local(
    first: str,
) -> None:
    """As on hosts with VRFs."""
    async with ec2_host(ETH1) as host:
        if first == "ours":
            await applied(host)
        for family in Family:
            await host.ip(f"-{family.value} rule add pref 32765 lookup local")
            await host.ip(f"-{family.value} rule del pref 0")
        if first == "theirs":
            await applied(host)
        for family, to in ((Family.V4, "10.0.1.10"), (Family.V6, "2001:db8:ec2:1::10")):
            await becomes(lambda answer: answer.startswith("local "), host, to, SOURCE[family])
        await host.all_reachable("eth0", "eth1")
        for family in Family:
            shown = (await host.ip(f"-{family.value} rule")).splitlines()
            own = [line for line in shown if "proto 236" in line]
            assert len(own) == 12, "two ENIs, each with a chain by its name and one by its address"
            await host.ip(f"-{family.value} rule add pref 0 lookup local")
        await no_rule_has("lookup local", host)


@BOTH
async def test_a_transparent_proxys_calls_go_where_main_says(family: Family) -> None:
    """Its sources are of other hosts in the ENI's subnet."""
    source = {Family.V4: "10.0.2.250", Family.V6: "2001:db8:ec2:2::fa"}[family]
    to = {Family.V4: "10.0.1.250", Family.V6: "2001:db8:ec2:1::fa"}[family]
    kind, level = (
        (socket.AF_INET, (socket.SOL_IP, 19))  # IP_TRANSPARENT
        if family is Family.V4
        else (socket.AF_INET6, (socket.IPPROTO_IPV6, 75))  # IPV6_TRANSPARENT
    )
    async with ec2_host(ETH1) as host:
        await applied(host)
        before = await host.vpc.dropped(host.eni("eth0"))
        with host.vpc.socket(host.vpc.host, kind) as caller:
            caller.setsockopt(*level, 1)
            caller.bind((source, 0))
            caller.connect_ex((to, 80))

            async def dropped() -> bool:  # by EC2's source check, as without nicwatchd
                return await host.vpc.dropped(host.eni("eth0")) > before

            await eventually(dropped)
        assert await host.vpc.dropped(host.eni("eth1")) == 0


@BOTH
@FIRST
async def test_an_overlay_address_on_the_eni_answers_by_it(first: str, family: Family) -> None:
    address = {Family.V4: "192.168.77.10/32", Family.V6: "fd77::10/128"}[family]
    source = address.split("/")[0]
    async with ec2_host(ETH1) as host:
        await host.plug("eth1")
        if first == "ours":
            await host.until("eth1", complete)

        async def is_up() -> bool:
            return " UP" in await host.ip("-br link show eth1")

        await eventually(is_up)
        await host.ip(f"addr add {address} dev eth1")
        await host.until("eth1", complete)
        await becomes(lambda answer: "dev eth1" in answer, host, FAR[family], source)
        await host.all_reachable("eth0", "eth1")
        await host.ip(f"addr del {address} dev eth1")
        await no_rule_has(f"from {source} ", host)


@pytest.mark.parametrize("why", ["excluded", "released", "foreign group"])
@FIRST
async def test_hosts_of_the_subnets_of_links_left_alone_are_answered(first: str, why: str) -> None:
    config = WITHOUT_ETH2 if why == "excluded" else DEFAULT
    async with ec2_host(ETH1, numbered(2), config=config) as host:
        if first == "ours":
            await applied(host)
        await host.plug("eth2")
        if why == "foreign group":
            await host.ip("link set eth2 group 5")
        if why == "released":
            await host.until("eth2", lambda _: True)
            await host.daemon.post("/v1/release?interface=eth2")
        await host.ip("link set eth2 up")
        for family in Family:  # main has on-link routes through eth2 now
            await host.vpc.lease(host.eni("eth2"), family)
        await host.ip("-6 route replace 2001:db8:ec2:3::/64 dev eth2")
        if first == "theirs":
            await applied(host)
        near = host.vpc.neighbour(host.eni("eth2").subnet)
        mine: list[IPAddress] = list(host.eni("eth1").addresses())
        await all_answer(host.vpc, paths([near], mine), WITHIN)
        await host.all_reachable("eth1")


@FIRST
async def test_neighbours_are_answered_where_an_excluded_eni_is_in_the_same_subnet(
    first: str,
) -> None:
    """Main's on-link route there leads through the excluded one.

    So the primary's answers to these neighbours do, too, with or without nicwatchd.
    """
    async with ec2_host(ETH1, numbered(2, subnet=2), config=WITHOUT_ETH2) as host:
        if first == "ours":
            await applied(host)
        await host.plug("eth2")
        await host.ip("link set eth2 up")
        await host.vpc.lease(host.eni("eth2"), Family.V4)
        await host.ip("-6 route add 2001:db8:ec2:2::/64 dev eth2 metric 1")
        if first == "theirs":
            await applied(host)
        await host.all_reachable("eth1")


# --- connections that last ---------------------------------------------------------------------


async def test_connections_live_through_the_way_from_the_first_edition() -> None:
    async with ec2_host(ETH1) as host:
        await applied(host)
        await host.all_reachable("eth1")
        before = await host.kernel_objects()
        async with streams(host, "eth1"):
            await host.daemon.stop()
            await first_edition(host)
            daemon = await host.ec2.start_daemon(DEFAULT)
            await daemon.until("eth1", complete)
            await daemon.post("/v1/reconcile")
            assert await host.kernel_objects() == before


async def test_connections_live_through_a_deleted_guard_and_a_restart() -> None:
    async with ec2_host(ETH1) as host:
        await applied(host)
        await host.all_reachable("eth1")

        async def shown() -> dict[Family, list[str]]:
            told = {family: await host.ip(f"-{family.value} rule") for family in Family}
            return {family: sorted(text.splitlines()) for family, text in told.items()}

        async def as_before() -> bool:
            return await shown() == rules

        rules = await shown()
        async with streams(host, "eth1"):
            for family in Family:
                guard = f"from {SOURCE[family]} lookup main suppress_prefixlength 0"
                words = f"{guard} suppress_ifgroup 3778 protocol 236"
                await host.ip(f"-{family.value} rule del pref 32765 {words}")
                await eventually(as_before)
            await host.daemon.stop()
            daemon = await host.ec2.start_daemon(DEFAULT)
            await daemon.until("eth1", complete)
            await daemon.post("/v1/reconcile")
        assert await as_before()
        for family in Family:
            own = (await host.ip(f"-{family.value} rule")).splitlines()
            chain = [rule for rule in own if f"from {SOURCE[family]} " in rule]
            assert [" lookup main " in rule for rule in chain] == [True, False]


# --- defaults of main that are errors -----------------------------------------------------------


async def guards(host: HostUnderTest, family: Family) -> list[str]:
    """The guards of ours that are for whatever a source sends."""
    lines = (await host.ip(f"-{family.value} rule")).splitlines()
    return [line for line in lines if "suppress" in line and " to " not in line]


async def no_guard_is_left(host: HostUnderTest, family: Family) -> None:
    async def holds() -> bool:
        return not await guards(host, family)

    await eventually(holds)


async def primary_by_a_table(host: HostUnderTest, family: Family) -> None:
    """An operator lets what the primary's address sends pass, whatever main says."""
    subnet = {Family.V4: "10.0.1.0/24", Family.V6: "2001:db8:ec2:1::/64"}[family]
    router = {Family.V4: "10.0.1.1", Family.V6: "fe80:ec2::1"}[family]
    source = next(a for a in host.eni("eth0").addresses() if a.version == family)
    for words in (
        f"route add {subnet} dev eth0 table 102",
        f"route add default via {router} dev eth0 table 102",
        f"rule add from {source} lookup 102 pref 100",
    ):
        await host.ip(f"-{family.value} {words}")


@BOTH
@FIRST
@pytest.mark.parametrize("kind", ["unreachable", "blackhole", "prohibit"])
async def test_an_error_as_mains_default_leaves_the_enis_served(
    kind: str, first: str, family: Family
) -> None:
    """It comes and goes; containers are reached all the time."""
    error = f"{kind} default metric 50"
    async with ec2_host(ETH1) as host:
        await primary_by_a_table(host, family)
        net4, net6 = IPv4Network("172.17.0.0/16"), IPv6Network("fd17::/64")
        boxes = [await containers.bridged(host.vpc, net4, net6)]
        if first == "ours":
            await applied(host)
        await host.ip(f"-{family.value} route add {error}")
        if first == "theirs":
            await applied(host)

        await no_guard_is_left(host, family)
        for bound in ("", " oif eth1"):
            answer = await way(host, FAR[family], f"{SOURCE[family]}{bound}")
            assert "dev eth1 table" in answer
        await host.all_reachable("eth0", "eth1")
        # The networks follow main.
        net4, net6 = IPv4Network("172.18.0.0/16"), IPv6Network("fd18::/64")
        boxes.append(await containers.bridged(host.vpc, net4, net6, "br1"))
        await host.all_reachable("eth1", peers=boxes)
        codes = {note["code"] for note in (await host.status("eth1"))["notes"]}
        assert "main-closed" in codes
        await host.ip(f"-{family.value} route del {error}")
        await host.daemon.post("/v1/reconcile")
        assert await guards(host, family)
        assert " to " not in await host.ip(f"-{family.value} rule")
        await host.all_reachable("eth0", "eth1")
        await host.all_reachable("eth1", peers=boxes)


@BOTH
async def test_an_error_behind_a_real_default_matters_only_once_that_is_gone(
    family: Family,
) -> None:
    v = family.value
    async with ec2_host(ETH1) as host:
        await primary_by_a_table(host, family)
        await applied(host)
        await host.ip(f"-{v} route add unreachable default metric 4278198272")
        await host.daemon.post("/v1/reconcile")
        assert any(f"from {SOURCE[family]} " in guard for guard in await guards(host, family))
        answer = await way(host, FAR[family], f"{SOURCE[family]} oif eth1")
        assert "dev eth1 table" in answer
        await host.all_reachable("eth0", "eth1")
        await host.ip(f"-{v} route del default dev eth0")
        await no_guard_is_left(host, family)
        await host.all_reachable("eth0", "eth1")


@BOTH
async def test_a_throw_route_as_mains_default_ends_no_look_up(family: Family) -> None:
    async with ec2_host(ETH1) as host:
        await applied(host)
        await primary_by_a_table(host, family)
        await host.ip(f"-{family.value} route add throw default metric 1")
        await host.daemon.post("/v1/reconcile")
        assert await guards(host, family)
        await host.ip(f"-{family.value} route del throw default metric 1")
        await host.all_reachable("eth1")


async def test_an_error_for_all_ipv6_of_the_internet() -> None:
    async with ec2_host(ETH1) as host:
        await primary_by_a_table(host, Family.V6)
        await host.ip("-6 route add blackhole 2000::/3")
        await applied(host)
        await host.all_reachable("eth1")
