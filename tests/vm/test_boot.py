"""The host after a boot with nicwatchd enabled."""

import json
import re

import pytest

from tests.vm.enis import script
from tests.vm.host import VmHost

pytestmark = pytest.mark.asyncio(loop_scope="session")

MOST_EXPOSURE = 16  # tenths, as `systemd-analyze security` wants them


async def test_it_is_ready_and_nothing_has_failed(host: VmHost) -> None:
    shown = await host.vm.run(
        *("systemctl", "show", "nicwatchd", "--property=ActiveState,SubState,NRestarts,StatusText")
    )
    state = dict(line.split("=", 1) for line in shown.splitlines())
    assert (state["ActiveState"], state["SubState"], state["NRestarts"]) == (
        *("active", "running"),
        "0",
    )
    assert state["StatusText"]
    assert await host.vm.run("systemctl", "list-units", "--failed", "--plain", "--no-legend") == ""


async def test_nothing_at_boot_waits_for_it(host: VmHost) -> None:
    shown = await host.vm.run(
        *("systemctl", "show", "nicwatchd", "--property=Before,Conflicts,WantedBy")
    )
    said = dict(line.split("=", 1) for line in shown.splitlines())
    assert said == {
        "WantedBy": "basic.target",
        "Conflicts": "shutdown.target",
        "Before": "shutdown.target",
    }


async def test_the_firmware_says_ec2(host: VmHost) -> None:
    assert (await host.host_status())["idle"] is None


async def test_the_primary_is_known_and_left_alone(host: VmHost) -> None:
    primary = await host.status("ens5")
    assert (primary["state"], primary["reasons"][0]["code"]) == ("ignored", "primary")
    await host.keeps_nothing()


async def test_the_live_unit_is_confined(host: VmHost) -> None:
    judged = await host.vm.try_run(
        *("systemd-analyze", "security", "--no-pager", f"--threshold={MOST_EXPOSURE}", "nicwatchd")
    )
    assert "Overall exposure level for nicwatchd.service" in judged.out
    assert judged.code == 0, judged.out


async def test_the_sandbox_is_not_in_the_way(host: VmHost) -> None:
    since = host.vm.journal.now
    await host.vm.run("systemctl", "restart", "nicwatchd")
    async with host.plugged(script("ens6", 2)):
        await host.until("ens6", "applied", since)
    await host.until("ens6", "gone", since)
    await host.vm.run("systemctl", "reload", "nicwatchd")
    await host.vm.run("nicwatchd", "reconcile")
    said = [e.message for e in host.vm.journal.entries[since:]]
    denied = re.compile(r"SECCOMP|SIGSYS|[Pp]ermission denied|not permitted|Traceback")
    assert [message for message in said if denied.search(message)] == []


async def test_the_catalog_explains_what_the_journal_says(host: VmHost) -> None:
    lines = (
        await host.vm.run("journalctl", "--boot", "-u", "nicwatchd", "-o", "json")
    ).splitlines()
    ids = {entry.get("MESSAGE_ID") for entry in map(json.loads, lines) if "_UID" in entry}
    explained = await host.vm.run("journalctl", "--list-catalog")
    own = {"81dff20752e448e7a835086952327afc"}  # "started"
    assert own <= ids
    assert all(identifier in explained for identifier in own)
    assert "░░" in await host.vm.run("journalctl", "--boot", "-u", "nicwatchd", "-x")
