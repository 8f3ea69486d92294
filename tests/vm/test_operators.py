"""What operators do to a host: a VLAN on top of an ENI, the clock set, and `nicwatchd release`."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from nicwatchd.sim.parts import Eni
from nicwatchd.sim.probe import all_answer
from tests.vm.enis import script
from tests.vm.host import PATIENCE, VmHost

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.once]

HOUR = 3600


@asynccontextmanager
async def in_use(host: VmHost) -> AsyncIterator[tuple[Eni, list[str]]]:
    """An ENI that is applied, and what is programmed for it."""
    since = host.vm.journal.now
    async with host.plugged(script("ens6", 2)) as (eni,):
        await host.until("ens6", "applied", since)
        yield eni, await host.use(eni)
    await host.until("ens6", "gone", since)
    await host.keeps_nothing()


async def addresses(host: VmHost, link: str) -> set[str]:
    said = json.loads(await host.vm.run("ip", "-json", "address", "show", "dev", link))
    return {f"{a['local']}/{a['prefixlen']}" for a in said[0]["addr_info"]}


async def test_a_vlan_on_top_is_left_alone(host: VmHost) -> None:
    async with in_use(host) as (eni, programmed):
        for words in (
            "link add link ens6 name ens6.7 type vlan id 7",
            "address add 192.0.2.7/24 dev ens6.7",
            "-6 address add 2001:db8:77::7/64 dev ens6.7 nodad",
            "link set ens6.7 up",
        ):
            await host.vm.run("ip", *words.split())
        theirs = {"192.0.2.7/24", "2001:db8:77::7/64"}
        assert theirs <= await addresses(host, "ens6.7")
        await host.vm.run("nicwatchd", "reconcile")
        assert not await host.is_in_our_group("ens6.7")
        assert (await host.status("ens6"))["state"] == "applied"
        assert await host.status("ens6.7") == {}
        await host.has_kept(programmed)
        assert theirs <= await addresses(host, "ens6.7")
        await all_answer(host.vpc, host.paths(eni), PATIENCE)
        # All but its group, where main has come to reach the ENI's neighbours by it.
        await host.vm.run("ip", "address", "add", "10.0.2.242/24", "dev", "ens6.7")
        await host.vm.run("ip", "route", "add", "2001:db8:0:2::/64", "dev", "ens6.7")
        await host.eventually(partial(host.is_in_our_group, "ens6.7"))
        await all_answer(host.vpc, host.paths(eni), PATIENCE)
        assert theirs <= await addresses(host, "ens6.7")
        await host.vm.run("ip", "link", "delete", "ens6.7")
        await host.vm.run("nicwatchd", "reconcile")
        await host.has_kept(programmed)


@pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["forward", "back"])
async def test_a_clock_that_jumps_changes_nothing(host: VmHost, seconds: int) -> None:
    async with in_use(host) as (eni, programmed):
        log = "/run/monitor.log"
        words = f"ip -timestamp monitor link address route rule >{log} 2>&1"
        monitor = ("systemd-run", "--unit=monitor", "--collect", "sh", "-c", words)
        await host.vm.run(*monitor)
        try:
            before = await host.host_status()
            await host.vm.run("sh", "-c", f"date --set=@$(($(date +%s) + {seconds}))")

            async def is_asked() -> bool:
                asked = (await host.host_status())["imds"]["requests"]
                return bool(asked >= before["imds"]["requests"] + 3)

            # By the clock on the wall it would be asked at once, over and over, or in an hour.
            await host.eventually(is_asked)
            after = await host.host_status()
            assert after["pid"] == before["pid"]
            assert after["problems"] == []
            assert [i["state"] for i in after["interfaces"]] == ["ignored", "applied"]
            await host.has_kept(programmed)
            changes = await host.vm.run("cat", log)
            assert "proto 236" not in changes
            await all_answer(host.vpc, host.paths(eni), PATIENCE)
        finally:
            await host.vm.run("systemctl", "stop", "monitor")
            await host.vm.run("sh", "-c", f"date --set=@$(($(date +%s) - {seconds}))")


async def test_release_with_the_daemon_running(host: VmHost) -> None:
    async with in_use(host) as (eni, programmed):
        leased = await addresses(host, "ens6")
        since = host.vm.journal.now
        said = json.loads(await host.vm.run("nicwatchd", "release", "--all", "--json"))
        assert said["failed"] == []
        assert said["released"]["rules"] > 0
        await host.keeps_nothing()
        assert await addresses(host, "ens6") == leased  # networkd's
        groups = json.loads(await host.vm.run("ip", "-json", "link"))
        assert {link["group"] for link in groups} == {"default"}
        await host.until("ens6", "ignored", since)
        assert (await host.status("ens6"))["reasons"][0]["code"] == "released"

        since = host.vm.journal.now
        await host.vm.run("systemctl", "restart", "nicwatchd")
        await host.until("ens6", "ignored", since)
        await host.keeps_nothing()

        since = host.vm.journal.now
        await host.vm.run("nicwatchd", "reconcile")
        await host.until("ens6", "applied", since)
        await all_answer(host.vpc, host.paths(eni), PATIENCE)
        assert sorted(await host.ours()) == sorted(programmed)
