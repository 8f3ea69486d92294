"""Units that need an ENI or an address: nicwatchd-wait@.service and nicwatchd-online.target."""

from __future__ import annotations

from functools import partial

import pytest

from tests.vm.enis import script
from tests.vm.host import VmHost

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def state(host: VmHost, unit: str) -> str:
    """Its state, as `systemctl is-active` prints it."""
    return (await host.vm.try_run("systemctl", "is-active", unit)).out.strip()


async def is_in(host: VmHost, unit: str, wanted: str) -> bool:
    return await state(host, unit) == wanted


async def has_said(host: VmHost, unit: str, words: str) -> bool:
    """Whether the command of a unit has printed this."""
    return words in await host.vm.run("journalctl", "-b", "-o", "cat", "-u", unit)


async def test_units_wait_for_an_eni_that_is_attached_later(host: VmHost) -> None:
    since = host.vm.journal.now
    eni = script("ens6", 2)
    by_address = f"nicwatchd-wait@{eni.ipv6[0]}.service"
    by_mac = f"nicwatchd-wait@{eni.mac}.service"
    await host.vm.run("systemctl", "enable", by_mac)
    try:
        await host.vm.run("systemctl", "start", "--no-block", by_address, "nicwatchd-online.target")
        for unit in (by_address, by_mac):
            await host.eventually(partial(has_said, host, unit, "yet"))
            assert await state(host, unit) == "activating"
        assert await state(host, "nicwatchd-online.target") == "inactive"
        async with host.plugged(eni):
            await host.until("ens6", "applied", since)
            for unit in (by_address, by_mac, "nicwatchd-online.target"):
                await host.eventually(partial(is_in, host, unit, "active"))
        first = f"{eni.ipv6[0]}: no interface has this address yet"
        for words in (first, f"{eni.ipv6[0]}: ens6, IPv6 works"):
            assert await has_said(host, by_address, words)
    finally:
        await host.vm.run("systemctl", "disable", by_mac)
        await host.vm.run("systemctl", "stop", "nicwatchd-online.target", by_mac, by_address)
    await host.until("ens6", "gone", since)


async def test_a_unit_that_waits_in_vain_fails(host: VmHost) -> None:
    unit = "nicwatchd-wait@eni-0123456789abcdef0.service"
    drop_in = f"/run/systemd/system/{unit}.d"
    await host.vm.run("mkdir", "-p", drop_in)
    words = f"printf '[Service]\\nEnvironment=TIMEOUT=1\\n' >{drop_in}/time.conf"
    await host.vm.run("sh", "-c", f"{words}; systemctl daemon-reload")
    try:
        await host.vm.try_run("systemctl", "start", unit)
        assert await state(host, unit) == "failed"
        words = "timed out after 1 s: eni-0123456789abcdef0: not attached yet"
        assert await has_said(host, unit, words)
    finally:
        await host.vm.run("rm", "-r", drop_in)
        await host.vm.run("systemctl", "daemon-reload")
        await host.vm.run("systemctl", "reset-failed", unit)
