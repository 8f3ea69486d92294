"""A hot-plug where IMDS is complete at once and no DHCP client runs, as a user sees it."""

from __future__ import annotations

import asyncio
from typing import Final

from nicwatchd.core.model import Family
from nicwatchd.sim.ec2 import Ec2
from nicwatchd.sim.probe import Acceptor, Watch, paths
from tests.bench import host
from tests.bench.figures import Figure, Limit

PLUGS: Final = 8
QUICK_PLUGS: Final = 2
INTERVAL: Final = 0.05  # s between new connections on each path
PATIENCE: Final = 20.0  # s
PAUSE: Final = 0.5  # s from reachable to the unplug, and to the next plug


async def measure(_seed: int, *, quick: bool) -> list[Figure]:
    """Hot-plug ENIs on one host, one after another.

    Start: the link exists, and IMDS lists all of it. End: the first answer to a TCP connection on
    the slowest of the paths from the far hosts and neighbours to the ENI's addresses of a family.
    """
    scripts = [host.script(number) for number in range(1, (QUICK_PLUGS if quick else PLUGS) + 1)]
    times: dict[Family, list[float]] = {family: [] for family in Family}
    async with host.host(*scripts) as ec2, Acceptor(ec2.vpc, ec2.vpc.host):
        daemon = await ec2.start_daemon()
        await daemon.until("eth0", "ignored")
        for script in scripts:
            for family, time in (await _reachable(ec2, script.name)).items():
                times[family].append(time)
            await asyncio.sleep(PAUSE)
            await ec2.unplug(script.name)
            await asyncio.sleep(PAUSE)
    return [
        Figure(
            f"complete at the hot-plug, no DHCP client -> TCP by {family.label}",
            times[family],
            limits=(Limit("median", 0.5),),
            show=("max",),
            note=f"tried every {INTERVAL * 1000:.0f} ms",
        )
        for family in Family
    ]


async def _reachable(ec2: Ec2, name: str) -> dict[Family, float]:
    """From when on every path of a family answers, in s from the hot-plug."""
    eni = await host.plug(ec2, name)
    plugged = ec2.imds.complete_at(name)
    peers = ec2.vpc.peers(eni)
    wanted = {family: paths(peers, eni.addresses(family)) for family in Family}
    every = [path for each in wanted.values() for path in each]
    async with Watch(ec2.vpc, every, interval=INTERVAL) as watch:
        await watch.all_reachable(PATIENCE)
        return {
            family: max(s for path in each if (s := watch.since(path)) is not None) - plugged
            for family, each in wanted.items()
        }
