"""The capabilities of this process."""

from __future__ import annotations

from pathlib import Path
from typing import Final

CAP_NET_ADMIN: Final = 12
STATUS: Final = Path("/proc/self/status")


def has_net_admin(status: Path = STATUS) -> bool:
    """Whether CAP_NET_ADMIN is effective. Without it, the kernel refuses every change."""
    for line in status.read_text().splitlines():
        field, _, value = line.partition(":")
        if field == "CapEff":
            return bool(int(value, 16) >> CAP_NET_ADMIN & 1)
    return False
