"""`make bench-peers`: nicwatchd, its peers and no agent on virtual machines, side by side."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from nicwatchd.sim import sandbox
from tests.bench.peers import table
from tests.bench.peers.agents import AGENTS, versions
from tests.bench.peers.beside import Beside
from tests.bench.peers.scenarios import Play
from tests.bench.peers.windows import QUICK, WINDOWS, Windows
from tests.vm.channels import ChannelError
from tests.vm.vm import VmError

AT_ONCE: Final = 2  # machines; each emulates two cores
# Errors of one host that do not affect the others.
FAILURES: Final = (OSError, VmError, ChannelError)


def main() -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="bench-peers", description=__doc__)
    parser.add_argument("--only", action="append", choices=AGENTS, help="this one (repeatable)")
    parser.add_argument(
        "--beside", action="store_true", help="only the rows about the rest of the host"
    )
    parser.add_argument("--quick", action="store_true", help="short windows; writes nothing")
    arguments = parser.parse_args()
    sandbox.require()
    names = frozenset(arguments.only or AGENTS)
    windows = QUICK if arguments.quick else WINDOWS
    started = time.monotonic()
    found = asyncio.run(_compare(names, windows, beside=arguments.beside))
    if found:
        sys.stdout.write(f"\n{table.markdown(found)}")
    sys.stdout.write(f"\n{time.monotonic() - started:.0f} s\n")
    if found and not arguments.quick:
        table.write(found, table.emulator(), beside=arguments.beside)
    missed = [budget for budget in table.budgets(found) if not budget.kept]
    for budget in missed:
        sys.stdout.write(f"over budget: {budget}\n")
    return 1 if missed or len(found) < len(names) else 0


async def _compare(names: frozenset[str], windows: Windows, *, beside: bool) -> dict[str, Any]:
    """The results of each agent, in the order of AGENTS, except for those that failed."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> dict[str, Any] | None:
        async with free:
            try:
                return await _agent(name, windows, beside=beside)
            except FAILURES as error:
                sys.stderr.write(f"{name}: {error!r}\n")
                return None

    # Two that are busy run beside each other: beside another, one would take its time.
    wanted = sorted(names, key=lambda name: AGENTS[name].busy)
    found = dict(zip(wanted, await asyncio.gather(*map(one, wanted)), strict=True))
    return {name: seen for name in AGENTS if (seen := found.get(name))}


async def _agent(name: str, windows: Windows, *, beside: bool) -> dict[str, Any]:
    """Run everything, or what is about the rest of the host, from an agent's boot to the end."""
    agent = AGENTS[name]
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as directory:
        async with agent.host(Path(directory)) as host:
            try:
                at_boot = await agent.settle(host)
                sys.stdout.write(f"{agent.title}: the host is ready\n")
                sys.stdout.flush()
                on = await versions(host)
                if beside:
                    return {"versions": on, **await Beside(host, agent, windows).run()}
                return {"versions": on, **await Play(host, agent, windows).run(at_boot)}
            except FAILURES:
                sys.stderr.write(f"{host.vm.evidence()}\n")
                raise


if __name__ == "__main__":
    sys.exit(main())
