"""A full host, 64 ENIs of 50 addresses in each family: what a start costs, and `status`."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pyroute2.netlink.rtnl import RTM_NEWLINK

from nicwatchd.core.model import Family
from nicwatchd.netlink.events import RECEIVE, open_event_socket
from nicwatchd.netlink.wire import unpack
from nicwatchd.sim import dhcp, netns
from nicwatchd.sim.ec2 import DaemonProcess, Ec2
from nicwatchd.sim.script import EniScript
from tests.bench import command, host, outside
from tests.bench.figures import Figure, Limit
from tests.bench.quiet import Process

ENIS: Final = 64  # the most that the largest instance types support
QUICK_ENIS: Final = 16
ADDRESSES: Final = 50
DETECTION: Final = 3.0  # s of duplicate address detection for DHCPv6 addresses
LOOK: Final = (
    0.1  # s between two reads of thousands of objects: more often would be most of the load
)
PATIENCE: Final = 120.0  # s


def script(number: int, addresses: int = ADDRESSES) -> EniScript:
    """ENI `number`, in a subnet of its own, with so many addresses of each family."""
    return EniScript(
        f"eth{number}",
        f"02:00:00:00:02:{number:02x}",
        tuple(f"10.2.{number}.{10 + n}" for n in range(addresses)),
        tuple(f"2001:db8:2:{number:x}::{16 + n:x}" for n in range(addresses)),
        subnet_ipv4=f"10.2.{number}.0/24",
        subnet_ipv6=(f"2001:db8:2:{number:x}::/64",),
        device_number=number,
    )


async def measure(_seed: int, *, quick: bool) -> list[Figure]:
    """Start the daemon twice, with all ENIs plugged and leased and IMDS complete.

    Start: the start of the daemon's process. End: the probe outside sees everything in the kernel;
    for the second start, which writes nothing, the daemon reports every ENI as applied.
    """
    enis = QUICK_ENIS if quick else ENIS
    scripts = [script(number) for number in range(1, enis + 1)]
    async with host.host(*scripts) as ec2:
        await plug_all(ec2, scripts)
        with outside.look_into(ec2.vpc.host) as probe:
            wanted = [
                outside.expected(eni, ec2.vpc.ifindex(eni))
                for eni in (ec2.eni(script.name) for script in scripts)
            ]
            cold = await start(ec2)
            for one in wanted:
                await probe.complete(one, PATIENCE, LOOK)
            first = time.monotonic() - cold.at
            await all_applied(cold.daemon, enis)
            cold_cpu = cold.process.cpu()
            await cold.daemon.stop()
            with netns.inside(ec2.vpc.host):
                changes = open_event_socket()
            with changes:
                again = await start(ec2)
                await all_applied(again.daemon, enis)
                second = time.monotonic() - again.at
                written = _count(changes)
            await command.ready(again.daemon)
            runs = command.QUICK_RUNS if quick else command.RUNS
            commands = await command.run_status(ec2.vpc.runtime_dir, runs)
            again_cpu = again.process.cpu()
    what = f"{enis} ENIs with {ADDRESSES} + {ADDRESSES} addresses"
    return [
        Figure(
            f"{what}: start -> all applied",
            [first],
            "s",
            limits=(Limit("max", 10.0),),
            note=f"{cold_cpu:.1f} s CPU",
        ),
        Figure(f"{what}: restart -> all applied", [second], "s", note=f"{again_cpu:.1f} s CPU"),
        Figure(
            f"{what}: objects written by a restart",
            [float(written)],
            unit="",
            limits=(Limit("max", 0.0),),
        ),
        Figure(
            f"`nicwatchd status`, {enis} ENIs with {2 * ADDRESSES} addresses, {runs} runs",
            commands,
            limits=(Limit("median", 0.120),),
            show=("max",),
        ),
    ]


async def plug_all(ec2: Ec2, scripts: Sequence[EniScript]) -> None:
    """Hot-plug all, with the first addresses from DHCP, after duplicate address detection."""
    await ec2.plug(*(script.name for script in scripts))
    leases = [
        line
        for script in scripts
        for family in Family
        for line in dhcp.lines_for_lease(ec2.eni(script.name), family, dhcp.LEASE_METRIC)
    ]
    await ec2.vpc.ip(ec2.vpc.host, *leases)
    await asyncio.sleep(DETECTION)


@dataclass(frozen=True)
class Started:
    """A daemon, and when its process was started."""

    daemon: DaemonProcess
    at: float

    @property
    def process(self) -> Process:
        return Process(self.daemon.process.pid)


async def start(ec2: Ec2) -> Started:
    at = time.monotonic()
    return Started(await ec2.start_daemon(), at)


async def all_applied(daemon: DaemonProcess, enis: int) -> None:
    """Return once the daemon reports every ENI as applied."""
    applied: set[str] = set()
    async with asyncio.timeout(PATIENCE), daemon.events() as events:
        async for status in events:
            if status["state"] == "applied":
                applied.add(status["name"])
            if len(applied) == enis:
                return


def _count(changes: socket.socket) -> int:
    """Count the addresses, routes and rules that come or go: on an idle host, by the daemon."""
    count = 0
    while True:
        try:
            datagram = changes.recv(RECEIVE)
        except BlockingIOError:
            return count
        count += sum(message.type != RTM_NEWLINK for message in unpack(datagram))
