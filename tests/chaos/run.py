"""`make chaos`: walk far, on many seeds, in fast motion and on hosts of real namespaces.

Exit code 1 where one goes astray.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from nicwatchd.core.policy import Policy
from nicwatchd.sim import fast_clock
from tests.chaos import propose_all, propose_narrow
from tests.chaos.fast import POLICY, FastWorld
from tests.chaos.namespaces import walk_in_namespaces
from tests.chaos.walk import AstrayError, Proposed, wander
from tests.chaos.watched_kernel import WatchedKernel


def walk(
    seed: int,
    steps: int,
    kernel: WatchedKernel | None = None,
    proposed: Proposed = propose_all.action,
    policy: Policy = POLICY,
) -> list[str]:
    """Walk so far, and give the daemon's journal; raises AstrayError.

    The same seed leads to the same walk: what jitters takes its chance from it, too.
    """
    random.seed(seed)
    with tempfile.TemporaryDirectory() as directory:

        async def go() -> list[str]:
            return await _walk(FastWorld(Path(directory), kernel, policy), seed, steps, proposed)

        return fast_clock.run(go())


async def _walk(world: FastWorld, seed: int, steps: int, proposed: Proposed) -> list[str]:
    try:
        await wander(world, seed, steps, proposed)
    finally:
        await world.close()
    return world.journal


async def walk_side_by_side(seeds: Sequence[int], steps: int) -> list[BaseException]:
    """Walks on real namespaces, each on a host of its own; those that went astray."""
    walks = [walk_in_namespaces(seed, steps) for seed in seeds]
    ended = await asyncio.gather(*walks, return_exceptions=True)
    return [error for error in ended if error is not None]


def again(seed: int, steps: int) -> str:
    """The command that walks the same walk."""
    return f"make chaos ARGS='--worlds fast --seed {seed} --steps {steps} --walks 1'"


def tell(text: str) -> None:
    """Write to standard output at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def main() -> int:
    """Walk as the arguments say."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--worlds", choices=("fast", "namespaces", "both"), default="both")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--steps", type=int, help="of each walk; by default 2000 fast, 200 real")
    parser.add_argument("--walks", type=int, help="each with the next seed; by default 5 and 4")
    arguments = parser.parse_args()
    right = True
    if arguments.worlds != "namespaces":
        steps, walks = arguments.steps or 2000, arguments.walks or 5
        right = _fast(range(arguments.seed, arguments.seed + walks), steps)
    if right and arguments.worlds != "fast":
        steps, walks = arguments.steps or 200, arguments.walks or 4
        right = _real(range(arguments.seed, arguments.seed + walks), steps)
    return 0 if right else 1


def _fast(seeds: Sequence[int], steps: int) -> bool:
    """One after another; whether all is right."""
    for seed in seeds:
        tell(f"seed {seed}: {steps} steps in fast motion ... ")
        started = time.monotonic()
        try:
            walk(seed, steps, proposed=propose_narrow.action)
        except AstrayError as error:
            tell(f"astray\n{error}\n{again(seed, steps)}\n")
            return False
        tell(f"all is right ({time.monotonic() - started:.0f} s)\n")
    return True


def _real(seeds: Sequence[int], steps: int) -> bool:
    """Side by side; whether all is right."""
    tell(f"seeds {seeds[0]} to {seeds[-1]}: {steps} steps each on real namespaces ... ")
    started = time.monotonic()
    astray = asyncio.run(walk_side_by_side(seeds, steps))
    for error in astray:
        tell("astray\n" + "".join(traceback.format_exception(error)))
    if not astray:
        tell(f"all is right ({time.monotonic() - started:.0f} s)\n")
    return not astray


if __name__ == "__main__":
    sys.exit(main())
