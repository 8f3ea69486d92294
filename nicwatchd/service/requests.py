"""What others than the kernel and IMDS put into the daemon's inbox."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from nicwatchd.core.model import Key
from nicwatchd.core.policy import Policy
from nicwatchd.service.released import Released
from nicwatchd.service.status import InterfaceStatus, find


class UnknownInterfaceError(Exception):
    """There is no such interface; the text is one line for the operator."""

    def __init__(self, wanted: str, names: Iterable[str]) -> None:
        there = ", ".join(sorted(names)) or "none"
        super().__init__(f"no interface {wanted!r}; there are: {there}")


@dataclass(frozen=True, slots=True)
class Wake:
    """Nothing to take: only look up from waiting."""


@dataclass(frozen=True, slots=True)
class NewPolicy:
    """Decide by these settings from now on."""

    policy: Policy


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Look at everything, IMDS too, and manage again what was released; `only`, or the host.

    `done` is set when the answers have been used.
    """

    only: Key | None
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class Release:
    """Remove everything of ours, and leave `only`, or the host, alone from now on."""

    only: Key | None
    done: asyncio.Future[Released]


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
