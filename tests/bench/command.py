"""How long `nicwatchd status` takes."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

from nicwatchd.core.model import Family
from tests.bench import host, outside
from tests.bench.figures import Figure, Limit

RUNS: Final = 20
QUICK_RUNS: Final = 5


async def measure(_seed: int, *, quick: bool) -> list[Figure]:
    """Wall time of the whole command, from its start to its end, against a daemon at rest."""
    script = host.script(1)
    async with host.host(script) as ec2:
        daemon = await ec2.start_daemon()
        eni = await host.plug(ec2, script.name, tuple(Family))
        with outside.look_into(ec2.vpc.host) as probe:
            await probe.complete(outside.expected(eni, ec2.vpc.ifindex(eni)))
        await daemon.until("eth1", "applied")
        words = ["-m", "nicwatchd.cli.main", "status"]
        words += ["--runtime-directory", str(ec2.vpc.runtime_dir)]
        times = []
        for _ in range(QUICK_RUNS if quick else RUNS):
            start = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                sys.executable, *words, stdout=asyncio.subprocess.PIPE
            )
            out, _ = await process.communicate()
            times.append(time.monotonic() - start)
            if process.returncode or b"eth1" not in out:
                raise outside.NeverCameError(f"`nicwatchd status`: {out.decode()}")
    return [
        Figure(
            f"`nicwatchd status`, {len(times)} runs",
            times,
            limits=(Limit("median", 0.100),),
            show=("max",),
        )
    ]
