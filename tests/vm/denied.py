"""Sees the system calls that the unit's filter denies, over everything that the suite does.

A call that the filter answers with an error leaves no trace. So the unit on the machine gets a
drop-in that lets those calls pass and has the kernel log each of them, and no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.vm.channels import Entry

UNIT: Final = Path(__file__).parents[2] / "systemd" / "nicwatchd.service"
DROP_IN: Final = "/etc/systemd/system/nicwatchd.service.d/denied.conf"
SECCOMP: Final = "1326"  # linux/audit.h: AUDIT_SECCOMP
BY_ROOT: Final = re.compile(r"\buid=0\b")  # no process of the unit is root's


def drop_in(unit: str) -> str:
    """Logs what the `SystemCallFilter=` lines of a unit deny, instead of denying it."""
    lines = re.findall(r"(?m)^SystemCallFilter=(~?)(.+)$", unit)
    logged = [f"SystemCallLog={'' if but else '~'}{calls}" for but, calls in lines]
    return "\n".join(["[Service]", "SystemCallFilter=", *logged, ""])


def is_logged_call(entry: Entry) -> bool:
    """Whether an entry is the kernel's, or journald's, about a call that a filter logs."""
    kind = str(entry.fields.get("_AUDIT_TYPE", ""))
    return kind == SECCOMP or f"audit: type={SECCOMP} " in entry.message


def denied(entries: Iterable[Entry]) -> list[str]:
    """What the kernel says of calls of the unit's user that the shipped filter denies."""
    found = (entry.message for entry in entries if is_logged_call(entry))
    return [message for message in found if not BY_ROOT.search(message)]
