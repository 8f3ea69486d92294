"""A systemd-journald of a scenario's own.

It runs in a mount namespace where /run/systemd and /run/log are its own, too; the daemon and the
commands join it there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.scenarios.host import WITHIN

JOURNALD = "/usr/lib/systemd/systemd-journald"
# /var/log as well: the journal of the machine that the tests run on is nobody's business.
OWN = ("/run/systemd", "/run/log", "/var/log")
SET_UP = f"for i in {' '.join(OWN)}; do mkdir -p $i; mount -t tmpfs tmpfs $i; done; exec {JOURNALD}"


@dataclass(frozen=True)
class Journal:
    """A running journald. `wrapper` lets a command join it."""

    wrapper: tuple[str, ...]

    async def entries(self, *matches: str) -> list[dict[str, Any]]:
        """What `journalctl` prints, oldest first; all that was sent before is there."""
        assert await self.sync()
        lines = await self._journalctl("-o", "json", *matches)
        return [json.loads(line) for line in lines.splitlines()]

    async def sync(self) -> bool:
        """Wait until everything that was sent is stored; False: it does not serve yet."""
        process = await asyncio.create_subprocess_exec(*self.wrapper, "journalctl", "--sync")
        return await process.wait() == 0

    async def _journalctl(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *self.wrapper, "journalctl", "--quiet", *arguments, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        return out.decode()


@asynccontextmanager
async def own_journal() -> AsyncIterator[Journal]:
    journald = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", "sh", "-e", "-c", SET_UP),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,  # it has no /dev/kmsg, no audit: not here
    )
    own_run = Path(f"/proc/{journald.pid}/root/run")
    own = Journal(("nsenter", f"--mount=/proc/{journald.pid}/ns/mnt", f"--wd={Path.cwd()}"))
    async with asyncio.timeout(WITHIN):
        # It has its socket before it serves, and what comes in between is stored without a uid.
        while not ((own_run / "systemd/journal/socket").exists() and await own.sync()):
            assert journald.returncode is None
            await asyncio.sleep(0.02)
    yield own
    journald.terminate()
    await journald.wait()
