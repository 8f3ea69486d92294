"""What the commands show on a terminal: the real commands in a pty, drawn by pyte."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import termios
from pathlib import Path

import pyte
import pytest

from nicwatchd.service.status import HostStatus
from tests.cli.statuses import Canned, alone, broken, degraded, eni, host, mixed
from tests.scenarios.commands import NICWATCHD

LINES = 400
PLAIN = {"NO_COLOR": "1", "TERM": "xterm"}


async def screen(columns: int, directory: Path, *words: str, **variables: str) -> pyte.Screen:
    """The screen of a terminal with so many columns after a command."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | variables
    process = await asyncio.create_subprocess_exec(
        *(*NICWATCHD, *words, "--runtime-directory", str(directory)),
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
    )  # fmt: skip
    os.close(theirs)
    drawn = pyte.Screen(columns, LINES)
    stream = pyte.ByteStream(drawn)
    while data := await asyncio.to_thread(_read, ours):
        stream.feed(data)
    os.close(ours)
    await process.wait()
    return drawn


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # the other end is closed
        return b""


def shown(drawn: pyte.Screen) -> list[str]:
    """The lines, without what is empty at the end."""
    lines = [line.rstrip() for line in drawn.display]
    return lines[: max((n for n, line in enumerate(lines, 1) if line), default=0)]


def colours(drawn: pyte.Screen) -> set[str]:
    return {cell.fg for row in drawn.buffer.values() for cell in row.values()}


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("count", [1, 5, 20, 64])
async def test_status(service: Canned, tmp_path: Path, count: int, columns: int) -> None:
    service.said = mixed(count, 100)
    drawn = await screen(columns, tmp_path, "status", **PLAIN)
    lines = shown(drawn)
    assert max(map(len, lines)) <= 80
    assert colours(drawn) == {"default"}
    table = lines[2 : 2 + count + 2]
    assert table[0].split() == ["LINK", "ENI", "STATE", "FOR", "IPV4", "IPV6"]
    columns_at = [match.start() for match in re.finditer(r"\S+", table[0])]
    for line in table[1:]:  # each cell begins under its heading, with two spaces before it
        for at in columns_at[1:]:
            assert line[at - 2 : at] == "  ", line
            assert line[at] != " ", line
    assert lines[0].startswith("nicwatchd 0.2.0   ")
    words = {"NOT WORKING": "broken", "DEGRADED": "degraded", "waiting": "waits"}
    expected = {"NOT WORKING": count >= 3, "DEGRADED": count >= 4, "waiting": count >= 2}
    text = "\n".join(table)
    assert {word: word in text for word in words} == expected


@pytest.mark.parametrize("columns", [80, 100])
async def test_colour_is_only_an_extra(service: Canned, tmp_path: Path, columns: int) -> None:
    service.said = host(eni(0), eni(1), broken(2), degraded(3), alone(4))  # no seconds that tick
    plain = await screen(columns, tmp_path, "status", **PLAIN)
    coloured = await screen(columns, tmp_path, "status", TERM="xterm")
    assert len(colours(coloured)) > 2
    assert shown(plain) == shown(coloured)


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("words", [("status", "eth3"), ("status", "eth2"), ("explain", "eth3")])
async def test_one_interface(
    service: Canned, tmp_path: Path, words: tuple[str, ...], columns: int
) -> None:
    service.said = mixed(5, 100)
    drawn = await screen(columns, tmp_path, *words, **PLAIN)
    lines = shown(drawn)
    assert lines[0].startswith(f"{words[1]}  eni-")
    assert max(map(len, lines)) <= 80
    assert colours(drawn) == {"default"}


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("count", [1, 5, 20, 64])
async def test_wait(service: Canned, tmp_path: Path, count: int, columns: int) -> None:
    service.said = every_one_works(mixed(count))
    names = [each.name for each in service.said.interfaces]
    drawn = await screen(columns, tmp_path, "wait", *names, "--timeout", "5", **PLAIN)
    lines = [line for line in shown(drawn) if line]
    begun = [line.split(":")[0] for line in lines if re.match(r"\S+: IPv", line)]
    assert begun == names
    assert colours(drawn) == {"default"}


def every_one_works(status: HostStatus) -> HostStatus:
    """The host with only those of its ENIs that work."""
    return status.model_copy(
        update={"interfaces": [i for i in status.interfaces if i.health == "working"]}
    )
