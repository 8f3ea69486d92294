"""The state that must outlive the daemon, until the next boot.

First, the addresses that we added, for kernels that cannot mark them (IFA_PROTO needs Linux 5.18).
An entry is written before its address is added, so every address of ours has a mark. It is valid
only for this boot, this ifindex and this MAC. The kernel's own mark, if there is one, agrees.

Second, what the operator released with `nicwatchd release`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from nicwatchd.core.model import PROTOCOL, Address, IPAddress, Key
from nicwatchd.core.releases import Releases

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
Entry = tuple[int, str, str]  # ifindex, MAC, address


class Ledger:
    """The ledger, in one file of the runtime directory, which survives a restart of the daemon."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "addresses.json"
        self._boot = BOOT_ID.read_text(encoding="ascii").strip()
        self._entries: set[Entry] = set()
        self.releases = Releases()
        # Missing or unreadable: then we cannot be sure that any address is ours.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            self._load()

    def _load(self) -> None:
        document = json.loads(self._file.read_text(encoding="utf-8"))
        if document["boot"] == self._boot:
            self._entries = {(int(i), str(mac), str(ip)) for i, mac, ip in document["addresses"]}
            links = frozenset((int(i), str(mac)) for i, mac in document["released"]["exceptions"])
            self.releases = Releases(document["released"]["everything"] is True, links)

    def add(self, entries: Iterable[tuple[int, str, IPAddress]]) -> None:
        """Record addresses that are about to be added. Raises OSError if that fails."""
        added = {(index, mac, str(ip)) for index, mac, ip in entries}
        self._keep(self._entries | added, self.releases)

    def keep_only(self, links: Iterable[Key]) -> None:
        """Remove the entries of all other links."""
        alive = set(links)
        entries = {entry for entry in self._entries if entry[:2] in alive}
        self._keep(entries, self.releases.among(alive))

    def keep_releases(self, releases: Releases) -> None:
        """Record what is released. Raises OSError if that fails."""
        self._keep(self._entries, releases)

    def _keep(self, entries: set[Entry], releases: Releases) -> None:
        if (entries, releases) == (self._entries, self.releases):
            return
        partial = self._file.with_suffix(".new")
        released = {"everything": releases.everything, "exceptions": sorted(releases.exceptions)}
        document = {"boot": self._boot, "addresses": sorted(entries), "released": released}
        partial.write_text(json.dumps(document), encoding="utf-8")
        partial.replace(self._file)
        self._entries, self.releases = entries, releases

    def mark(self, mac: str, addresses: Iterable[Address]) -> tuple[Address, ...]:
        """The addresses; ours carry our mark: those in the ledger that nobody has taken over."""
        return tuple(
            replace(address, protocol=PROTOCOL)
            if (address.index, mac, str(address.ip)) in self._entries
            and address.protocol == 0
            and not address.dynamic
            and address.prefixlen == address.ip.max_prefixlen
            else address
            for address in addresses
        )
