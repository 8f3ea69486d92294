"""Endless events on a host where a turn takes long: the daemon leaves time for others."""

import asyncio
from ipaddress import ip_network
from pathlib import Path

from nicwatchd.core.model import Family, Rule
from nicwatchd.core.policy import Policy
from nicwatchd.imds.client import ImdsClient, ImdsOptions
from nicwatchd.service.daemon import Daemon
from nicwatchd.service.ledger import Ledger
from nicwatchd.sim import fast_clock
from nicwatchd.sim.memory_kernel import FakeKernel

MINUTE = 60.0
TAKES = 0.5  # s to read the rules
EVERY = 0.05  # s between two changes of others


class Slow(FakeKernel):
    """A kernel with thousands of rules, which take long to read: `spent` seconds in total."""

    spent = 0.0

    async def rules(self) -> tuple[Rule, ...]:
        await asyncio.sleep(TAKES)
        self.spent += TAKES
        return await super().rules()


def test_the_daemon_rests_for_as_long_as_it_looked(tmp_path: Path) -> None:
    spent = fast_clock.run(_storm(tmp_path))
    assert 0.25 * MINUTE < spent < 0.6 * MINUTE


async def _storm(directory: Path) -> float:
    """Seconds that the daemon spent on reading in a minute of foreign changes."""
    clock = asyncio.get_running_loop().time
    kernel = Slow()
    async with ImdsClient(ImdsOptions(()), clock=clock) as client:
        events, ledger = kernel.events(), Ledger(directory)
        daemon = Daemon(Policy(), kernel, events, client, ledger, lambda *_: None, clock)
        running = asyncio.create_task(daemon.run())
        foreign = Rule(Family.V4, 100, 77, protocol=0, src=ip_network("192.0.2.0/24"))
        for _ in range(int(MINUTE / EVERY / 2)):
            kernel.put(foreign)
            await asyncio.sleep(EVERY)
            kernel.drop(foreign)
            await asyncio.sleep(EVERY)
        spent = kernel.spent
        daemon.stop()
        await running
    return spent
