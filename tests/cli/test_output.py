"""The output of a command cannot be written: one line, and the documented exit code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from nicwatchd.cli.parser import parser
from nicwatchd.service.control import SOCKET_NAME, Control
from nicwatchd.service.platform import Lock
from tests.scenarios.commands import NICWATCHD
from tests.service.test_control import Well

RELEASE = ("release", "--all")
TO_DAEMON = [("status",), ("status", "--json"), ("reconcile",), RELEASE, (*RELEASE, "--json")]
ALONE = [("--help",), ("--version",), ("status", "--help"), ("demo",)]


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[Path]:
    """Where a daemon seems to run."""
    lock = Lock(tmp_path)
    control = Control(Well(), tmp_path / SOCKET_NAME)
    await control.start()
    yield tmp_path
    await control.close()
    lock.release()


@pytest.fixture
def full() -> Iterator[BinaryIO]:
    """A file on a full disk."""
    with Path("/dev/full").open("wb") as file:
        yield file


def command(words: tuple[str, ...], directory: Path) -> list[str]:
    where = ["--runtime-directory", str(directory)] if words in TO_DAEMON else []
    return [*NICWATCHD, *words, *where]


@pytest.mark.parametrize("words", TO_DAEMON + ALONE, ids=" ".join)
async def test_a_full_disk_is_told_in_one_line(
    directory: Path, full: BinaryIO, words: tuple[str, ...]
) -> None:
    process = await asyncio.create_subprocess_exec(
        *command(words, directory), stdout=full, stderr=asyncio.subprocess.PIPE
    )
    _, complaint = await process.communicate()
    assert complaint == b"nicwatchd: standard output: No space left on device\n"
    assert process.returncode == 2


@pytest.mark.parametrize("words", [*TO_DAEMON, ("--help",)], ids=" ".join)
async def test_a_reader_that_has_seen_enough_is_no_error(
    directory: Path, words: tuple[str, ...]
) -> None:
    process = await asyncio.create_subprocess_shell(
        f"{{ exec 3>&1; {' '.join(command(words, directory))} 2>&3; echo $? >&2; }} | true",
        stderr=asyncio.subprocess.PIPE,
    )
    _, code = await process.communicate()
    assert code == b"0\n"


@pytest.mark.parametrize(("words", "code"), [(("status", "eth7"), 3), (("status",), 2)])
async def test_a_complaint_that_nobody_hears_changes_no_exit_code(
    directory: Path, full: BinaryIO, words: tuple[str, ...], code: int
) -> None:
    where = ("--runtime-directory", str(directory))
    process = await asyncio.create_subprocess_exec(
        *NICWATCHD, *words, *where, stdout=full, stderr=full
    )
    assert await process.wait() == code


@pytest.mark.parametrize(
    ("words", "usage", "said"),
    [
        (
            ("status", "--jsn"),
            "nicwatchd status",
            "unknown argument '--jsn'; did you mean '--json'?",
        ),
        (("status", "eth0", "eth1"), "nicwatchd status", "unknown argument 'eth1'"),
        (("statsu",), "nicwatchd", "there is no 'statsu'; did you mean 'status'?"),
        (("zzz",), "nicwatchd", "there is no 'zzz'; see nicwatchd -h"),
        (("wait", "eth1", "--for", "ipv5"), "nicwatchd wait", "did you mean 'ipv6'?"),
        (("wait", "eth1", "--for", "x"), "nicwatchd wait", "'x' is none of: ipv4, ipv6, any, all"),
    ],
)
def test_what_was_perhaps_meant(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], usage: str, said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(words)
    assert ended.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"usage: {usage} [-h]")
    assert complaint.endswith(f"{said}\n")
    assert max(map(len, complaint.splitlines())) <= 80
