"""A day of a busy host in fast motion: the daemon's memory does not grow with time."""

from __future__ import annotations

import asyncio
import gc
import sys
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import pytest

from nicwatchd.core.backoff import Schedule
from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import PROTOCOL, Address
from nicwatchd.core.policy import Policy
from nicwatchd.imds.client import ImdsClient, ImdsOptions
from nicwatchd.service.daemon import Daemon
from nicwatchd.service.ledger import Ledger
from nicwatchd.sim import fast_clock
from nicwatchd.sim.imds import ImdsServer
from nicwatchd.sim.memory_kernel import FakeKernel
from nicwatchd.sim.script import Scenario
from tests.service.conftest import ETH0, ETH1, MAC, PRIMARY

pytestmark = pytest.mark.long


HOUR: Final = 3600.0
# EC2's DHCPv6 leases are renewed at half of the preferred lifetime, 140 s: 51 times an hour.
RENEWAL: Final = 70.0
# As shipped, but for a slow refresh of ten minutes: each request goes through a real HTTP server.
POLICY: Final = replace(Policy(), schedule=Schedule(interval=1.0, refresh=600.0))
# From noon to midnight. 2,000 events come in that time, and 1,700 requests go out: were one memory
# block kept of each, it would show. Caches that are not full yet come to some hundred.
BLOCKS: Final = 1000
# Twelve plugs, flaps and overruns: one task or descriptor kept of each would show. Connections to
# IMDS that are kept for the next question come and go, four at a time.
OPEN: Final = 8


@dataclass(frozen=True)
class Footprint:
    """What may not grow."""

    blocks: int
    tasks: int
    descriptors: int

    @classmethod
    def now(cls) -> Footprint:
        gc.collect()
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        return cls(sys.getallocatedblocks(), len(asyncio.all_tasks()), descriptors)


class BusyHost:
    """eth0, and eth1 which comes and goes, flaps, has its leases renewed and its rules removed."""

    def __init__(self, imds: ImdsServer) -> None:
        self.kernel = FakeKernel()
        self._imds = imds
        self._eth0 = self._add("eth0", PRIMARY)
        self._eth1 = self._plug()

    def _add(self, name: str, mac: str) -> int:
        index = self.kernel.add_link(name, mac)
        self._set_up(index, up=True)
        return index

    def _plug(self) -> int:
        self._imds.plug("eth1")
        return self._add("eth1", MAC)

    def _set_up(self, index: int, *, up: bool) -> None:
        link = self.kernel._state.links[index]
        self.kernel.set_link(replace(link, up=up, running=up))

    def _renew(self) -> None:
        self.kernel.put(Address(self._eth0, ip_address("10.0.1.10"), 24, dynamic=True))
        self.kernel.put(Address(self._eth1, ip_address("10.0.2.10"), 24, dynamic=True))
        self.kernel.put(Address(self._eth1, ip_address("2001:db8:0:2::10"), 128, dynamic=True))

    async def hour(self) -> None:
        """Ends in the same state as it began, except for the link indexes."""
        begin = asyncio.get_running_loop().time()
        for minute in range(0, 3600, int(RENEWAL)):
            await _sleep_until(begin + minute)
            self._renew()
            match minute // int(RENEWAL):
                case 10:
                    self._set_up(self._eth1, up=False)
                    await asyncio.sleep(5.0)
                    self._set_up(self._eth1, up=True)
                case 20:
                    for rule in [r for r in self.kernel._state.rules if r.protocol == PROTOCOL]:
                        self.kernel.drop(rule)
                case 30:
                    self._imds.unplug("eth1")
                    self.kernel.remove_link(self._eth1)
                    await asyncio.sleep(5.0)
                    self._eth1 = self._plug()
                case 40:
                    self.kernel.overrun()
        await _sleep_until(begin + HOUR)


async def _sleep_until(when: float) -> None:
    await asyncio.sleep(max(0.0, when - asyncio.get_running_loop().time()))


@pytest.mark.lasts(40)
def test_nothing_grows_over_a_day(tmp_path: Path) -> None:
    fast_clock.run(_day(tmp_path), sockets=True)


async def _day(directory: Path) -> None:
    clock = asyncio.get_running_loop().time
    imds = ImdsServer(Scenario(mac=PRIMARY, enis=(ETH0, ETH1)), clock=clock)
    await imds.start(("127.0.0.1", 0))
    host = BusyHost(imds)
    async with ImdsClient(ImdsOptions(imds.endpoints), clock=clock) as client:
        daemon = Daemon(
            POLICY,
            host.kernel,
            host.kernel.events(),
            client,
            Ledger(directory),
            lambda *_: None,
            clock,
        )
        running = asyncio.create_task(daemon.run())
        footprints = []
        for _ in range(24):
            await host.hour()
            imds.log.clear()
            footprints.append(Footprint.now())
            assert [i.state for i in daemon.status().interfaces] == [State.IGNORED, State.APPLIED]
        daemon.stop()
        await running
    await imds.stop()
    noon, midnight = footprints[11], footprints[23]
    assert midnight.blocks - noon.blocks < BLOCKS
    assert midnight.tasks - noon.tasks < OPEN
    assert midnight.descriptors - noon.descriptors < OPEN
