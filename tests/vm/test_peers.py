"""Beside other software that configures hot-plugged ENIs: both do their work, side by side."""

import json
import re

import pytest

from nicwatchd.sim.probe import all_answer
from tests.vm.enis import script
from tests.vm.host import PATIENCE, VmHost

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.peer]

# What changes by itself, and what no two plugs of an ENI have in common.
FLEETING = {
    "expires",
    "flags",
    "cache",
    "valid_life_time",
    "preferred_life_time",
    "pref",
    "metrics",
}


async def foreign(host: VmHost) -> list[str]:
    """All rules, routes and addresses of the host that do not carry our mark."""
    found: list[str] = []
    for family in ("-4", "-6"):
        for what in (("rule",), ("route", "show", "table", "all"), ("address",)):
            said = json.loads(await host.vm.run("ip", "-details", "-json", family, *what))
            rows = [{"of": link["ifname"], **a} for link in said for a in link.get("addr_info", [])]
            for row in rows or said:
                if str(row.get("protocol")) != "236":
                    kept = {k: v for k, v in row.items() if k not in FLEETING}
                    found.append(f"{family} {what[0]} {json.dumps(kept, sort_keys=True)}")
    return sorted(found)


def without_priority(lines: list[str]) -> list[str]:
    """The kernel gives rules without one the place before the first other, which may be ours."""
    return sorted(re.sub(r'"priority": \d+, ', "", line) for line in lines)


async def rules_of_the_peer(host: VmHost) -> set[tuple[str, str]]:
    """Which source it sends to which table, in both families."""
    return {
        (rule["src"], str(rule["table"]))
        for family in ("-4", "-6")
        for rule in json.loads(await host.vm.run("ip", "-details", "-json", family, "rule"))
        if rule["src"] != "all" and str(rule.get("protocol")) != "236"
    }


async def test_the_peer_configures_the_eni_as_if_it_were_alone(
    host: VmHost, peer_table: int
) -> None:
    """Whoever comes first, what is the peer's is the same with nicwatchd and without it."""
    eni_script = script("ens6", 2)
    since = host.vm.journal.now

    await host.vm.run("systemctl", "stop", "nicwatchd")
    try:
        async with host.plugged(eni_script) as (eni,):
            its_own = {(str(address), str(peer_table)) for address in eni.addresses()}

            async def it_is_done() -> bool:
                return its_own == await rules_of_the_peer(host)

            await host.eventually(it_is_done)
            alone = await foreign(host)
            await host.vm.run("systemctl", "start", "nicwatchd")
            await host.until("ens6", "applied", since)
            await all_answer(host.vpc, host.paths(eni), PATIENCE)
            assert await host.ours()
            assert await foreign(host) == alone
    finally:
        await host.vm.run("systemctl", "start", "nicwatchd")
    await host.until("ens6", "gone", since)

    since = host.vm.journal.now
    async with host.plugged(eni_script) as (eni,):
        await host.until("ens6", "applied", since)
        await host.eventually(it_is_done)
        await all_answer(host.vpc, host.paths(eni), PATIENCE)
        assert await host.ours()
        assert without_priority(await foreign(host)) == without_priority(alone)
    await host.until("ens6", "gone", since)
    assert await host.ours() == []
