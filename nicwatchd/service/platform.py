"""Whether this host is on EC2, and the lock that allows only one daemon on it."""

from __future__ import annotations

import fcntl
import os
from functools import cache
from pathlib import Path
from typing import Final

DMI: Final = Path("/sys/class/dmi/id")
XEN_UUID: Final = Path("/sys/hypervisor/uuid")
NOT_EC2: Final = (
    "the firmware does not say that this is an EC2 host, so nicwatchd manages nothing; "
    'if it is one, set platform = "ec2" in /etc/nicwatchd/nicwatchd.toml'
)


class AlreadyRunningError(Exception):
    """Another daemon is running on this host; the text is one line for the operator."""


def is_ec2(dmi: Path = DMI, xen: Path = XEN_UUID) -> bool:
    """Whether the firmware says EC2: on Nitro by the vendor, on Xen by a UUID that begins ec2."""
    return _read(dmi / "sys_vendor") == "amazon ec2" or _read(xen).startswith("ec2")


@cache
def instance_id(dmi: Path = DMI) -> str:
    """The instance's id, for commands that name it; empty where the firmware does not say it."""
    tag = _read(dmi / "board_asset_tag")
    return tag if tag.startswith("i-") else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip().lower()
    except OSError:
        return ""


class Lock:
    """Held while the daemon runs. The kernel releases it however the daemon ends."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "nicwatchd.lock"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._fd = os.open(self._path, flags, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise AlreadyRunningError(
                f"nicwatchd is already running (pid {holder}, {self._path}); "
                "ask it with `nicwatchd status`, or stop it with `systemctl stop nicwatchd`"
            ) from None
        if os.geteuid() == 0:
            # A file that root owned would keep out a daemon that runs as another user.
            owner = directory.stat()
            os.fchown(self._fd, owner.st_uid, owner.st_gid)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Allow another daemon to start. The file stays, because removing it would be a race."""
        os.close(self._fd)
