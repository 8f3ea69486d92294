"""Programs of others beside nicwatchd: the real ones, from build/software (see .ci/software).

bird = Software(host.vpc, host.vpc.host)
file = bird.write("bird.conf", config("bird-host.conf"))
process = await bird.start("bird", "-f", "-c", file)
await bird.logged("bird", "Started")
await stop(process)
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Final

from nicwatchd.sim.vpc import Vpc
from tests.scenarios.host import WITHIN

UNPACKED: Final = Path(__file__).parents[2] / "build" / "software"
CONFIGS: Final = Path(__file__).parent / "configs"
# Not the tests' own, whose first entries are those of .venv.
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACE: Final = 0.05  # s between two looks at what has no event

# In the mount namespace that `ip netns exec` makes for each process: their files on top of /usr and
# below /etc, and a /run that no other scenario sees. The process id stays that of the command.
ENTER: Final = """
set -e
mount -t overlay software -o "lowerdir=$1/usr:/usr" /usr
mount -t overlay software -o "lowerdir=/etc:$1/etc" /etc
mount --bind "$2" /run
shift 2
exec "$@"
"""


class Software:
    """Programs in one namespace of a lab. What they find in /run is theirs, and ends with the lab.

    `environment` is added to their PATH.
    """

    def __init__(self, vpc: Vpc, namespace: str, **environment: str) -> None:
        assert (UNPACKED / "packages").exists(), f"{UNPACKED} is missing: run .ci/setup"
        self._vpc, self.namespace = vpc, namespace
        self._environment = {"PATH": PATH, **environment}
        self._started: dict[str, Process] = {}
        self._run_dir = vpc.runtime_dir / "run" / namespace
        (self._run_dir / "log").mkdir(parents=True)

    def write(self, name: str, text: str, *, mode: int = 0o644) -> str:
        """Write a file; returns its path as the programs see it."""
        file = self._run_dir / name
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
        return f"/run/{name}"

    def _entering(self, command: tuple[str, ...]) -> tuple[str, ...]:
        return ("sh", "-c", ENTER, "sh", str(UNPACKED), str(self._run_dir), *command)

    async def start(self, *command: str) -> Process:
        """Start a program that stays in the foreground. The lab ends it by its process id."""
        name, words = Path(command[0]).name, self._entering(command)
        with (self._run_dir / "log" / name).open("ab") as log:
            process = await self._vpc.popen(
                self.namespace, *words, stdout=log, stderr=log, env=self._environment
            )
        self._started[name] = process
        return process

    async def run(self, *command: str, codes: Collection[int] = (0,)) -> str:
        """Run a program to its end, which must be one of these codes; returns what it printed."""
        pipe, words = asyncio.subprocess.PIPE, self._entering(command)
        process = await self._vpc.popen(
            self.namespace,
            *words,
            stdout=pipe,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment,
        )
        async with asyncio.timeout(WITHIN):
            said, _ = await process.communicate()
        assert process.returncode in codes, f"{command}: {process.returncode}: {said.decode()}"
        return said.decode()

    def log(self, program: str) -> str:
        """What a started program wrote."""
        return (self._run_dir / "log" / program).read_text(encoding="utf-8", errors="replace")

    async def logged(self, program: str, words: str) -> None:
        """Wait until a started program has written this. An error if it ended before."""

        async def said() -> bool:
            ended = self._started[program].returncode
            assert ended is None, f"{program} ended with {ended}:\n{self.log(program)}"
            return words in self.log(program)

        await eventually(said, lambda: f"{program} did not say {words!r}:\n{self.log(program)}")


def config(name: str, **values: str) -> str:
    """A file of the folder `configs`, with these values for its <placeholders>."""
    text = (CONFIGS / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"<{key}>", value)
    return text


async def stop(process: Process) -> None:
    """End a program as systemd does, and wait for its end."""
    process.terminate()
    async with asyncio.timeout(WITHIN):
        await process.wait()


async def eventually(
    is_so: Callable[[], Awaitable[bool]], otherwise: Callable[[], str] = lambda: "it is not so"
) -> None:
    """Wait for what has no event. `otherwise` says what is wrong."""
    try:
        async with asyncio.timeout(WITHIN):
            while not await is_so():  # noqa: ASYNC110 (see above)
                await asyncio.sleep(PACE)
    except TimeoutError:
        raise AssertionError(f"after {WITHIN:g} s: {otherwise()}") from None
