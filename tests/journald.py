"""A real systemd-journald of a test's own."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

from nicwatchd.service import protocols

JOURNALD: Final = "/lib/systemd/systemd-journald"
WDNS: Final = f"--wdns={Path(__file__).parents[1]}"
PATIENCE: Final = 20.0  # s
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


def send(fields: Mapping[str, str], path: Path = protocols.JOURNAL) -> None:
    """Send an entry, and wait where journald's socket is full."""
    with protocols.journal_connect(path) as sender:
        sender.setblocking(True)
        protocols.journal_put(sender, protocols.journal_entry(fields))


class Journald:
    """A systemd-journald in a mount namespace with its own /run.

    `files`: the directory for its files, which outlives it, and `boot`: the id that it takes for
    that of this boot; so several one after the other are several boots.
    """

    def __init__(self, files: Path | None = None, boot: UUID | None = None) -> None:
        steps = ["mount -t tmpfs tmpfs /run", "mount --bind /dev/null /dev/kmsg"]
        if files:
            files.mkdir(exist_ok=True)
            steps += ["mkdir -p /run/log/journal", f"mount --bind {files} /run/log/journal"]
        if files and boot:
            own_id = files.with_suffix(f".{boot.hex}")
            own_id.write_text(f"{boot}\n")
            steps.append(f"mount --bind {own_id} {BOOT_ID}")
        self._process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-e", "-c", "; ".join([*steps, f"exec {JOURNALD}"])],
            stderr=subprocess.DEVNULL,
        )
        self._run = Path("/proc", str(self._process.pid), "root", "run")
        self.socket = self._run / "systemd/journal/socket"

    def wait(self) -> None:
        """Until it serves: what comes when it has but its socket is stored without a uid."""
        deadline = time.monotonic() + PATIENCE
        while not (self.socket.exists() and self._is_synced()):
            assert self._process.poll() is None, "systemd-journald ended"
            assert time.monotonic() < deadline, "systemd-journald makes no socket"
            time.sleep(0.01)

    def inside(self, *command: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command where this journald is the system's; `before`: words that lead there."""
        words = ["nsenter", "--mount", f"--target={self._process.pid}", WDNS, *before, *command]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    def entries(self, *matches: str) -> list[dict[str, str]]:
        """What journalctl reads once everything sent before has been written."""
        self.sync()
        directory = f"--directory={self._run}/log/journal"
        return list(protocols.journal_entries(matches, (directory,)))

    def sync(self) -> None:
        """Wait until everything that was sent has been written."""
        assert self._is_synced()

    def _is_synced(self) -> bool:
        return self.inside("journalctl", "--sync").returncode == 0

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It reads nothing meanwhile."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
