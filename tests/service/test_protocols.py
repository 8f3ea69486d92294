"""Our implementation of systemd's protocols, with a real journald and with listening sockets."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest

from nicwatchd.core.interface import Interface
from nicwatchd.core.lifecycle import State, Transition
from nicwatchd.core.model import Reason
from nicwatchd.core.policy import Policy
from nicwatchd.service import journal, journal_reader, protocols, systemd
from nicwatchd.service.status import InterfaceStatus
from tests.core.build import ETH1
from tests.journald import Journald, send

LARGE: Final = "x" * 1_000_000  # more than a datagram holds

STATUS: Final = InterfaceStatus(
    name="eth1",
    index=3,
    mac="02:00:00:00:00:02",
    state=State.DETECTED,
    since=1.0,
    seen=1.0,
    table=3,
)
VIEW: Final = Interface(ETH1, 1.0, Policy()).view()
APPLIED: Final = Transition(State.VALIDATED, State.APPLIED, (), overdue=False, at=2.0, elapsed=1.0)
WAITS: Final = Transition(
    State.APPLIED,
    State.AWAITING,
    (Reason("a", "one"), Reason("b", "two")),
    overdue=False,
    at=3.0,
    elapsed=2.0,
)


@pytest.fixture
def journald() -> Iterator[Journald]:
    started = Journald()
    try:
        started.wait()
        yield started
    finally:
        started.close()


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_reader, "library", None)


@pytest.mark.parametrize(
    "value", ["plain", "", "two\nlines", "\n", "a=b", "ünïcödé", LARGE, f"{LARGE}\n{LARGE}"]
)
def test_journald_keeps_an_entry_as_it_was_sent(journald: Journald, value: str) -> None:
    send({"MESSAGE": "text", "NICWATCHD_TEST": value}, journald.socket)
    [entry] = journald.entries("MESSAGE=text")
    assert entry["NICWATCHD_TEST"] == value


def test_entries_of_any_of_several_ids_are_read_in_order(journald: Journald) -> None:
    ids = [journal.STARTED, journal.TRANSITION, journal.STOPPED, journal.STARTED]
    for message_id in ids:
        send({"MESSAGE": "x", "MESSAGE_ID": message_id.hex}, journald.socket)
    wanted = [journal.STARTED, journal.TRANSITION]
    entries = journald.entries(*(f"MESSAGE_ID={message_id.hex}" for message_id in wanted))
    assert [UUID(entry["MESSAGE_ID"]) for entry in entries] == [ids[0], ids[1], ids[3]]


WRITE_AND_ASK: Final = """
import sys
if sys.argv[1] == "directly":
    sys.modules["systemd"] = None
from nicwatchd.service import journal, journal_reader
from nicwatchd.service.journal_sender import ToJournald, outlet
from nicwatchd.service.status import reason_statuses
from nicwatchd.core.news import StateChanged
from nicwatchd.service.telling import Told
from tests.service.test_protocols import APPLIED, STATUS, VIEW, WAITS
send = outlet()
assert type(send) is ToJournald
assert bool(journal_reader.library) is (sys.argv[1] == "library")
send(journal.STARTED, "started", journal.INFO, {})
for transition in (APPLIED, WAITS):
    reasons = reason_statuses(transition.reasons, VIEW)
    then = STATUS.model_copy(update={"state": transition.state, "reasons": reasons})
    journal.Journal(send).observe(Told(StateChanged(VIEW, transition), then))
import subprocess
subprocess.run(["journalctl", "--sync"], check=True)
for status in journal.read_statuses():
    print(status.name, status.state, [reason.text for reason in status.reasons])
"""


@pytest.mark.parametrize("how", ["library", "directly"])
def test_the_status_comes_back_from_the_journal(journald: Journald, how: str) -> None:
    done = journald.inside(sys.executable, "-c", WRITE_AND_ASK, how)
    assert (done.stdout, done.stderr) == ("eth1 awaiting-imds ['one', 'two']\n", "")
    assert len(journald.entries(f"MESSAGE_ID={journal.TRANSITION.hex}")) == 2


def test_an_entry_has_no_line_of_code(journald: Journald) -> None:
    """It would always be the same one."""
    assert journald.inside(sys.executable, "-c", WRITE_AND_ASK, "directly").returncode == 0
    entries = journald.entries(f"MESSAGE_ID={journal.TRANSITION.hex}")
    assert len(entries) == 2
    assert not [name for entry in entries for name in entry if name.startswith("CODE_")]


def test_without_an_entry_it_says_why(journald: Journald) -> None:
    code = (
        "import sys; sys.modules['systemd'] = None; from nicwatchd.service import journal\n"
        "try: journal.read_statuses()\n"
        "except journal.JournalUnreadableError as error: print(error)"
    )
    done = journald.inside(sys.executable, "-c", code)
    assert done.stdout.startswith("the journal has no entry of nicwatchd from this boot")


@pytest.mark.usefixtures("without_library")
def test_without_journalctl_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(journal.JournalUnreadableError, match="journalctl cannot be run: No such"):
        journal.read_statuses()


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_systemd_hears(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(tmp_path / "notify") if kind == "path" else f"@{tmp_path}"
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setattr(systemd, "_tell", protocols.notify)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0"))
        systemd.notify(ready=True, status="1 applied", watchdog=True)
        assert manager.recv(4096) == b"STATUS=1 applied\nREADY=1\nWATCHDOG=1"
        systemd.stopping()
        assert manager.recv(4096) == b"STOPPING=1"


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr(socket, "socket", lambda *_: opened.append(None))
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    protocols.notify("READY=1")
    assert opened == []


def test_a_notification_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")
    systemd.notify(ready=True, status="well")
    systemd.reloading()
    systemd.stopping()
    with pytest.raises(FileNotFoundError):
        protocols.notify("STATUS=it was worth trying")
