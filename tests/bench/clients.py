"""What hundreds of unprivileged clients that ask without end cost: a rule is back later."""

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

CLIENTS: Final = 224  # all that the daemon has for those without privileges
DELETIONS: Final = 16  # alone, and as many with the clients
QUICK_DELETIONS: Final = 3
LATER: Final = 0.050  # s
PROGRAM: Final = Path(__file__).with_name("asking.py")


async def measure(seed: int, *, quick: bool) -> list[Figure]:
    """Delete rules one at a time, first on a host at rest, then while the clients ask."""
    chance, count = random.Random(seed), QUICK_DELETIONS if quick else DELETIONS
    async with heal.applied() as (probe, wanted, daemon):
        alone = await _deletions(probe, wanted, chance, count)
        async with _asking(daemon):
            crowded = await _deletions(probe, wanted, chance, count)
    later = statistics.median(crowded) - statistics.median(alone)
    title = f"our rule deleted -> back, while {CLIENTS} unprivileged clients ask without end"
    return [
        Figure(title, crowded, show=("max",)),
        Figure("... later than at rest, in the median", [later], limits=(Limit("max", LATER),)),
    ]


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
    try:
        assert process.stdout is not None, "a pipe"
        line = await process.stdout.readline()
        if line != b"connected\n":
            raise RuntimeError(f"the clients could not connect: {line!r}")
        yield
        if process.returncode is not None:
            raise RuntimeError("the clients were hung up on")
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
