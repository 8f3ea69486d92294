"""What the daemon costs on a host where nothing happens."""

from __future__ import annotations

import asyncio
import mmap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nicwatchd.core.model import Family
from nicwatchd.sim.ec2 import Ec2
from nicwatchd.sim.parts import Eni
from tests.bench import host, hotplug, outside
from tests.bench.figures import Figure, Limit

SETTLE: Final = 180.0  # s after the hot-plug: nothing is waiting any more
QUIET: Final = 180.0  # s
QUICK_SETTLE, QUICK_QUIET = 70.0, 70.0  # nothing is missing, so it is at rest from 60 s on
# s. EC2's DHCPv6 leases are renewed at half of the preferred lifetime, 140 s.
RENEWAL: Final = 70.0
PAUSE: Final = 2.0  # s of silence, at least, between two polls at rest
TURN: Final = 4  # polls at rest in which each key that can change was read
MIB: Final = 1024.0
PAGES: Final = 2048
UNTOUCHED: Final = 5.0  # s; as long as the daemon rests between two turns


@dataclass(frozen=True, slots=True)
class Process:
    """A process, read from /proc."""

    pid: int

    def cpu(self) -> float:
        """CPU seconds of all threads so far, in nanosecond precision (`stat` has only ticks)."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def memory(self) -> tuple[float, float]:
        """Resident memory, and the proportional part of what is shared; MiB."""
        status = _fields(Path(f"/proc/{self.pid}/status").read_text())
        shared = _fields(Path(f"/proc/{self.pid}/smaps_rollup").read_text())
        return status["VmRSS"] / MIB, shared["Pss"] / MIB


def _fields(text: str) -> dict[str, int]:
    """The lines `Name: 123 kB`."""
    lines = (line.split() for line in text.splitlines() if line.endswith(" kB"))
    return {words[0].rstrip(":"): int(words[1]) for words in lines}


async def cost_of_page() -> float:
    """Seconds of CPU to touch a page of memory again that was not touched for some seconds.

    Where a hypervisor takes such pages away, whoever wakes up seldom looks costly.
    """
    with mmap.mmap(-1, PAGES * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        _touch(memory)
        await asyncio.sleep(UNTOUCHED)
        rested, warm = _touch(memory), _touch(memory)
    return max(0.0, rested - warm) / PAGES


def _touch(memory: mmap.mmap) -> float:
    """Touch each page; returns the seconds of CPU that it took."""
    before = time.thread_time()
    for at in range(0, len(memory), mmap.PAGESIZE):
        memory[at] = 1
    return time.thread_time() - before


async def measure(_seed: int, *, quick: bool) -> list[Figure]:
    """One applied ENI beside the primary; for minutes nothing happens but DHCP renewals.

    CPU time: the daemon's during the quiet minutes, as a share of one core. Requests: those about
    one NIC in whole turns of its keys, divided by that time.
    """
    script = host.script(1, host.late_steps(1.0))
    async with host.host(script) as ec2:
        daemon = await ec2.start_daemon()
        await daemon.until("eth0", "ignored")
        eni = await host.plug(ec2, script.name, tuple(Family))
        with outside.look_into(ec2.vpc.host) as probe:
            await probe.complete(outside.expected(eni, ec2.vpc.ifindex(eni)))
        process = Process(daemon.process.pid)
        await _rest(ec2, eni, QUICK_SETTLE if quick else SETTLE)
        began, before = time.monotonic(), process.cpu()
        await _rest(ec2, eni, QUICK_QUIET if quick else QUIET)
        ended, after = time.monotonic(), process.cpu()
        rss, pss = process.memory()
        page = await cost_of_page()
        rates = [_per_minute(ec2, mac, began, ended) for mac in (script.mac, host.PRIMARY_MAC)]
    return [
        Figure(
            "IMDS requests, steady, per NIC (the ENI's, the primary's)",
            rates,
            unit="",
            suffix="/min",
            limits=(Limit("max", 15.0),),
        ),
        Figure(
            f"idle CPU, of one core, over {ended - began:.0f} s",
            [(after - before) / (ended - began)],
            unit="%",
            limits=(Limit("max", 0.001),),
            note=f"to touch a page after {UNTOUCHED:g} s costs {page * 1e6:.1f} us here",
            details={"page": page},
        ),
        Figure(
            "resident memory (RSS)",
            [rss],
            unit="MiB",
            limits=(Limit("max", 64.0),),
            note=f"PSS {pss:.1f} MiB",
        ),
    ]


async def _rest(ec2: Ec2, eni: Eni, seconds: float) -> None:
    """Let time pass, while a DHCP client renews its leases."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > RENEWAL:
        await asyncio.sleep(RENEWAL)
        for family in Family:
            await ec2.vpc.lease(eni, family)
    await asyncio.sleep(left)


def _per_minute(ec2: Ec2, mac: str, start: float, end: float) -> float:
    """The rate of requests about one NIC, over whole turns of its keys."""
    times = [r.at for r in hotplug.requests_about(ec2.imds, mac, start, end)]
    polls = [b for a, b in zip([start - PAUSE, *times], times, strict=False) if b - a >= PAUSE]
    whole = max(0, len(polls) - 1) // TURN * TURN
    if not whole:
        return 60.0 * len(times) / (end - start)
    within = sum(polls[0] <= at < polls[whole] for at in times)
    return 60.0 * within / (polls[whole] - polls[0])
