"""Beside other software that routes hot-plugged ENIs by source: both do their work."""

import json
from typing import Any

import pytest

from nicwatchd.sim.probe import all_answer
from tests.vm.enis import script
from tests.vm.host import PATIENCE, PEER_PATIENCE, VmHost

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.peer]

# What changes by itself, and numbers that are new each time.
FLEETING = {
    "expires",
    "flags",
    "tentative",
    "valid_life_time",
    "preferred_life_time",
    "nhid",
    "ifindex",
}


async def foreign(host: VmHost, *what: str) -> list[dict[str, Any]]:
    """The rules, routes or addresses of both families that do not carry our mark."""
    found: list[dict[str, Any]] = []
    for family in ("-4", "-6"):
        said = json.loads(await host.vm.run("ip", "-details", "-json", family, *what))
        for row in said:
            inner = row.get("addr_info", [row])
            found += [{"family": family, "link": row.get("ifname"), **one} for one in inner]
    return [
        {key: value for key, value in row.items() if key not in FLEETING}
        for row in found
        if str(row.get("protocol")) != "236"
        # What the kernel learned of routers before anybody told it not to runs out.
        and not (row.get("protocol") == "kernel" and "expires" in row)
    ]


async def all_foreign(host: VmHost) -> set[str]:
    """All rules, routes and addresses of the host that do not carry our mark."""
    rows = [
        row
        for what in (("rule",), ("route", "show", "table", "all"), ("address",))
        for row in await foreign(host, *what)
    ]
    return {json.dumps(row, sort_keys=True) for row in rows}


async def of_the_peer(host: VmHost, table: int) -> set[str]:
    """What leads to a table, and what is in it, without the priority.

    Where a rule was made without one, the kernel puts it before the first other, maybe ours.
    """
    rules = [r for r in await foreign(host, "rule") if str(r.get("table")) == str(table)]
    # Asked for a table that does not exist, `ip` fails.
    every = await foreign(host, "route", "show", "table", "all")
    routes = [route for route in every if str(route.get("table")) == str(table)]
    return {f"from {rule['src']}" for rule in rules} | {
        f"{route['family']} {route['dst']} via {route.get('gateway')} dev {route['dev']}"
        for route in routes
    }


async def test_what_is_the_peers_stays_whoever_comes_first(host: VmHost) -> None:
    eni_script = script("ens6", 2)
    table = host.peer_table
    assert table is not None
    wanted = {f"from {address}" for address in (*eni_script.ipv4, *eni_script.ipv6)} | {
        f"-4 {eni_script.subnet_ipv4} via None dev ens6",
        "-4 default via 10.0.2.1 dev ens6",
        f"-6 {eni_script.subnet_ipv6[0]} via None dev ens6",
    }

    async def the_peer_is_done() -> bool:
        return wanted <= await of_the_peer(host, table)

    since = host.vm.journal.now
    await host.vm.run("systemctl", "stop", "nicwatchd")
    try:
        async with host.plugged(eni_script) as (eni,):
            await host.eventually(the_peer_is_done, PEER_PATIENCE)
            alone = await all_foreign(host)
            await host.vm.run("systemctl", "start", "nicwatchd")
            await host.until("ens6", "applied", since)
            await all_answer(host.vpc, host.paths(eni), PATIENCE)
            assert await host.ours()
            assert alone - await all_foreign(host) == set()
        await host.until("ens6", "gone", since)
    finally:
        await host.vm.run("systemctl", "start", "nicwatchd")
    await host.keeps_nothing()

    since = host.vm.journal.now
    async with host.plugged(eni_script) as (eni,):
        await host.until("ens6", "applied", since)
        await host.eventually(the_peer_is_done, PEER_PATIENCE)
        await all_answer(host.vpc, host.paths(eni), PATIENCE)
        assert await host.ours()
    await host.until("ens6", "gone", since)
    await host.keeps_nothing()
