"""What a hot-plug must not cost: the primary's addresses, and the way of the host's own traffic.

On every host, whoever runs DHCP there: with its own settings, and with a default route of the new
ENI that ties with the primary's or beats it; and a port that a container publishes.
"""

from __future__ import annotations

from functools import partial

import pytest

from nicwatchd.core.model import Family
from nicwatchd.sim.parts import Eni
from nicwatchd.sim.probe import all_answer
from tests.vm.containers import PUBLISHED, publishing
from tests.vm.enis import script
from tests.vm.host import PATIENCE, PEER_PATIENCE, VmHost

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def primary_leads(host: VmHost) -> bool:
    return [await host.leads(family) for family in Family] == ["ens5", "ens5"]


async def nothing_is_lost(host: VmHost, eni: Eni) -> None:
    """Everybody reaches both, and what the host sends unbound leaves by the primary."""
    await all_answer(host.vpc, host.paths(eni), PATIENCE)
    await all_answer(host.vpc, host.to_primary(eni), PATIENCE)
    await host.eventually(partial(primary_leads, host))


async def nothing_is_lost_beside_others(host: VmHost, eni: Eni) -> None:
    """Nor once other software, where the host has any, has configured the ENI, too."""
    await nothing_is_lost(host, eni)
    if host.peer_table is not None:
        await host.eventually(lambda: host.peer_serves(eni), PEER_PATIENCE)
        await nothing_is_lost(host, eni)


async def test_with_the_hosts_own_settings(host: VmHost) -> None:
    since = host.vm.journal.now
    async with host.plugged(script("ens6", 2)) as (eni,):
        await host.until("ens6", "applied", since)
        await nothing_is_lost_beside_others(host, eni)
    await host.until("ens6", "gone", since)
    await all_answer(host.vpc, host.to_primary(), PATIENCE)
    await host.keeps_nothing()


@pytest.mark.parametrize("metric", [512, 100], ids=["ties", "beats"])
async def test_with_a_default_route_that_wins(host: VmHost, metric: int) -> None:
    """As a DHCP client that knows of one interface alone would have it."""
    since = host.vm.journal.now
    async with host.plugged(script("ens6", 2)) as (eni,):
        await host.until("ens6", "applied", since)
        ways = {"-4": "10.0.2.1", "-6": "fe80:ec2::1"}
        for version, router in ways.items():
            words = f"route append default via {router} dev ens6 metric {metric} proto static"
            await host.vm.run("ip", version, *words.split(), "onlink")
        await nothing_is_lost(host, eni)
        # As after a reload of the primary's manager: its default comes last.
        for family in Family:
            words = f"-{family.value} -o route show default dev ens5"
            shown = (await host.vm.run("ip", *words.split())).splitlines()
            # IPv6 makes one route of two hops of those that tie, which has no single device: later
            # versions of `ip` show it all the same, with its gateways behind. And networkd's later
            # versions make next-hop objects, of which `ip` can append no copy.
            others = ("proto 236", "nhid", "nexthop")
            for theirs in (li.split() for li in shown if not any(o in li for o in others)):
                kept = theirs[: theirs.index("metric") + 2]
                for verb in ("del", "append"):
                    again = ("ip", f"-{family.value}", "route", verb, *kept, "dev", "ens5")
                    await host.vm.run(*again)
        await nothing_is_lost_beside_others(host, eni)
    await host.until("ens6", "gone", since)
    await all_answer(host.vpc, host.to_primary(), PATIENCE)
    await host.keeps_nothing()


async def test_a_published_port_answers_on_each_eni(host: VmHost) -> None:
    await host.settings('[interfaces]\nforwarded = "connmark"\n')
    since = host.vm.journal.now
    try:
        async with host.plugged(script("ens6", 2)) as (eni,):
            await host.until("ens6", "applied", since)
            async with publishing(host):
                wanted = (*host.paths(eni), *host.to_primary(eni))
                await all_answer(host.vpc, wanted, PATIENCE, PUBLISHED)
                await nothing_is_lost_beside_others(host, eni)
                await all_answer(host.vpc, wanted, PATIENCE, PUBLISHED)
        await host.until("ens6", "gone", since)
    finally:
        await host.settings()
    await host.keeps_nothing()
