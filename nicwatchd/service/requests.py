"""The items in the daemon's inbox that come neither from the kernel nor from IMDS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from nicwatchd.core.model import IPAddress, Key
from nicwatchd.core.policy import Policy
from nicwatchd.service.released import Released
from nicwatchd.service.status import InterfaceStatus, find


class UnknownInterfaceError(Exception):
    """There is no such interface; the text is one line for the operator."""

    def __init__(self, wanted: str, names: Iterable[str]) -> None:
        known = ", ".join(sorted(names)) or "none"
        super().__init__(f"no interface {wanted!r}; there are: {known}")


@dataclass(frozen=True, slots=True)
class Wake:
    """Carries nothing; only ends the wait."""


@dataclass(frozen=True, slots=True)
class NewPolicy:
    """Use this policy from now on."""

    policy: Policy


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Re-read kernel and IMDS, and manage again what was released: `only`, or the host.

    `done` is set once the answers have been used. `adopt`: addresses whose manager ends.
    """

    only: Key | None
    done: asyncio.Future[None]
    adopt: frozenset[IPAddress] = frozenset()


@dataclass(frozen=True, slots=True)
class Release:
    """Remove everything we configured on `only`, or on the host, and leave it alone from now on."""

    only: Key | None
    done: asyncio.Future[Released]


def key_of(interface: str | None, known: list[InterfaceStatus]) -> Key | None:
    """The key of the interface with this name, MAC or ENI id; None, the host, stays None.

    Raises UnknownInterfaceError.
    """
    if interface is None:
        return None
    found = find(known, interface)
    if found is None:
        raise UnknownInterfaceError(interface, (each.name for each in known))
    return found.index, found.mac
