"""A daemon in this process: a kernel in memory, a metadata service over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID

import pytest

from nicwatchd.core.model import Address, Link
from nicwatchd.core.policy import Policy
from nicwatchd.imds.client import ImdsClient, ImdsOptions
from nicwatchd.service.daemon import Daemon
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.status import InterfaceStatus
from nicwatchd.service.telling import Told
from nicwatchd.sim.imds import ImdsServer
from nicwatchd.sim.memory_kernel import FakeKernel
from nicwatchd.sim.script import EniScript, Scenario

PRIMARY = "02:00:00:00:00:01"
MAC = "02:00:00:00:00:02"
ETH1 = EniScript(
    name="eth1",
    mac=MAC,
    ipv4=("10.0.2.10", "10.0.2.11"),
    ipv6=("2001:db8:0:2::10",),
    subnet_ipv4="10.0.2.0/24",
    subnet_ipv6=("2001:db8:0:2::/64",),
)
ETH0 = EniScript(
    name="eth0",
    mac=PRIMARY,
    ipv4=("10.0.1.10",),
    subnet_ipv4="10.0.1.0/24",
    device_number=0,
)
# There is no DHCP client here.
AT_ONCE = Policy()
PATIENCE = 20.0  # s; ends what hangs


@dataclass
class Entry:
    """One journal entry."""

    message_id: UUID
    message: str
    priority: int
    fields: Mapping[str, str]


class Old(FakeKernel):
    """Linux before 5.18: no IFA_PROTO."""

    async def addresses(self, index: int) -> tuple[Address, ...]:
        return tuple(replace(a, protocol=0) for a in await super().addresses(index))


@dataclass
class Host:
    """The host: its kernel, its metadata service, and what the daemon writes to the journal."""

    kernel: FakeKernel
    imds: ImdsServer
    directory: Path
    entries: list[Entry] = field(default_factory=list)

    def write(
        self, message_id: UUID, message: str, priority: int, fields: Mapping[str, str]
    ) -> None:
        self.entries.append(Entry(message_id, message, priority, fields))

    def plug_primary(self) -> int:
        index = self.kernel.add_link("eth0", PRIMARY)
        self.kernel.set_link(replace(self.link(index), up=True, running=True))
        self.kernel.put(Address(index, ip_address("10.0.1.10"), 24, dynamic=True))
        return index

    def plug(self) -> int:
        self.imds.plug("eth1")
        return self.kernel.add_link("eth1", MAC)

    def link(self, index: int) -> Link:
        return self.kernel._state.links[index]

    @asynccontextmanager
    async def daemon(
        self,
        policy: Policy = AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
        slept: Callable[[], float] | None = None,
    ) -> AsyncIterator[Daemon]:
        """A daemon that runs until the body ends; its exceptions are raised there."""
        async with ImdsClient(ImdsOptions(self.imds.endpoints), clock=clock) as client:
            ledger = Ledger(self.directory)
            events = self.kernel.events()
            daemon = Daemon(policy, self.kernel, events, client, ledger, self.write, clock, slept)
            task = asyncio.create_task(daemon.run())
            try:
                yield daemon
            finally:
                daemon.stop()
                await task


@pytest.fixture
def eth1() -> EniScript:
    """The secondary interface; a module may override it."""
    return ETH1


@pytest.fixture
async def host(tmp_path: Path, eth1: EniScript) -> AsyncIterator[Host]:
    async with AsyncExitStack() as stack:
        imds = ImdsServer(Scenario(mac=PRIMARY, enis=(ETH0, eth1)))
        await imds.start(("127.0.0.1", 0))
        stack.push_async_callback(imds.stop)
        yield Host(FakeKernel(), imds, tmp_path)


async def until(
    daemon: Daemon, name: str, wanted: Callable[[InterfaceStatus], bool]
) -> InterfaceStatus:
    """The first status of an interface, now or at a transition, for which `wanted` is true."""
    news: asyncio.Queue[InterfaceStatus] = asyncio.Queue()

    def observe(told: Told) -> None:
        if told.status:
            news.put_nowait(told.status)

    unsubscribe = daemon.subscribe(observe)
    for status in daemon.status().interfaces:
        news.put_nowait(status)
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                status = await news.get()
                if status.name == name and wanted(status):
                    return status
    finally:
        unsubscribe()


async def eventually(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Poll until a condition is true for which there is no event."""
    async with asyncio.timeout(PATIENCE):
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.01)
