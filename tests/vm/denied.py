"""Sees the system calls that the unit's filter denies, over everything that the suite does.

A call that the filter answers with an error leaves no trace. So on the machine a drop-in makes such
a call deadly, and the kernel logs whom it kills.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from tests.vm.channels import Entry

DROP_IN: Final = "/etc/systemd/system/nicwatchd.service.d/deadly.conf"
DEADLY: Final = "[Service]\nSystemCallErrorNumber=\n"
SECCOMP: Final = "1326"  # linux/audit.h: AUDIT_SECCOMP
BY_ROOT: Final = re.compile(r"\buid=0\b")  # no process of the unit is root's


def is_killed_call(entry: Entry) -> bool:
    """Whether an entry is the kernel's, or journald's, about a call that killed its process."""
    kind = str(entry.fields.get("_AUDIT_TYPE", ""))
    return kind == SECCOMP or f"audit: type={SECCOMP} " in entry.message


def denied(entries: Iterable[Entry]) -> list[str]:
    """What the kernel says of calls of the unit's user that the shipped filter denies."""
    found = (entry.message for entry in entries if is_killed_call(entry))
    return [message for message in found if not BY_ROOT.search(message)]
