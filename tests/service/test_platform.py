from __future__ import annotations

import os
from pathlib import Path

import pytest

from nicwatchd.service.platform import AlreadyRunningError, Lock, is_ec2


@pytest.mark.parametrize(
    ("vendor", "xen", "expected"),
    [
        ("Amazon EC2\n", None, True),
        ("Xen\n", "ec2e1916-9099-7caf-fd21-012345abcdef\n", True),
        ("Xen\n", "5ab0c8f0-9099-7caf-fd21-012345abcdef\n", False),
        ("QEMU\n", None, False),
        (None, None, False),
    ],
)
def test_the_firmware_says_what_host_it_is(
    tmp_path: Path, vendor: str | None, xen: str | None, expected: bool
) -> None:
    for name, text in (("sys_vendor", vendor), ("uuid", xen)):
        if text is not None:
            (tmp_path / name).write_text(text)
    assert is_ec2(tmp_path, tmp_path / "uuid") is expected


def test_only_one_daemon_at_a_time(tmp_path: Path) -> None:
    first = Lock(tmp_path)
    with pytest.raises(AlreadyRunningError, match=rf"is already running \(pid {os.getpid()}, "):
        Lock(tmp_path)
    first.release()
    Lock(tmp_path).release()
