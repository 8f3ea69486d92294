"""What others than the kernel and IMDS put into the daemon's inbox."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from nicwatchd.core.model import Key
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import Outcome
from nicwatchd.service.offline_release import Released, UnknownInterfaceError
from nicwatchd.service.status import InterfaceStatus, find


@dataclass(frozen=True, slots=True)
class Wake:
    """Nothing to take: only look up from waiting."""


@dataclass(frozen=True, slots=True)
class NewPolicy:
    """Decide by these settings from now on."""

    policy: Policy


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Look at everything, IMDS too, and take up what was released; `only`, or the host.

    `done` is set when the answers have been used.
    """

    only: Key | None
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class Release:
    """Take all that is ours away, and leave `only`, or the host, alone from now on."""

    only: Key | None
    done: asyncio.Future[Released]
    outcomes: list[Outcome] = field(default_factory=list)  # of what was carried out since


def key_of(interface: str | None, known: list[InterfaceStatus]) -> Key | None:
    """What an interface is known by here, given its name, MAC or ENI id; None is the host.

    Raises UnknownInterfaceError.
    """
    if interface is None:
        return None
    found = find(known, interface)
    if found is None:
        raise UnknownInterfaceError(interface, (each.name for each in known))
    return found.index, found.mac
