"""The host's own routes do not lead to IMDS, and the ENIs' do: asked bound to an ENI's link."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from nicwatchd.core.model import Family
from nicwatchd.sim.ec2 import Ec2
from nicwatchd.sim.probe import Watch
from nicwatchd.sim.script import Scenario
from nicwatchd.sim.vpc import Vpc
from tests.scenarios.host import PRIMARY, QUICK, WITHIN, HostUnderTest, numbered, settings

# Neither a namespace's root nor the daemon's user needs CAP_NET_RAW for it.
AS_THE_UNIT = ("setpriv", "--bounding-set", "-all,+net_admin", "--inh-caps", "-all,+net_admin")
V4, V6 = "http://169.254.169.254", "http://[fd00:ec2::254]"
ENDPOINTS = {Family.V4: V4, Family.V6: V6}
IMDS = {Family.V4: "169.254.169.254", Family.V6: "fd00:ec2::254"}
# A full tunnel: whatever goes in is lost.
TUNNEL = (
    "link add c-tun type veth peer name c-tup",
    "link set c-tun up",
    "link set c-tup up",
    "addr add 10.8.0.2/24 dev c-tun",
    "neigh add 10.8.0.1 lladdr 02:00:00:00:0f:0f dev c-tun nud permanent",
    "addr add fd08::2/64 dev c-tun nodad",
    "neigh add fd08::1 lladdr 02:00:00:00:0f:0f dev c-tun nud permanent",
)
BY_MAIN = (
    *TUNNEL,
    "route add default via 10.8.0.1 dev c-tun",
    "route add ::/0 via fd08::1 dev c-tun metric 50",
)
BY_A_RULE = (  # as wg-quick does
    *TUNNEL,
    "route add default via 10.8.0.1 dev c-tun table 51820",
    "route add ::/0 via fd08::1 dev c-tun table 51820",
    "rule add not fwmark 51820 lookup 51820",
    "-6 rule add not fwmark 51820 lookup 51820",
)
WAYS = {
    "a tunnel by main": (BY_MAIN, "(by c-tun)"),
    "a tunnel by a rule": (BY_A_RULE, "(by c-tun)"),
    "an unreachable default": (
        ("route add unreachable default metric 1", "route add unreachable ::/0 metric 1"),
        "(an unreachable route)",
    ),
    **{
        kind: (tuple(f"route add {kind} {imds}" for imds in IMDS.values()), words)
        for kind, words in {
            "blackhole": "(a blackhole route or rule)",
            "unreachable": "(an unreachable route)",
            "prohibit": "(a prohibit route or rule)",
        }.items()
    },
}


def asked_by(family: Family) -> str:
    return settings(QUICK) + f'[imds]\nendpoints = ["{ENDPOINTS[family]}"]\n'


async def change(vpc: Vpc, commands: Sequence[str]) -> None:
    """Run commands of `ip` on the host; those that begin with -6 need it."""
    await vpc.ip(vpc.host, *(each for each in commands if not each.startswith("-6 ")))
    six = [each.removeprefix("-6 ") for each in commands if each.startswith("-6 ")]
    await vpc.ip(vpc.host, *six, family=Family.V6)


@asynccontextmanager
async def host_with(
    config: str, before: Sequence[str] = (), wrapper: Sequence[str] = ()
) -> AsyncIterator[HostUnderTest]:
    """A host whose routes are as these commands of `ip` have it before the daemon starts.

    What a tunnel does to the primary's own traffic is not judged here.
    """
    async with Ec2(Scenario(PRIMARY.mac, (PRIMARY, numbered(1)))) as ec2:
        await change(ec2.vpc, before)
        daemon = await ec2.start_daemon(config, wrapper)
        yield HostUnderTest(ec2, daemon, cast("Watch", None))


async def imds_by(host: HostUnderTest, device: str | None) -> dict[str, str]:
    """Wait until IMDS answers by this link; returns the state of IMDS."""
    async with asyncio.timeout(WITHIN):
        while True:
            imds: dict[str, str] = (await host.daemon.get("/v1/status"))["imds"]
            if (imds["state"], imds["device"]) == ("ok", device):
                return imds
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
@pytest.mark.parametrize("way", WAYS)
async def test_where_the_hosts_routes_lead_elsewhere_an_eni_asks(way: str, family: Family) -> None:
    commands, words = WAYS[way]
    async with host_with(asked_by(family), commands) as host:
        await host.plug("eth1")
        await host.until("eth1", lambda status: status["state"] == "applied")
        detail = (await imds_by(host, "eth0"))["detail"]
        assert detail.startswith("bound to eth0; by the host's routes: ")
        assert words in detail


async def test_a_rule_that_ends_the_lookup() -> None:
    """IPv4 takes a destination for on-link then, where the socket is bound; IPv6 does not."""
    rules = ("pref 50 to 169.254.169.254 prohibit", "-6 rule add pref 50 to fd00:ec2::254 prohibit")
    async with host_with(settings(QUICK), (f"rule add {rules[0]}", rules[1])) as host:
        imds = await imds_by(host, "eth0")
        assert imds["endpoint"] == V4
        assert "[fd00:ec2::254]: permission denied" in imds["detail"]
    async with host_with(asked_by(Family.V6), rules[1:]) as host:
        await host.imds_is("unreachable")
        detail = (await host.daemon.get("/v1/status"))["imds"]["detail"]
        assert "(a prohibit route or rule); nor bound to eth0 ([fd00:ec2::254]: " in detail


@pytest.mark.parametrize("way", ["a tunnel by main", "blackhole"])
async def test_it_comes_while_the_daemon_runs(way: str) -> None:
    async with host_with(settings(QUICK)) as host:
        await imds_by(host, None)
        await change(host.vpc, WAYS[way][0])
        await host.plug("eth1")
        await host.until("eth1", lambda status: status["state"] == "applied")
        await imds_by(host, "eth0")
        await host.logged("IMDS answers (bound to eth0; by the host's routes: ")


async def test_another_eni_asks_where_the_primary_cannot() -> None:
    firewall = "add table inet cut; add chain inet cut out { type filter hook output priority 0; }"
    firewall += '; add rule inet cut out oifname "eth0" ip daddr 169.254.169.254 reject'
    async with host_with(asked_by(Family.V4)) as host:
        await host.plug("eth1")
        await host.until("eth1", lambda status: status["state"] == "applied")
        await host.vpc.exec(host.vpc.host, "nft", firewall)
        detail = (await imds_by(host, "eth1"))["detail"]
        assert "169.254.169.254: " in detail
        assert "(by eth0)" in detail


async def test_a_kill_switch_is_named() -> None:
    """Only the tunnel may send: then nothing reaches IMDS, and the reason says by which links."""
    firewall = "add table inet cut; add chain inet cut out { type filter hook output priority 0; }"
    firewall += '; add rule inet cut out oifname { "eth0", "eth1" } ip daddr 169.254.169.254 drop'
    async with host_with(asked_by(Family.V4), BY_MAIN) as host:
        await imds_by(host, "eth0")
        await host.vpc.exec(host.vpc.host, "nft", firewall)
        await host.imds_is("unreachable")
        detail = (await host.daemon.get("/v1/status"))["imds"]["detail"]
        assert "(by c-tun); nor bound to eth0 (169.254.169.254: " in detail


async def test_net_admin_alone_is_enough() -> None:
    commands, _ = WAYS["blackhole"]
    async with host_with(settings(QUICK), commands, AS_THE_UNIT) as host:
        await imds_by(host, "eth0")
