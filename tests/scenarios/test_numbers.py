"""Other numbers in the settings: connections, and packets of all kinds, do not notice."""

from __future__ import annotations

import asyncio
import itertools
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from nicwatchd.core.model import Family
from tests.scenarios.commands import nicwatchd_on
from tests.scenarios.host import DEFAULT, WITHIN, HostUnderTest, complete, ec2_host, numbered
from tests.scenarios.streams import streams

KERNEL = """
[kernel]
priority = 31000
table_base = 5000000
group = 77
"""
OURS = re.compile(r"(Deleted )?(\d+):\s+(.*) lookup (\S+) .*proto 236")


async def rules(host: HostUnderTest, family: Family) -> list[str]:
    return (await host.ip(f"-{family.value} rule")).splitlines()


@asynccontextmanager
async def never_without_a_rule(host: HostUnderTest, family: Family) -> AsyncIterator[None]:
    """Follow every change of a rule: each selector leads to a table, and to a guard before that."""
    monitor = await host.vpc.popen(
        *(host.vpc.host, "ip", f"-{family.value}", "monitor", "rule"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert monitor.stdout is not None
    marks = (f"rule {verb} pref 9 table 9" for verb in itertools.cycle(("add", "del")))
    heard = asyncio.create_task(monitor.stdout.readline())
    while not heard.done():  # it does not tell when it has begun to listen
        await host.vpc.ip(host.vpc.host, next(marks), family=family)
        await asyncio.wait([heard], timeout=0.1)
    there = [line for line in await rules(host, family) if OURS.match(line)]
    selectors = {of for of, _ in map(_leads, there)}
    assert selectors
    yield
    monitor.terminate()
    changes = (await monitor.communicate())[0].decode().splitlines()
    ours = [line for line in changes if OURS.match(line)]
    assert len(ours) > 2 * len(selectors)
    for line in ours:
        if line.startswith("Deleted "):
            there.remove(line.removeprefix("Deleted "))
        else:
            there.append(line)
            there.sort(key=lambda each: int(each.split(":")[0]))  # stable: a new one is the last
        led = {of: [where for a, where in map(_leads, there) if a == of] for of in selectors}
        assert all(where[0] == "main" for where in led.values()), line
        assert all({"main"} < set(where) for where in led.values()), line


def _leads(line: str) -> tuple[str, str]:
    """A rule's selector, and the table that it leads to."""
    found = OURS.match(line)
    assert found
    return found[3], found[4]


@pytest.mark.parametrize("how", ["reload", "restart"])
async def test_other_numbers_without_a_gap(how: str) -> None:
    async with ec2_host(numbered(1)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
        async with (
            streams(host, "eth1"),
            never_without_a_rule(host, Family.V4),
            never_without_a_rule(host, Family.V6),
        ):
            if how == "reload":
                host.daemon.config.write_text(DEFAULT + KERNEL)
                host.daemon.process.send_signal(signal.SIGHUP)
                daemon = host.daemon
            else:
                await host.daemon.stop()
                daemon = await host.ec2.start_daemon(DEFAULT + KERNEL)
            await _migrated(host)
        await daemon.until("eth1", complete)
        await host.all_reachable("eth1")
        groups = {name: await host.ip(f"-o link show {name}") for name in ("eth0", "eth1")}
        assert all(" group 77 " in line for line in groups.values())
        assert not re.search(r"(table|lookup) 100\d\d\d\d", str(await host.kernel_objects()))
        await daemon.stop()
        released = await nicwatchd_on(host.vpc, "release", "--all")
        assert released.code == 0, released
        left = itertools.chain(*(await host.kernel_objects()).values())
        assert not [line for line in left if "proto 236" in line or "table 5000" in line]
        assert " group 77 " not in await host.ip("-o link")


async def _migrated(host: HostUnderTest) -> None:
    """Wait until no rule of ours is left that has the old numbers, in either family."""
    async with asyncio.timeout(WITHIN):
        while True:
            own = [r for f in Family for r in await rules(host, f) if OURS.match(r)]
            if all(re.match(r"31000:", r) and not re.search(r" 3778 | to ", r) for r in own):
                return
            await asyncio.sleep(0.02)
