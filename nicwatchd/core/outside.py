"""What others say of the ENIs in files: udev, DHCP clients, Multus' configuration, sysctls.

Nothing tells when the files change, so they are read again from time to time; a new link's marks in
each turn at first, since udev makes them within milliseconds. Of the filters the kernel tells, too.

Reads: the answers to what is wanted. Gives: what to read; whose each link is, which DHCP client
serves it, whether its reverse-path filter is strict, and Multus' files.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from math import inf
from typing import Final

from nicwatchd.core.facts import UDEV_PATIENCE
from nicwatchd.core.model import Key

LOOK_AGAIN: Final = 4.0  # s; a little less than from one heartbeat to the next


class Outside:
    """What was read last."""

    def __init__(self) -> None:
        self._multus: tuple[str, ...] | None = None
        self._managers: Mapping[Key, str] = {}
        self._clients: dict[int, str] = {}
        self._strict: frozenset[int] = frozenset()
        self._again_at = -inf

    @property
    def known(self) -> tuple[object, ...]:
        """All that was read; a value, to be compared with that of another time."""
        return self._multus, self._managers, self._clients, self._strict

    @property
    def multus(self) -> tuple[str, ...]:
        """The files that configure Multus on this host."""
        return self._multus or ()

    def manager_of(self, key: Key) -> str:
        """Whose a link is, by udev's word; empty: nobody's in particular."""
        return self._managers.get(key, "")

    @property
    def clients(self) -> Mapping[int, str]:
        """The DHCP client that may serve each link, of those that are waited for by name."""
        return self._clients

    @property
    def strict(self) -> frozenset[int]:
        """The links with a strict reverse-path filter for IPv4, as far as that was read."""
        return self._strict

    def wanted(self, seen: Mapping[Key, float], now: float) -> tuple[frozenset[int], bool]:
        """The links whose marks to read now, and whether to look for Multus.

        `seen`: when each interface was first seen.
        """
        is_due = self._again_at <= now
        if is_due:
            self._again_at = now + LOOK_AGAIN
        marked = frozenset(
            key[0]
            for key, since in seen.items()
            if is_due or key not in self._managers or now - since < UDEV_PATIENCE
        )
        return marked, is_due or self._multus is None

    def take(
        self,
        managers: Mapping[int, str],
        clients: Mapping[int, str],
        multus: tuple[str, ...] | None,
        keys: AbstractSet[Key],
    ) -> None:
        """Take what was read, by ifindex; None: it was not looked for. `keys`: the interfaces."""
        there = {index for index, _ in keys}
        served = {**self._clients, **clients}
        self._clients = {index: who for index, who in served.items() if index in there}
        known = {key: managers.get(key[0], self._managers.get(key)) for key in keys}
        self._managers = {key: who for key, who in known.items() if who is not None}
        if multus is not None:
            self._multus = multus

    def take_filters(self, strict: Mapping[int, bool], there: AbstractSet[int]) -> None:
        """Take whose reverse-path filters are strict, by ifindex; `there` are all interfaces."""
        now = frozenset(index for index, is_strict in strict.items() if is_strict)
        self._strict = (self._strict - strict.keys() | now) & there
