"""A virtual machine whose time is its count of instructions, and the commands that measure on it.

Each instruction takes a nanosecond, whatever the emulating host has to do, and the clock jumps over
idle time. So seconds of CPU there are 1e9 instructions, and the same on every machine.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from nicwatchd.sim import sandbox
from tests.bench import report
from tests.bench.figures import Figure
from tests.vm import image
from tests.vm.host import VmHost, package

IMAGE: Final = "trixie"
# Routers are advertised by our clock, of which the machine's is many times ahead: so only at first.
ADVERTISED: Final = "1800,9000"  # s, between two, and of the router
Measurement = Callable[..., Coroutine[Any, Any, list[Figure]]]


@asynccontextmanager
async def installed() -> AsyncIterator[VmHost]:
    """A host with the package installed."""
    with tempfile.TemporaryDirectory() as directory:
        host = VmHost(image.find(IMAGE), Path(directory), package(), counted=True)
        host.vpc.advertised = ADVERTISED
        async with host:
            await host.install()
            yield host


def main(target: str, description: str | None, measure: Measurement) -> int:
    """Measure for `make TARGET`; returns the exit code: 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(prog=target, description=description)
    parser.add_argument("--quick", action="store_true", help="few samples; writes nothing")
    arguments = parser.parse_args()
    sandbox.require()
    figures = asyncio.run(measure(quick=arguments.quick))
    sys.stdout.write(report.table(figures))
    if not arguments.quick:
        report.fill_in(f"make {target}", report.table(figures))
    return 0 if all(figure.met for figure in figures) else 1
