"""How long `nicwatchd status` takes."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Final

from nicwatchd.core.model import Family
from nicwatchd.sim.ec2 import DaemonProcess
from tests.bench import host, outside
from tests.bench.figures import Figure, Limit

RUNS: Final = 20
QUICK_RUNS: Final = 5
PATIENCE: Final = 120.0  # s


async def ready(daemon: DaemonProcess) -> None:
    """Return once everything on the host works: else the command says what does not."""
    async with asyncio.timeout(PATIENCE):
        while not (await daemon.get("/v1/status"))["ready"]:  # noqa: ASYNC110 (see below)
            await asyncio.sleep(0.1)  # the primary's health alone has no event


async def run_status(directory: Path, runs: int) -> list[float]:
    """The wall times of so many runs of the command, one after the other; all must be well."""
    words = ["-m", "nicwatchd.cli.main", "status", "--runtime-directory", str(directory)]
    times = []
    for _ in range(runs):
        start = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        times.append(time.monotonic() - start)
        if process.returncode or b"eth1" not in out:
            raise outside.NeverCameError(f"`nicwatchd status`: {out.decode()}")
    return times


async def measure(_seed: int, *, quick: bool) -> list[Figure]:
    """Wall time of the whole command, from its start to its end, against a daemon at rest."""
    script = host.script(1)
    async with host.host(script) as ec2:
        daemon = await ec2.start_daemon()
        eni = await host.plug(ec2, script.name, tuple(Family))
        with outside.look_into(ec2.vpc.host) as probe:
            await probe.complete(outside.expected(eni, ec2.vpc.ifindex(eni)))
        await ready(daemon)
        times = await run_status(ec2.vpc.runtime_dir, QUICK_RUNS if quick else RUNS)
    return [
        Figure(
            f"`nicwatchd status`, {len(times)} runs",
            times,
            limits=(Limit("median", 0.060),),
            show=("max",),
        )
    ]
