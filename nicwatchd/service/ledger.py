"""What must outlive the daemon, until the next boot.

Which addresses we added, for kernels that cannot tell us (IFA_PROTO needs Linux 5.18): a line is
written before an address is added, so none of ours is ever without a mark. It counts for this boot,
this ifindex and this MAC only; the kernel's own mark, where there is one, agrees.

And what the operator took from us by `nicwatchd release`.
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
    """The ledger in one file of the runtime directory, which a restart keeps."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "addresses.json"
        self._boot = BOOT_ID.read_text(encoding="ascii").strip()
        self._entries: set[Entry] = set()
        self.releases = Releases()
        # None, or not ours to understand: then nothing is without a doubt ours.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            self._load()

    def _load(self) -> None:
        said = json.loads(self._file.read_text(encoding="utf-8"))
        if said["boot"] == self._boot:
            self._entries = {(int(i), str(mac), str(ip)) for i, mac, ip in said["addresses"]}
            links = frozenset((int(i), str(mac)) for i, mac in said["released"]["exceptions"])
            self.releases = Releases(said["released"]["everything"] is True, links)

    def add(self, entries: Iterable[tuple[int, str, IPAddress]]) -> None:
        """Note addresses that are about to be added. Raises OSError when that cannot be kept."""
        added = {(index, mac, str(ip)) for index, mac, ip in entries}
        self._keep(self._entries | added, self.releases)

    def keep_only(self, links: Iterable[Key]) -> None:
        """Forget what is noted of links that are gone."""
        alive = set(links)
        entries = {entry for entry in self._entries if entry[:2] in alive}
        self._keep(entries, self.releases.among(alive))

    def keep_releases(self, releases: Releases) -> None:
        """Note what is released. Raises OSError when that cannot be kept."""
        self._keep(self._entries, releases)

    def _keep(self, entries: set[Entry], releases: Releases) -> None:
        if (entries, releases) == (self._entries, self.releases):
            return
        partial = self._file.with_suffix(".new")
        released = {"everything": releases.everything, "exceptions": sorted(releases.exceptions)}
        said = {"boot": self._boot, "addresses": sorted(entries), "released": released}
        partial.write_text(json.dumps(said), encoding="utf-8")
        partial.replace(self._file)
        self._entries, self.releases = entries, releases

    def mark(self, mac: str, addresses: Iterable[Address]) -> tuple[Address, ...]:
        """The addresses with our mark on those that the ledger has and nobody took over."""
        return tuple(
            replace(address, protocol=PROTOCOL)
            if (address.index, mac, str(address.ip)) in self._entries
            and address.protocol == 0
            and not address.dynamic
            and address.prefixlen == address.ip.max_prefixlen
            else address
            for address in addresses
        )
