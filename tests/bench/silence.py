"""For how long the primary does not answer: while ENIs come and go, and with what the daemon does.

A control, the same without a daemon, tells how much of it is the kernel's and the probe's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from nicwatchd.core.model import Family
from nicwatchd.sim import dhcp
from nicwatchd.sim.ec2 import SETTINGS, DaemonProcess, Ec2
from nicwatchd.sim.parts import Peer
from nicwatchd.sim.probe import Acceptor, Watch, paths
from nicwatchd.sim.script import Scenario
from tests.bench import host
from tests.bench.figures import Figure, Limit
from tests.scenarios.earlier import first_edition
from tests.scenarios.host import HostUnderTest, complete
from tests.scenarios.streams import talking

ALLOWED: Final = 0.2  # s
INTERVAL: Final = 0.05  # s between two tries, and so the least that is seen
PLUGS: Final = 20
QUICK_PLUGS: Final = 3
AFTER: Final = 0.5  # s to go on watching after each step
BETWEEN: Final = 0.25  # s from one unplug to the next hot-plug; on EC2, seconds
ENI: Final = "eth1"
# s from the link to its leases. A client has to wait for udev, for the carrier, and for answers.
DHCP: Final = 0.1

LEFT: Final = 'primary = "leave"\n' + SETTINGS
RENUMBERED: Final = SETTINGS + "[kernel]\npriority = 31000\ntable_base = 5000000\ngroup = 77\n"

Pause = tuple[float, float]  # from one answer to the next, monotonic, in s


@dataclass(frozen=True, slots=True)
class Kind:
    """A host by its network manager, whose DHCP client takes so long (s) from the link on."""

    manager: dhcp.Manager
    dhcp: float

    @property
    def is_kind(self) -> bool:
        """Whether the primary is reached without nicwatchd, too."""
        return self.manager is dhcp.GOOD


GOOD: Final = Kind(dhcp.GOOD, 0.0)
WINS: Final = Kind(dhcp.BEATS, DHCP)
WINS_AT_ONCE: Final = Kind(dhcp.BEATS, 0.0)  # before nicwatchd has seen the link


def silence(pause: Pause, machine: Sequence[Pause]) -> float:
    """How much of a pause is not the machine's own, which other work kept from trying."""
    began, ended = pause
    shared = (min(ended, end) - max(began, start) for start, end in machine)
    return ended - began - max(0.0, max(shared, default=0.0) - INTERVAL)


class Run:
    """One host, and the longest silence in each part of what happens to it."""

    def __init__(self, ec2: Ec2, kind: Kind) -> None:
        self.ec2, self.kind = ec2, kind
        self.silences: dict[str, float] = {}
        self.machine = 0.0  # the longest silence on a path that does not touch the host
        self.waits: list[float] = []  # the longest of each stream
        vpc = ec2.vpc
        # Nothing that happens here changes the ways of these, with nicwatchd or without it.
        self.apart: Sequence[Peer] = (vpc.far_hosts[0], vpc.neighbour(vpc.primary.subnet))
        # The ENI's own subnet: without nicwatchd, its hosts lose the primary when the ENI comes.
        self.everybody = (*self.apart, vpc.neighbour(ec2.eni(ENI).subnet))

    @asynccontextmanager
    async def watched(self, what: str, peers: Sequence[Peer]) -> AsyncIterator[None]:
        """Call both addresses of the primary from these peers, from before to after a part.

        Beside it, the second calls the first. For as long as that is silent, too, it is not the
        primary that is.
        """
        vpc = self.ec2.vpc
        calls = paths(peers, vpc.primary.addresses())
        past = paths(peers[1:2], peers[0].addresses)
        async with Watch(vpc, (*calls, *past), interval=INTERVAL) as watch:
            yield
            await asyncio.sleep(AFTER)
        machine = [pause for path in past for pause in watch.pauses(path)]
        pauses = [pause for path in calls for pause in watch.pauses(path)]
        self.silences[what] = max(silence(pause, machine) for pause in pauses)
        self.machine = max(self.machine, *map(watch.silence, past))

    async def plug(self) -> None:
        """Hot-plug the ENI, which gets leases and a router advertisement."""
        eni = await host.plug(self.ec2, ENI)
        await asyncio.sleep(self.kind.dhcp)
        for family in Family:
            await self.ec2.vpc.lease(eni, family, default=True)
        await self.ec2.vpc.ra(eni)

    async def attached(self, daemon: DaemonProcess | None) -> None:
        """Wait until the daemon has done its part."""
        if daemon:
            await daemon.until(ENI, complete)
        else:
            await asyncio.sleep(AFTER)

    async def come_and_go(self, daemon: DaemonProcess | None, plugs: int) -> None:
        """The first ENI, and the next ones."""
        peers = self.everybody if daemon else self.apart
        async with self.watched("an ENI is attached", peers):
            await self.plug()
            await self.attached(daemon)
        async with self.watched(f"{plugs} hot-plugs", peers):
            for _ in range(plugs):
                await self.ec2.unplug(ENI)
                await asyncio.sleep(BETWEEN)
                await self.plug()
                await self.attached(daemon)

    async def restart(self, daemon: DaemonProcess) -> None:
        """The daemon is killed, stopped, and started again, with and without other numbers."""
        for what, end in (("kill -9, and a start", daemon.kill), ("a restart", daemon.stop)):
            async with self.watched(what, self.everybody):
                await end()
                await asyncio.sleep(AFTER)
                await daemon.start(SETTINGS)
                await self.attached(daemon)

    async def change(self, under_test: HostUnderTest) -> None:
        """The settings change, and back."""

        async def use(config: str) -> None:
            await under_test.reload(config)
            await under_test.daemon.post("/v1/reconcile")

        async with self.watched("other numbers of rules, tables and the group", self.everybody):
            for config in (RENUMBERED, SETTINGS):
                await use(config)
                await asyncio.sleep(AFTER)
        async with self.watched('`primary`: "protect", "leave", "protect", "leave"', self.apart):
            for config in (LEFT, SETTINGS, LEFT):
                await use(config)
                await asyncio.sleep(AFTER)
        await use(SETTINGS)

    async def leave_and_return(self, under_test: HostUnderTest) -> None:
        """All is released and served again; a host of the first edition is taken over."""
        daemon = under_test.daemon
        async with self.watched("a release, and back", self.apart):
            await daemon.post("/v1/release")
            await asyncio.sleep(AFTER)
            await daemon.post("/v1/reconcile")
            await self.attached(daemon)
        await daemon.stop()
        async with self.watched("from the first edition's rules and tables", self.apart):
            await first_edition(under_test)
            await daemon.start(SETTINGS)
            await self.attached(daemon)


@asynccontextmanager
async def _run(kind: Kind) -> AsyncIterator[Run]:
    """A host on which the ENI was once before, so that the hosts of its subnet are there."""
    scenario = Scenario(host.PRIMARY_MAC, (host.PRIMARY, host.script(1)))
    async with Ec2(scenario, kind.manager) as ec2:
        await host.plug(ec2, ENI)
        await ec2.unplug(ENI)
        async with Acceptor(ec2.vpc, ec2.vpc.host), Acceptor(ec2.vpc, ec2.vpc.far):
            yield Run(ec2, kind)


async def measure(_seed: int, *, quick: bool) -> list[Figure]:
    """On hosts whose manager keeps the default on the primary, and whose new default route wins.

    Each connection is a new one, tried each 50 ms in both families, from a far host, one in the
    primary's subnet and, where nicwatchd serves the primary, one in the ENI's subnet.
    """
    plugs = QUICK_PLUGS if quick else PLUGS
    async with _run(GOOD) as run:
        await run.come_and_go(None, plugs)
        control = list(run.silences.values())
    runs = [await _served(kind, plugs) for kind in (GOOD, WINS, WINS_AT_ONCE)]
    tried = f"tried every {INTERVAL * 1000:.0f} ms"
    figures = [
        Figure(
            f"silence of the primary: {what}",
            [run.silences[what] for run in runs if what in run.silences],
            limits=(Limit("max", ALLOWED),),
            note=tried,
        )
        for what in dict.fromkeys(what for run in runs for what in run.silences)
    ]
    without = f"silence of the primary: an ENI is attached, {plugs} hot-plugs, without nicwatchd"
    past = "silence of a path past the host, meanwhile, which is left out of the above"
    streams = "streams to the primary live through all of this; the longest wait for an answer"
    *usual, at_once = runs
    return [
        *figures,
        Figure(without, control, show=("max",), note=tried),
        Figure(past, [run.machine for run in runs], show=("max",), note=tried),
        Figure(
            streams, [wait for run in usual for wait in run.waits], limits=(Limit("max", ALLOWED),)
        ),
        Figure(
            "... where a default that wins comes before nicwatchd has seen the link",
            at_once.waits,
            unit="s",
            show=("max",),
            note="a packet that waits for the new router's MAC is sent again once that fails",
        ),
    ]


async def _served(kind: Kind, plugs: int) -> Run:
    """All parts, on one host, with streams that talk all the while. Raises if one breaks off."""
    async with AsyncExitStack() as stack:
        run = await stack.enter_async_context(_run(kind))
        vpc = run.ec2.vpc
        daemon = await run.ec2.start_daemon(SETTINGS)
        await daemon.until("eth0", "ignored")
        pairs = [(peer, to) for peer in run.apart for to in vpc.primary.addresses()]
        streams = await stack.enter_async_context(talking(vpc, pairs))
        far, neighbour = run.apart
        past = [(neighbour, to) for to in far.addresses]
        others = await stack.enter_async_context(talking(vpc, past, vpc.far))
        under_test = HostUnderTest(run.ec2, daemon, Watch(vpc, ()))
        await run.come_and_go(daemon, plugs)
        await run.restart(daemon)
        await run.change(under_test)
        if kind.is_kind:  # else the primary is cut off once nicwatchd has released it
            await run.leave_and_return(under_test)
        await asyncio.gather(*(stream.goes_on() for stream in streams))
        machine = [wait for stream in others for wait in stream.waits]
        longest = ((silence(wait, machine) for wait in stream.waits) for stream in streams)
        run.waits = [max(waits, default=0.0) for waits in longest]
    return run
