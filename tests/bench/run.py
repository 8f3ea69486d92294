"""`make bench`: measures the figures in docs/benchmarks.md; exits with 1 if a budget is missed."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from nicwatchd.sim import sandbox
from tests.bench import (
    at_once,
    bulk,
    clients,
    command,
    crowd,
    foreign,
    heal,
    hotplug,
    in_place,
    loop,
    quiet,
    races,
    report,
    silence,
    unbound,
)
from tests.bench.figures import Figure

Measurement = Callable[..., Awaitable[list[Figure]]]

# Measurements of one phase run in parallel; the phases run one after another. The hot-plugs, and
# the short measurements, which compute more than they wait, run beside nothing but an idle host.
PHASES: Final[Sequence[dict[str, Measurement]]] = (
    {"hotplug": hotplug.measure},
    {"at-once": at_once.measure},
    {"races": races.measure, "heal": heal.measure, "kinds": heal.measure_kinds},
    {"clients": clients.measure},
    {"unbound": unbound.measure},
    {"silence": silence.measure},
    {"bulk": bulk.measure},
    {"crowd": crowd.measure},
    {"foreign": foreign.measure},
    {"command": command.measure},
    {"loop": loop.measure},
)
# These wait for most of the time, and run in parallel with all phases.
BESIDE: Final[dict[str, Measurement]] = {"quiet": quiet.measure, "in_place": in_place.measure}
NAMES: Final = tuple(name for phase in (*PHASES, BESIDE) for name in phase)


def main() -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=NAMES, help="this one (repeatable)")
    parser.add_argument("--quick", action="store_true", help="few samples, for development")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the lags")
    arguments = parser.parse_args()
    sandbox.require()
    names = frozenset(arguments.only or NAMES)
    sys.stdout.write(f"seed {arguments.seed}\n")
    started, others = time.monotonic(), report.Others()
    figures = asyncio.run(_measure(names, arguments.seed, quick=arguments.quick))
    share = others.share()
    took = f"{time.monotonic() - started:.0f} s"
    sys.stdout.write(f"\n{took}; other work took {share:.0%} of the machine's CPU time\n")
    if names == frozenset(NAMES) and not arguments.quick:
        report.write(figures, arguments.seed, share)
    missed = [figure.what for figure in figures if not figure.met]
    for what in missed:
        sys.stdout.write(f"over budget: {what}\n")
    return 1 if missed else 0


async def _measure(names: frozenset[str], seed: int, *, quick: bool) -> list[Figure]:
    """All figures, in the order of the phases."""

    async def one(name: str, measurement: Measurement) -> list[Figure]:
        figures = await measurement(seed, quick=quick)
        sys.stdout.write(f"\n{name}:\n{report.table(figures)}")
        sys.stdout.flush()
        return figures

    async with asyncio.TaskGroup() as beside:
        rest = [beside.create_task(one(n, m)) for n, m in BESIDE.items() if n in names]
        figures: list[Figure] = []
        for phase in PHASES:
            runs = [one(name, m) for name, m in phase.items() if name in names]
            for found in await asyncio.gather(*runs):
                figures += found
    return figures + [figure for task in rest for figure in task.result()]


if __name__ == "__main__":
    sys.exit(main())
