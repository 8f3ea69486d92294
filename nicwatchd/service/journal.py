"""The journal: one entry for each transition and each cause, and `status` rebuilt from them.

What the entries say is in `nicwatchd.service.entries`; each has enough fields to rebuild `status`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

from pydantic import ValidationError

from nicwatchd.core.lifecycle import State
from nicwatchd.core.news import (
    Bypassed,
    EgressMoved,
    FamilyGivenUp,
    FightChanged,
    HealthChanged,
    LinkChanged,
    Lost,
    Restored,
    StateChanged,
    Surprised,
    Wrote,
)
from nicwatchd.service import entries, writes
from nicwatchd.service.entries import DEBUG, ERROR, INFO, NOTICE, WARNING
from nicwatchd.service.journal_reader import JournalUnreadableError, Range, this_boot
from nicwatchd.service.journal_reader import entries as read_entries
from nicwatchd.service.status import InterfaceStatus, shown
from nicwatchd.service.telling import (
    ImdsChanged,
    KernelTrouble,
    Resumed,
    Started,
    Stopped,
    Told,
)

__all__ = ["DEBUG", "ERROR", "INFO", "NOTICE", "WARNING", "JournalUnreadableError"]

# Generated with `journalctl --new-id128`; the catalog explains each.
STARTED: Final = UUID("81dff20752e448e7a835086952327afc")
STOPPED: Final = UUID("379c3f33e3384a5b93703bc7dffd0f6f")
TRANSITION: Final = UUID("eb1332cf6aaa4c0d97d8de3e473c4f8e")
OVERDUE: Final = UUID("d575ecb1f86240c3a3b7b73f92480059")
IMDS_CHANGED: Final = UUID("2ba10a4186f74dbfb80369cd10a81901")
IDLE: Final = UUID("9eefb07ccdb7418e9693cbbee82a02dc")
KERNEL_TROUBLE: Final = UUID("a8ab2a0032094efda0a62a1c5e9ea440")
RESUMED: Final = UUID("474786ffb88f40f895440d974c07bd46")
RELOADED: Final = UUID("d9ba46b538074143a077fd93bacf3e51")
FIGHT_BEGAN: Final = UUID("5c5ff230412f49878cc237ca9e17c76f")
FIGHT_ENDED: Final = UUID("7286de728f914e43a4f7ce044411a90a")
SURPRISE: Final = UUID("fd1d6a00b2484d13be39fcbae9475e36")
RELOAD_FAILED: Final = UUID("875f1d714b7a46f59e3ba83959fba55a")
HEALTH_CHANGED: Final = UUID("717407f249b642a7b56c41261a30a735")
LOST: Final = UUID("c830b930300c43ed92ae1767f2b04a82")
RESTORED: Final = UUID("e0eeaacfa2e842f6982d65ced7f35f07")
LINK_CHANGED: Final = UUID("e5ee6697d540477bb9ca00165c7ef1ef")
BYPASS_BEGAN: Final = UUID("65ffc7b79e4049a39c32d1c65122f073")
BYPASS_ENDED: Final = UUID("99751a5e03024d5386d63b235a21e2d7")
FAMILY_GIVEN_UP: Final = UUID("c7a233deac53441b99179e79417a5a84")
EGRESS_MOVED: Final = UUID("e579cb5fd0834379b33dd800ea447af6")
WROTE: Final = UUID("a49c653259ab41fa8e94517b34b02880")
ENTRIES_LOST: Final = UUID("c6fd23f21e2e4ca1b6c7cc0f1469931e")

# The entries that a status is made from: those about interfaces.
MATCHES: Final = (
    *(STARTED, TRANSITION, OVERDUE, FIGHT_BEGAN, FIGHT_ENDED, HEALTH_CHANGED),
    *(LINK_CHANGED, BYPASS_BEGAN, BYPASS_ENDED, FAMILY_GIVEN_UP),
)

Sink = Callable[[UUID, str, int, Mapping[str, str]], None]


class Journal:
    """Writes events to the journal."""

    def __init__(self, send: Sink) -> None:
        self._send = send

    def observe(self, told: Told) -> None:
        """Write an event."""
        written = _of_interface(told) or _of_cause(told) or _of_daemon(told)
        if written:
            message_id, (message, priority, fields) = written
            self._send(message_id, message, priority, fields)


def _of_interface(told: Told) -> tuple[UUID, entries.Entry] | None:
    """The entry for what became of an interface."""
    news, status = told.news, told.status
    match news:
        case StateChanged(transition=transition) if status:
            message_id = OVERDUE if transition.overdue else TRANSITION
            return message_id, entries.transition(transition, status)
        case HealthChanged() if status:
            return HEALTH_CHANGED, entries.health(news, status)
        case FightChanged(began=True) if status and status.fight:
            return FIGHT_BEGAN, entries.fight_began(status, status.fight)
        case FightChanged() if status:
            return FIGHT_ENDED, entries.fight_ended(status)
        case Surprised():
            return SURPRISE, entries.surprise(news, status)
    return None


def _of_cause(told: Told) -> tuple[UUID, entries.Entry] | None:
    """The entry for what happened to an interface, or to the host's own traffic."""
    news, status = told.news, told.status
    match news:
        case EgressMoved():
            return EGRESS_MOVED, entries.egress(news, status)
        case Wrote():
            return WROTE, writes.wrote(news, status)
        case Lost() if status:
            return LOST, entries.lost(news, status)
        case Restored() if status:
            return RESTORED, entries.restored(news, status)
        case LinkChanged() if status:
            return LINK_CHANGED, entries.link(news, status)
        case Bypassed(by=by) if status:
            return (BYPASS_BEGAN if by else BYPASS_ENDED), entries.bypassed(news, status)
        case FamilyGivenUp() if status:
            return FAMILY_GIVEN_UP, entries.given_up(news, status)
    return None


def _of_daemon(told: Told) -> tuple[UUID, entries.Entry] | None:
    """The entry for what concerns no interface."""
    match told.news:
        case ImdsChanged(condition=condition):
            priority = INFO if condition.state == "ok" else WARNING
            text = shown(str(condition))  # it may name links
            return IMDS_CHANGED, (text, priority, {"NICWATCHD_IMDS": condition.state})
        case KernelTrouble(text=text):
            message = f"a request to the kernel failed: {text}; trying again"
            return KERNEL_TROUBLE, (message, WARNING, {})
        case Resumed(slept=slept):
            slept_for = entries.duration(slept)
            text = f"the host was suspended for {slept_for}; reading the kernel and IMDS again"
            return RESUMED, (text, NOTICE, {})
        case Started(version=version):
            return STARTED, (f"nicwatchd {version} started", INFO, {})
        case Stopped():
            return STOPPED, ("nicwatchd stopped", INFO, {})
    return None


def read_statuses() -> list[InterfaceStatus]:
    """The last known status of each interface, from the journal of this boot.

    Only entries since the daemon's last start count, because it reports every interface when it
    starts, and only those of root and of nicwatchd's own user. Raises JournalUnreadableError.
    """
    latest: dict[tuple[int, str], InterfaceStatus] = {}
    matches = [f"MESSAGE_ID={message_id.hex}" for message_id in MATCHES]
    found = read_entries(matches, Range(boot=this_boot()))
    for entry in found:
        if entry.get("MESSAGE_ID") == STARTED.hex:
            latest.clear()
        elif status := _status(entry.get("NICWATCHD_STATUS", "")):
            latest[(status.index, status.mac)] = status
    if not found:
        raise JournalUnreadableError(
            "the journal has no entry of nicwatchd from this boot that you may read: either it "
            "was never started, or you need sudo or membership in the group systemd-journal"
        )
    return [status for status in latest.values() if status.state is not State.GONE]


def _status(text: str) -> InterfaceStatus | None:
    """The status in an entry; None: there is none, or it is no such (of another version, say)."""
    try:
        return InterfaceStatus.model_validate_json(text) if text else None
    except ValidationError:
        return None
