"""`ip monitor` on the host: every change of the kernel, by whomever."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.scenarios.host import HostUnderTest


@asynccontextmanager
async def changes(host: HostUnderTest) -> AsyncIterator[list[str]]:
    """The changes of links, addresses, routes and rules while it is open; filled at its end."""
    monitor = await host.vpc.popen(
        *(host.vpc.host, "ip", "monitor", "link", "address", "route", "rule"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert monitor.stdout is not None
    heard = asyncio.create_task(monitor.stdout.readline())
    for number in itertools.count():  # until it has heard a change that was made for it
        await host.ip(f"link set lo alias try-{number}")
        done, _ = await asyncio.wait([heard], timeout=0.1)
        if done:
            break
    found: list[str] = []
    try:
        yield found
    finally:
        monitor.terminate()
        said, _ = await monitor.communicate()
        # Lines of the loopback are the test's own; those that begin with spaces go with others. A
        # link-local address is told of again when the kernel has made sure that nobody else has it.
        lines = (line for line in said.decode().splitlines() if not line.startswith(" "))
        lines = (line for line in lines if "proto 236" in line or " fe80::" not in line)
        found += [line for line in lines if "lo:" not in line]
