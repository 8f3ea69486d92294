"""Programs of the host that do for nftables and iptables what netlink alone does not do well."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from typing import Final

# They are where only root's PATH may look.
MORE_PATH: Final = ":/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended, and what it wrote."""

    code: int
    out: str
    complaint: str


def find(name: str) -> str | None:
    """Where a program is; None: it is not installed."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + MORE_PATH)


async def run(program: str, *arguments: str, patience: float, text: str = "") -> Ended:
    """Run a program, with this text as its input, for at most `patience` seconds.

    Raises OSError if it cannot be started, and TimeoutError once it was killed for its time.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdin=pipe, stdout=pipe, stderr=pipe, env={"LC_ALL": "C"}
    )
    try:
        async with asyncio.timeout(patience):
            out, complaint = await process.communicate(text.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    code = process.returncode or 0
    return Ended(code, out.decode(errors="replace"), complaint.decode(errors="replace"))
