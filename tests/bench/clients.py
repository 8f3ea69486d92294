"""What hundreds of unprivileged clients that press the socket without end cost.

A rule that somebody deletes is back later, and the daemon has more memory.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Final

from nicwatchd.sim.ec2 import DaemonProcess
from tests.bench import heal, outside
from tests.bench.figures import Figure, Limit
from tests.scenarios.commands import AS_NOBODY

CLIENTS: Final = 256  # more than the daemon has for those without privileges
DELETIONS: Final = 16  # alone, and as many with the clients
QUICK_DELETIONS: Final = 3
LATER: Final = 0.050  # s
GROWN: Final = 32.0  # MiB: 224 connections, each with its parser, its buffers and a request
PROGRAM: Final = Path(__file__).with_name("asking.py")
WARM_UP: Final = 3.0  # s


async def measure(seed: int, *, quick: bool) -> list[Figure]:
    """Delete rules one at a time, first on a host at rest, then while the clients ask."""
    chance, count = random.Random(seed), QUICK_DELETIONS if quick else DELETIONS
    async with heal.applied() as (probe, wanted, daemon):
        alone = await _deletions(probe, wanted, chance, count)
        before = _resident(daemon)
        async with _asking(daemon):
            await asyncio.sleep(WARM_UP)
            crowded = await _deletions(probe, wanted, chance, count)
            grown = _resident(daemon) - before
    later = statistics.median(crowded) - statistics.median(alone)
    latest = max(crowded) - max(alone)
    title = f"our rule deleted -> back, while {CLIENTS} unprivileged clients press the socket"
    return [
        Figure(title, crowded, show=("median", "max")),
        Figure("... later than at rest, in the median", [later], limits=(Limit("max", LATER),)),
        Figure("... the slowest, later than the slowest at rest", [latest], show=("max",)),
        Figure(
            "... the daemon's resident memory beyond that at rest",
            [grown],
            "MiB",
            limits=(Limit("max", GROWN),),
        ),
    ]


def _resident(daemon: DaemonProcess) -> float:
    """The daemon's resident memory in MiB."""
    lines = Path(f"/proc/{daemon.process.pid}/status").read_text(encoding="ascii").splitlines()
    (size,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(size) / 1024


async def _deletions(
    probe: outside.Outside, wanted: outside.Expected, chance: random.Random, count: int
) -> list[float]:
    times = []
    for rule in islice(cycle(sorted(wanted.rules, key=str)), count):
        await asyncio.sleep(chance.uniform(*heal.SPACING))
        times.append(await heal.delete(probe, rule))
    return times


@asynccontextmanager
async def _asking(daemon: DaemonProcess) -> AsyncIterator[None]:
    """The clients, in a process of another user."""
    command = (*AS_NOBODY, sys.executable, str(PROGRAM), str(daemon.socket), str(CLIENTS))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe)
    assert process.stdout is not None, "a pipe"
    try:
        line = await process.stdout.readline()
        if line != b"connected\n":
            raise RuntimeError(f"the clients could not connect: {line!r}")
        yield
        if process.returncode is not None:
            raise RuntimeError("the clients ended")
    finally:
        if process.returncode is None:
            process.terminate()
        sys.stdout.write(f"the clients: {(await process.stdout.read()).decode()}")
        await process.wait()
