"""The journal: one entry for each transition, with enough fields to rebuild `status` from it."""

from __future__ import annotations

import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from uuid import UUID

from nicwatchd.core.fights import WINDOW
from nicwatchd.core.lifecycle import State, Transition
from nicwatchd.core.news import FightChanged, StateChanged, Surprised
from nicwatchd.service import protocols
from nicwatchd.service.status import InterfaceStatus, ReasonStatus, shown
from nicwatchd.service.telling import ImdsChanged, KernelTrouble, Started, Stopped, Told

try:
    from systemd import journal as library
except ImportError:  # Amazon Linux has it for its old Python only
    library = None

SOCKET: Final = protocols.JOURNAL
IDENTIFIER: Final = "nicwatchd"

# Generated with `journalctl --new-id128`; the catalog explains each.
STARTED: Final = UUID("81dff20752e448e7a835086952327afc")
STOPPED: Final = UUID("379c3f33e3384a5b93703bc7dffd0f6f")
TRANSITION: Final = UUID("eb1332cf6aaa4c0d97d8de3e473c4f8e")
OVERDUE: Final = UUID("d575ecb1f86240c3a3b7b73f92480059")
IMDS_CHANGED: Final = UUID("2ba10a4186f74dbfb80369cd10a81901")
IDLE: Final = UUID("9eefb07ccdb7418e9693cbbee82a02dc")
KERNEL_TROUBLE: Final = UUID("a8ab2a0032094efda0a62a1c5e9ea440")
RELOADED: Final = UUID("d9ba46b538074143a077fd93bacf3e51")
FIGHT_BEGAN: Final = UUID("5c5ff230412f49878cc237ca9e17c76f")
FIGHT_ENDED: Final = UUID("7286de728f914e43a4f7ce044411a90a")
SURPRISE: Final = UUID("fd1d6a00b2484d13be39fcbae9475e36")
RELOAD_FAILED: Final = UUID("875f1d714b7a46f59e3ba83959fba55a")

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6  # syslog's priorities

MATCHES: Final = (
    STARTED,
    TRANSITION,
    OVERDUE,
    FIGHT_BEGAN,
    FIGHT_ENDED,
)  # the entries that a status is made from
NOBODY: Final = -1  # not the id of any user

Sink = Callable[[UUID, str, int, Mapping[str, str]], None]


def to_journald(message_id: UUID, message: str, priority: int, fields: Mapping[str, str]) -> None:
    """Send one entry to systemd-journald. If that fails, write the message to standard error."""
    entry = {
        "MESSAGE": message,
        "MESSAGE_ID": message_id.hex,
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        **fields,
    }
    try:
        if library:
            library.send(**entry)
        else:
            protocols.journal_send(entry)
    except OSError:  # journald is stopped or out of memory: no reason to exit
        to_stderr(message_id, message, priority, fields)


def to_stderr(message_id: UUID, message: str, priority: int, fields: Mapping[str, str]) -> None:
    """Write the message as one line to standard error, without the fields."""
    del message_id, priority, fields
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def sink() -> Sink:
    """Journald if it is running, else standard error."""
    return to_journald if SOCKET.exists() else to_stderr


class Journal:
    """Writes events to the journal."""

    def __init__(self, send: Sink) -> None:
        self._send = send

    def observe(self, told: Told) -> None:
        """Write an event."""
        send, news, status = self._send, told.news, told.status
        match news:
            case StateChanged() if status:
                write_transition(send, news.transition, status)
            case FightChanged(began=began) if status:
                write_fight(send, status, began=began)
            case Surprised():
                write_surprise(send, news, status)
            case ImdsChanged(condition=condition):
                priority = INFO if condition.state == "ok" else WARNING
                text = shown(str(condition))  # it may name links
                send(IMDS_CHANGED, text, priority, {"NICWATCHD_IMDS": condition.state})
            case KernelTrouble(text=text):
                message = f"a request to the kernel failed: {text}; trying again"
                send(KERNEL_TROUBLE, message, WARNING, {})
            case Started(version=version):
                send(STARTED, f"nicwatchd {version} started", INFO, {})
            case Stopped():
                send(STOPPED, "nicwatchd stopped", INFO, {})


def describe(transition: Transition, status: InterfaceStatus) -> str:
    """One line for people: the interface, its new state, and why."""
    after = f"after {transition.elapsed:.1f} s"
    why = "; ".join(reason.text for reason in status.reasons)
    late = " (overdue)" if transition.overdue else ""
    if transition.state is transition.previous:
        rest = why or "nothing more to wait for"
        return f"{_label(status)} still {transition.state}{late} {after}: {rest}"
    return f"{_label(status)} is {transition.state}{late} {after}" + (f": {why}" if why else "")


def _label(status: InterfaceStatus) -> str:
    return f"{status.name} ({status.mac})"


def interface_fields(status: InterfaceStatus, reasons: list[ReasonStatus]) -> dict[str, str]:
    """The fields of every entry about an interface. NICWATCHD_STATUS holds the complete status."""
    return {
        "INTERFACE": status.name,
        "NICWATCHD_IFINDEX": str(status.index),
        "NICWATCHD_MAC": status.mac,
        "NICWATCHD_ENI": status.eni or "",
        "NICWATCHD_STATE": status.state,
        "NICWATCHD_REASONS": "\n".join(f"{r.code}: {r.text}" for r in reasons),
        "NICWATCHD_STATUS": status.model_dump_json(),
    }


def transition_fields(transition: Transition, status: InterfaceStatus) -> dict[str, str]:
    """The fields of a transition's entry."""
    return interface_fields(status, status.reasons) | {
        "NICWATCHD_PREVIOUS_STATE": transition.previous or "",
        "NICWATCHD_ELAPSED_USEC": str(round(transition.elapsed * 1e6)),
    }


def write_transition(send: Sink, transition: Transition, status: InterfaceStatus) -> None:
    """Write a transition; `status` is the interface as it was then."""
    message_id = OVERDUE if transition.overdue else TRANSITION
    priority = WARNING if transition.overdue else NOTICE
    if transition.state in (State.DETECTED, State.AWAITING) and not transition.overdue:
        priority = INFO
    fields = transition_fields(transition, status)
    send(message_id, describe(transition, status), priority, fields)


def write_fight(send: Sink, status: InterfaceStatus, *, began: bool) -> None:
    """Write that a fight began or ended: somebody keeps removing what is ours, or has stopped."""
    if began and status.fight:
        text = f"{_label(status)} is fought over: {status.fight.text}"
        send(FIGHT_BEGAN, text, WARNING, interface_fields(status, [status.fight]))
    else:
        text = f"{_label(status)} is no longer fought over: no repeated removals for {WINDOW:g} s"
        send(FIGHT_ENDED, text, NOTICE, interface_fields(status, status.reasons))


def write_surprise(send: Sink, news: Surprised, status: InterfaceStatus | None) -> None:
    """Write that we caught an internal error, with its traceback."""
    about = f"{_label(status)}: " if status else ""
    fields = interface_fields(status, status.reasons) if status else {}
    text = f"{about}internal error in {news.where}: {news.error}; everything else continues"
    send(SURPRISE, text, ERROR, fields | {"NICWATCHD_TRACEBACK": news.trace})


class JournalUnreadableError(Exception):
    """The journal has no status for us; the text is one line for the operator."""


def read_statuses() -> list[InterfaceStatus]:
    """The last known status of each interface, from the journal of this boot.

    Only entries since the daemon's last start count, because it reports every interface when it
    starts, and only those of root and of nicwatchd's own user. Raises JournalUnreadableError.
    """
    latest: dict[tuple[int, str], InterfaceStatus] = {}
    found = False
    for message_id, status_json in _entries():
        found = True
        if message_id == STARTED:
            latest.clear()
        elif status_json:
            status = InterfaceStatus.model_validate_json(status_json)
            latest[(status.index, status.mac)] = status
    if not found:
        raise JournalUnreadableError(
            "the journal has no entry of nicwatchd from this boot that you may read: either it "
            "was never started, or you need sudo or membership in the group systemd-journal"
        )
    return [status for status in latest.values() if status.state is not State.GONE]


Entry = tuple[UUID, int, str]  # message id, the sender's uid, NICWATCHD_STATUS (may be empty)


def _entries() -> Iterator[tuple[UUID, str]]:
    """Message id and status of the entries from trusted senders, the oldest first."""
    trusted = {0, *_own_uid()}
    read = _by_library if library else _by_journalctl
    yield from (
        (message_id, status_json) for message_id, uid, status_json in read() if uid in trusted
    )


def _by_library() -> Iterator[Entry]:
    with library.Reader() as reader:
        reader.this_boot()
        for message_id in MATCHES:
            reader.add_match(MESSAGE_ID=message_id.hex)
        for entry in reader:
            status_json = str(entry.get("NICWATCHD_STATUS", ""))
            yield entry["MESSAGE_ID"], entry.get("_UID", NOBODY), status_json


def _by_journalctl() -> Iterator[Entry]:
    matches = [f"MESSAGE_ID={message_id.hex}" for message_id in MATCHES]
    try:
        for entry in protocols.journal_entries(matches):
            uid = int(entry.get("_UID", NOBODY))
            yield UUID(entry["MESSAGE_ID"]), uid, entry.get("NICWATCHD_STATUS", "")
    except OSError as error:
        raise JournalUnreadableError(f"journalctl cannot be run: {error.strerror}") from None
    except subprocess.CalledProcessError as error:
        raise JournalUnreadableError(f"journalctl: {error.stderr.strip()}") from None


def _own_uid() -> Iterator[int]:
    try:
        yield pwd.getpwnam("nicwatchd").pw_uid
    except KeyError:
        return
