"""A host that is recorded in invented time: kernel in memory, IMDS on loopback, the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path

from nicwatchd.core.model import PROTOCOL, Address, Link
from nicwatchd.core.policy import Policy
from nicwatchd.imds.client import ImdsClient, ImdsOptions
from nicwatchd.recording.format import read
from nicwatchd.recording.mask import Mask
from nicwatchd.service.control import SOCKET_NAME, Control
from nicwatchd.service.daemon import Daemon
from nicwatchd.service.imds_watch import HeardClient
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.recorder import Recorder
from nicwatchd.sim import fast_clock
from nicwatchd.sim.imds import ImdsServer
from nicwatchd.sim.memory_kernel import FakeKernel
from nicwatchd.sim.recorded import Recording
from nicwatchd.sim.script import EniScript, Scenario


@dataclass
class RecordedHost:
    """What a story can do: time, the kernel, IMDS, and the daemon."""

    kernel: FakeKernel
    imds: ImdsServer
    scenario: Scenario
    directory: Path
    policy: Policy
    lines: list[str] = field(default_factory=list)
    write: Callable[[str], None] | None = None

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def plug(self, name: str, *, up: bool = False) -> int:
        """Hot-plug an ENI of the scenario; returns the link's index."""
        script = self.scenario.eni(name)
        if script.mac != self.scenario.mac:
            self.imds.plug(name)
        index = self.kernel.add_link(name, script.mac)
        if up:
            self.set_up(index, up=True)
        return index

    def link(self, index: int) -> Link:
        return self.kernel._state.links[index]

    def set_up(self, index: int, *, up: bool) -> None:
        self.kernel.set_link(replace(self.link(index), up=up, running=up))

    def lease(self, index: int, script: EniScript) -> None:
        """What a DHCP client brings."""
        self.kernel.put(Address(index, ip_address(script.ipv4[0]), 24, dynamic=True))

    def remove_ours(self, pid: int) -> None:
        """Another program removes all of nicwatchd's rules."""
        for rule in [each for each in self.kernel._state.rules if each.protocol == PROTOCOL]:
            self.kernel.drop(rule, pid=pid)

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[Daemon]:
        clock = asyncio.get_running_loop().time
        async with ImdsClient(ImdsOptions(self.imds.endpoints), clock=clock) as client:
            daemon = Daemon(
                self.policy,
                self.kernel,
                self.kernel.events(),
                client,
                Ledger(self.directory),
                lambda *_: None,
                clock,
            )
            daemon.reporting.started = clock()
            control = Control(daemon, self.directory / SOCKET_NAME)
            await control.start()
            task = asyncio.create_task(daemon.run())
            try:
                yield daemon
            finally:
                daemon.stop()
                await task
                await control.close()

    async def record(self, duration: float, mask: Mask | None = None) -> None:
        clock = asyncio.get_running_loop().time
        async with HeardClient(ImdsOptions(self.imds.endpoints), clock=clock) as client:
            recorder = Recorder(
                self.policy,
                self.kernel,
                self.kernel.events(),
                client,
                self.directory,
                self.write or (lambda line: self.lines.append(f"{line}\n")),
                mask or Mask(None),
                masked=mask is not None,
                clock=clock,
                wall=clock,
            )
            await recorder.record(duration, asyncio.Event())


Story = Callable[[RecordedHost], Awaitable[None]]


def recorded(
    scenario: Scenario,
    directory: Path,
    story: Story,
    duration: float,
    *,
    policy: Policy | None = None,
    mask: Mask | None = None,
    watched: bool = True,
    asked: list[str] | None = None,
    kernel: FakeKernel | None = None,
    write: Callable[[str], None] | None = None,
) -> Recording:
    """Record a story beside a daemon, which runs before; `watched`: there is a daemon at all.

    `asked` gets the path of each request to IMDS.
    """

    async def go() -> RecordedHost:
        clock = asyncio.get_running_loop().time
        imds = ImdsServer(scenario, clock=clock)
        await imds.start(("127.0.0.1", 0))
        host = RecordedHost(kernel or FakeKernel(), imds, scenario, directory, policy or Policy())
        host.write = write
        primary = next(eni for eni in scenario.enis if eni.mac == scenario.mac)
        index = host.plug(primary.name, up=True)
        host.lease(index, primary)
        recording = asyncio.create_task(host.record(duration, mask))
        try:
            await asyncio.sleep(0.5)
            async with host.daemon() if watched else nullcontext():
                await asyncio.sleep(0.5 if watched else 0.0)
                await story(host)
                await recording
        finally:
            recording.cancel()
            await imds.stop()
        if asked is not None:
            asked.extend(request.path for request in imds.log)
        return host

    host = fast_clock.run(go(), sockets=True)
    return Recording("recording", *read(host.lines))
