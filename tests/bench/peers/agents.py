"""The agents that are compared, and how each is installed."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nicwatchd.sim.probe import all_answer
from tests.bench.peers import guest, judge
from tests.bench.peers.measure import Found, cpu
from tests.vm import image
from tests.vm.host import PATIENCE, VmHost, package

CALM: Final = 40.0  # s
IDLE: Final = 0.05  # of a core, meanwhile: after the boot, timers and indexes take whole seconds
LONGEST: Final = 240.0  # s to wait for that: an agent's own timer never lets it rest
# What the outcome may depend on, where it is installed.
PACKAGES: Final = ("amazon-ec2-net-utils", "cloud-init", "netplan.io", "iproute2", "systemd")


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent: its name for people, and the image on which it is installed."""

    title: str
    recipe: str
    ours: bool = False  # nicwatchd: the package goes on top of the image
    busy: bool = False  # it takes both cores for a minute at each hot-plug, emulated as they are

    def host(self, directory: Path) -> VmHost:
        """The host of an agent."""
        return VmHost(image.find(self.recipe), directory, package() if self.ours else None)

    async def settle(self, host: VmHost) -> dict[str, list[str]]:
        """Wait until it runs, the primary is in use and nothing changes; returns the state.

        amazon-ec2-net-utils runs again 30 to 35 s after it has configured the primary.
        """
        if self.ours:
            await host.install()
            await host.vm.run("systemctl", "restart", "systemd-networkd")  # for its drop-in
        return await calm(host)

    def say(self, what: str, found: Found) -> Found:
        """Print what a scenario found; returns it."""
        shown = {
            name: round(value, 2) if isinstance(value, float) else value
            for name, value in found.items()
        }
        sys.stdout.write(f"{self.title}, {what}: {shown}\n")
        sys.stdout.flush()
        return found


AGENTS: Final = {
    "nicwatchd": Agent("nicwatchd", "trixie", ours=True),
    "net-utils": Agent("amazon-ec2-net-utils", "net-utils", busy=True),
    "cloud-init": Agent("cloud-init (hotplug)", "cloud-init", busy=True),
    "none": Agent("no agent", "trixie"),
}


async def calm(host: VmHost) -> dict[str, list[str]]:
    """Wait until the primary is in use, nothing changes and the CPU rests; returns the state."""
    await all_answer(host.vpc, host.from_afar(host.vpc.primary), PATIENCE)
    before, now = None, await guest.snapshot(host)
    began, is_busy = time.monotonic(), True
    while before is None or judge.left_behind(before, now) or is_busy:
        since, before_it = await cpu(host)
        await asyncio.sleep(CALM)
        until, after_it = await cpu(host)
        is_busy = after_it - before_it > IDLE * (until - since) and until - began < LONGEST
        before, now = now, await guest.snapshot(host)
    return now


async def versions(host: VmHost) -> dict[str, str]:
    """The versions of the packages, of the kernel, and of nicwatchd if it is installed."""
    query = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package} ${Version}\n"]
    said = await host.vm.try_run(*query, *PACKAGES, "nicwatchd")  # exits 1 where one is unknown
    lines = (line.split() for line in said.out.splitlines() if line.startswith("ii"))
    kernel = (await host.vm.run("uname", "-r")).strip()
    return {"kernel": kernel, **{name: version for _, name, version in lines}}
