"""`make chaos`: walk far, on many seeds, in fast motion. Exit code 1 where one goes astray."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import clock
from tests.chaos.fast import FastWorld
from tests.chaos.walk import AstrayError, wander
from tests.chaos.watched_kernel import WatchedKernel


def walk(seed: int, steps: int, kernel: WatchedKernel | None = None) -> list[str]:
    """Walk so far, and give the daemon's journal; raises AstrayError.

    The same seed leads to the same walk: what jitters takes its chance from it, too.
    """
    random.seed(seed)
    with tempfile.TemporaryDirectory() as directory:
        return clock.run(_walk(Path(directory), seed, steps, kernel))


async def _walk(directory: Path, seed: int, steps: int, kernel: WatchedKernel | None) -> list[str]:
    world = FastWorld(directory, kernel)
    try:
        await wander(world, seed, steps)
    finally:
        await world.close()
    return world.journal


def again(seed: int, steps: int) -> str:
    """The command that walks the same walk."""
    return f"make chaos ARGS='--seed {seed} --steps {steps} --walks 1'"


def tell(text: str) -> None:
    """Write to standard output at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def main() -> int:
    """Walk as the arguments say."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--steps", type=int, default=2000, help="of each walk")
    parser.add_argument("--walks", type=int, default=5, help="each with the next seed")
    arguments = parser.parse_args()
    for seed in range(arguments.seed, arguments.seed + arguments.walks):
        tell(f"seed {seed}: {arguments.steps} steps ... ")
        started = time.monotonic()
        try:
            walk(seed, arguments.steps)
        except AstrayError as error:
            tell(f"astray\n{error}\n{again(seed, arguments.steps)}\n")
            return 1
        tell(f"all is right ({time.monotonic() - started:.0f} s)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
