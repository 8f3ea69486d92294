"""Which addresses we added, for kernels that cannot tell us (IFA_PROTO needs Linux 5.18).

A line is written before an address is added, so none of ours is ever without a mark. It counts for
this boot, this ifindex and this MAC only; the kernel's own mark, where there is one, agrees.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from nicwatchd.core.model import PROTOCOL, Address, IPAddress

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
Entry = tuple[int, str, str]  # ifindex, MAC, address


class Ledger:
    """The ledger in one file of the runtime directory, which a restart keeps."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "addresses.json"
        self._boot = BOOT_ID.read_text(encoding="ascii").strip()
        self._entries = self._load()

    def _load(self) -> set[Entry]:
        try:
            said = json.loads(self._file.read_text(encoding="utf-8"))
            entries = said["addresses"] if said["boot"] == self._boot else []
            return {(int(index), str(mac), str(ip)) for index, mac, ip in entries}
        except (OSError, ValueError, KeyError, TypeError):
            return set()  # none, or not ours to understand: then nothing is without a doubt ours

    def add(self, entries: Iterable[tuple[int, str, IPAddress]]) -> None:
        """Note addresses that are about to be added. Raises OSError when that cannot be kept."""
        self._keep(self._entries | {(index, mac, str(ip)) for index, mac, ip in entries})

    def keep_only(self, links: Iterable[tuple[int, str]]) -> None:
        """Forget what is noted of links that are gone."""
        alive = set(links)
        self._keep({entry for entry in self._entries if entry[:2] in alive})

    def _keep(self, entries: set[Entry]) -> None:
        if entries == self._entries:
            return
        partial = self._file.with_suffix(".new")
        said = {"boot": self._boot, "addresses": sorted(entries)}
        partial.write_text(json.dumps(said), encoding="utf-8")
        partial.replace(self._file)
        self._entries = entries

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
