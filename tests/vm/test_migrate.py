"""`nicwatchd migrate` from the software that the image has, and back again."""

from dataclasses import replace
from typing import Final

import pytest

from nicwatchd.sim.probe import all_answer
from tests.vm.enis import script
from tests.vm.host import PATIENCE, PEER_PATIENCE, VmHost
from tests.vm.streams import stream

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.peer]

RECORD: Final = "/var/lib/nicwatchd/migration.json"
MASK: Final = "/etc/udev/rules.d/99-vpc-policy-routes.rules"
HOTPLUG: Final = "/etc/udev/rules.d"


async def rules_of_peer(host: VmHost) -> list[str]:
    """The rules of others that lead to the peer's table."""
    said = [await host.vm.run("ip", family, "rule") for family in ("-4", "-6")]
    lines = [line for text in said for line in text.splitlines()]
    return [line for line in lines if f"lookup {host.peer_table}" in line]


async def is_there(host: VmHost, path: str) -> bool:
    return (await host.vm.try_run("test", "-e", path)).code == 0


@pytest.mark.only("net-utils")
async def test_from_net_utils_and_back(host: VmHost) -> None:
    eni_script = replace(script("ens6", 2), ipv4=("10.0.2.10", "10.0.2.11"))
    since = host.vm.journal.now
    async with host.plugged(eni_script) as (eni,):
        await host.until("ens6", "applied", since)
        await host.use(eni)
        async with stream(host.vpc, eni.ipv6[0]) as ipv6, stream(host.vpc, eni.ipv4[0]) as ipv4:
            plan = await host.vm.run("nicwatchd", "migrate", "--dry-run")
            assert "amazon-ec2-net-utils is at work here" in plan
            assert await rules_of_peer(host)
            await host.vm.run("nicwatchd", "migrate", "--yes", "--altnames")
            assert await rules_of_peer(host) == []
            for each in (ipv4, ipv6):
                await each.speak()
        await all_answer(host.vpc, host.paths(eni), PATIENCE)
        await all_answer(host.vpc, host.from_afar(host.vpc.primary), PATIENCE)
        assert "nothing to migrate" in await host.vm.run("nicwatchd", "migrate", "--yes")
        assert (await host.status("ens6"))["eni"] in await host.vm.run("ip", "link", "show", "ens6")

        since = host.vm.journal.now
        await host.vm.reboot()
        await host.until("ens6", "applied", since)
        await all_answer(host.vpc, host.paths(eni), PATIENCE)
        await all_answer(host.vpc, host.from_afar(host.vpc.primary), PATIENCE)
        assert await rules_of_peer(host) == []
        assert "metric 512" in await host.vm.run("ip", "route", "show", "default", "dev", "ens5")

        await host.vm.run("nicwatchd", "migrate", "--undo", "--yes")
        assert not await is_there(host, RECORD)
        assert not await is_there(host, MASK)
        await host.eventually(lambda: host.peer_serves(eni), PEER_PATIENCE)
        await all_answer(host.vpc, host.paths(eni), PATIENCE)
    await host.until("ens6", "gone", since)


@pytest.mark.only("cloud-init")
async def test_from_cloud_inits_hotplug_and_back(host: VmHost) -> None:
    rules = await host.vm.run("ls", HOTPLUG)
    assert "hook-hotplug.rules" in rules
    await host.vm.run("nicwatchd", "migrate", "--yes")
    try:
        assert "hook-hotplug.rules" not in await host.vm.run("ls", HOTPLUG)
        since = host.vm.journal.now
        async with host.plugged(script("ens6", 2)) as (eni,):
            await host.until("ens6", "applied", since)
            await all_answer(host.vpc, host.paths(eni), PATIENCE)
            assert await rules_of_peer(host) == []
        await host.until("ens6", "gone", since)
    finally:
        await host.vm.run("nicwatchd", "migrate", "--undo", "--yes")
    assert await host.vm.run("ls", HOTPLUG) == rules
    assert not await is_there(host, RECORD)
