"""A journald that stands still: its socket is full, and nobody reads there."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from nicwatchd.core.policy import Policy
from nicwatchd.imds.client import ImdsClient, ImdsOptions
from nicwatchd.service.daemon import Daemon
from nicwatchd.service.journal import ENTRIES_LOST, INFO, STARTED
from nicwatchd.service.journal_sender import WAITING, ToJournald, ToStderr, outlet
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.metrics import render
from tests.journald import Journald
from tests.service.conftest import Host, eventually, until

LARGEST: Final = 1 << 16
LONG: Final = "x" * 10_000
MANY: Final = 3 * WAITING // len(LONG)


class Unread:
    """A socket like journald's, which nobody reads until told to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def fill(self) -> int:
        """Send until nothing more fits; how many that were."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.connect(str(self.path))
            number = 0
            while True:
                try:
                    sender.send(b"MESSAGE=of others\n")
                except BlockingIOError:
                    return number
                number += 1

    def read(self) -> list[dict[str, str]]:
        """What is there now; of fields with several lines, only the name."""
        found: list[dict[str, str]] = []
        while True:
            try:
                text = self._socket.recv(LARGEST).decode(errors="replace")
            except BlockingIOError:
                return found
            pairs = (line.partition("=")[::2] for line in text.splitlines())
            found.append(dict(pairs))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def unread(tmp_path: Path) -> Iterator[Unread]:
    made = Unread(tmp_path / "socket")
    yield made
    made.close()


@pytest.fixture
def sender(unread: Unread) -> Iterator[ToJournald]:
    made = ToJournald(unread.path)
    yield made
    made.close()


def write(sender: ToJournald, text: str, **fields: str) -> None:
    sender(STARTED, text, INFO, fields)


async def read_until(unread: Unread, text: str) -> list[dict[str, str]]:
    """All entries up to one with this message; others' are left out."""
    found: list[dict[str, str]] = []

    def is_there() -> bool:
        found.extend(entry for entry in unread.read() if entry["MESSAGE"] != "of others")
        return bool(found) and found[-1]["MESSAGE"] == text

    await eventually(is_there)
    return found


async def test_what_a_full_socket_did_not_take_comes_later_in_order(
    unread: Unread, sender: ToJournald
) -> None:
    assert unread.fill()
    texts = [str(number) for number in range(100)]
    for text in texts:
        write(sender, text)  # would wait for ever here
    found = await read_until(unread, "99")
    assert [entry["MESSAGE"] for entry in found] == texts
    assert sender.lost == 0


async def test_what_is_too_much_is_lost_counted_and_told_once(
    unread: Unread, sender: ToJournald
) -> None:
    unread.fill()
    for number in range(MANY):
        write(sender, str(number), LONG=LONG)
    assert 0 < sender.lost < MANY
    first, *rest = await read_until(unread, str(MANY - 1))
    assert first["MESSAGE_ID"] == ENTRIES_LOST.hex
    assert first["MESSAGE"].startswith(f"{sender.lost} entries were lost")
    assert first["NICWATCHD_LOST"] == str(sender.lost)
    assert [entry["MESSAGE"] for entry in rest] == [str(n) for n in range(sender.lost, MANY)]
    write(sender, "and on")
    assert [entry["MESSAGE"] for entry in unread.read()] == ["and on"]


def test_without_a_loop_it_goes_on_with_the_next_entry(unread: Unread, sender: ToJournald) -> None:
    unread.fill()
    write(sender, "one")
    unread.read()
    write(sender, "two")
    assert [entry["MESSAGE"] for entry in unread.read()] == ["one", "two"]


async def test_a_journald_that_came_back_with_a_new_socket_is_found(
    unread: Unread, sender: ToJournald, capsys: pytest.CaptureFixture[str]
) -> None:
    write(sender, "before")
    unread.close()
    unread.path.unlink()
    write(sender, "meanwhile")
    assert capsys.readouterr().err == "meanwhile\n"
    again = Unread(unread.path)
    write(sender, "after")
    assert [entry["MESSAGE"] for entry in again.read()] == ["after"]
    again.close()


async def test_where_standard_error_is_the_journal_it_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write would wait for journald as well."""
    reading, writing = socket.socketpair()
    there = os.fstat(writing.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{there.st_dev}:{there.st_ino}")
    with reading, writing, writing.makefile("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        sender = ToJournald(tmp_path / "socket")
        write(sender, "kept")
        stream.flush()
        reading.setblocking(False)
        with pytest.raises(BlockingIOError):
            reading.recv(1)
        monkeypatch.undo()
    later = Unread(tmp_path / "socket")
    write(sender, "next")
    assert [entry["MESSAGE"] for entry in later.read()] == ["kept", "next"]
    sender.close()
    later.close()


def test_without_journald_it_is_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    send = outlet()
    assert type(send) is ToStderr
    send(STARTED, "started", INFO, {})
    assert capsys.readouterr().err == "started\n"
    send.close()
    assert send.lost == 0


async def test_the_daemon_heals_while_journald_stands_still(
    host: Host, unread: Unread, sender: ToJournald
) -> None:
    unread.fill()
    async with ImdsClient(ImdsOptions(host.imds.endpoints)) as client:
        ledger = Ledger(host.directory)
        daemon = Daemon(Policy(), host.kernel, host.kernel.events(), client, ledger, sender)
        daemon.reporting.entries_lost = lambda: sender.lost
        running = asyncio.create_task(daemon.run())
        host.plug_primary()
        host.plug()
        await until(daemon, "eth1", lambda status: status.state == "applied")
        rule = next(r for r in await host.kernel.rules() if r.protocol == 236)
        host.kernel.drop(rule)

        async def is_back() -> bool:
            return rule in await host.kernel.rules()

        await eventually(is_back)
        while not sender.lost:
            write(sender, "more", LONG=LONG)
        text = render(daemon.status(), daemon.counts(), process=False).decode()
        assert f"nicwatchd_journal_entries_lost_total {sender.lost}.0" in text
        daemon.stop()
        await running
    found = await read_until(unread, "nicwatchd stopped")
    assert found[0]["MESSAGE_ID"] == ENTRIES_LOST.hex


def test_a_real_journald_takes_what_waited_and_the_loss() -> None:
    journald = Journald()
    try:
        journald.wait()
        sender = ToJournald(journald.socket)
        with journald.stopped():
            for number in range(MANY):
                write(sender, str(number), LONG=LONG)
            assert sender.lost

        async def go_on() -> None:
            write(sender, "the last one")
            await eventually(lambda: not sender._waiting)

        asyncio.run(go_on())
        sender.close()
        entries = journald.entries(f"MESSAGE_ID={STARTED.hex}")
        assert len(entries) == MANY + 1 - sender.lost
        [loss] = journald.entries(f"MESSAGE_ID={ENTRIES_LOST.hex}")
        assert loss["NICWATCHD_LOST"] == str(sender.lost)
    finally:
        journald.close()
