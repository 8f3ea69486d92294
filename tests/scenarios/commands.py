"""The `nicwatchd` command as a process of its own: what it says, and how it ends."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from nicwatchd.sim.vpc import Vpc

NICWATCHD = (sys.executable, "-m", "nicwatchd.cli.main")
# Another user, who can read where this Python lives.
AS_NOBODY = (
    *("setpriv", "--reuid=65534", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    complaint: str

    @property
    def text(self) -> str:
        """What it said, on one line: where lines are broken is for people."""
        return " ".join(self.out.split())

    @property
    def complaint_line(self) -> str:
        """What it complained of, which is one line."""
        (line,) = self.complaint.splitlines()
        return line


async def nicwatchd(*arguments: str, wrapper: Sequence[str] = ()) -> Ended:
    """Run it where the tests run; `wrapper` is a command that becomes it."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *wrapper, *NICWATCHD, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
    )
    return await _end(process)


async def nicwatchd_on(vpc: Vpc, *arguments: str, wrapper: Sequence[str] = ()) -> Ended:
    """Run it on the VPC's host, where the daemon's socket is."""
    pipe = asyncio.subprocess.PIPE
    directory = str(vpc.runtime_dir)
    command = (*wrapper, *NICWATCHD, *arguments, "--runtime-directory", directory)
    return await _end(await vpc.popen(vpc.host, *command, stdout=pipe, stderr=pipe))


async def _end(process: asyncio.subprocess.Process) -> Ended:
    out, complaint = await process.communicate()
    return Ended(await process.wait(), out.decode(), complaint.decode())
