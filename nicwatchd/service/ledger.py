"""The state that must outlive the daemon, until the next boot.

First, the addresses that we added, for kernels that cannot mark them (IFA_PROTO needs Linux 5.18).
An entry is written before its address is added, so every address of ours has a mark. It is valid
only for this boot, this ifindex and this MAC. The kernel's own mark, if there is one, agrees.

Second, what the operator released with `nicwatchd release`.

Third, the addresses that others had put on an ENI's link, and those that they took away again.

Fourth, in a file of its own, what our nftables table was made from, and the seal on what the kernel
made of that. It is written before the table is, so there is no table of ours without it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from nicwatchd.core.floating import Record
from nicwatchd.core.model import PROTOCOL, Address, IPAddress, Key
from nicwatchd.core.releases import Releases
from nicwatchd.service import files

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
Entry = tuple[int, str, IPAddress]  # of an address: ifindex, MAC, itself


class Ledger:
    """The ledger, in one file of the runtime directory, which survives a restart of the daemon."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "addresses.json"
        self._ruleset = directory / "nftables.json"
        self.trouble = ""  # why what others have cannot be recorded; empty: it is
        self._boot = BOOT_ID.read_text(encoding="ascii").strip()
        self._entries: dict[Entry, str] = {}  # and the address as text: to make it takes a while
        self.releases = Releases()
        self.floating: Mapping[Key, Record] = {}
        # Missing or unreadable: then we cannot be sure that any address is ours.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            self._load()
        self.ruleset: tuple[str, str] | None = (
            None  # the text and the seal; None: there is no table
        )
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            document = json.loads(files.read(self._ruleset))
            if document["boot"] == self._boot:
                self.ruleset = (str(document["text"]), str(document["seal"]))

    def keep_ruleset(self, ruleset: tuple[str, str] | None) -> None:
        """Record what our nftables table is made from, and its seal. Raises OSError."""
        if ruleset == self.ruleset:
            return
        if ruleset is None:
            self._ruleset.unlink(missing_ok=True)
        else:
            document = {"boot": self._boot, "text": ruleset[0], "seal": ruleset[1]}
            _write(self._ruleset, document)
        self.ruleset = ruleset

    def _load(self) -> None:
        document = json.loads(files.read(self._file))
        if document["boot"] == self._boot:
            rows = document["addresses"]
            self._entries = {(int(i), str(mac), ip_address(ip)): str(ip) for i, mac, ip in rows}
            links = frozenset((int(i), str(mac)) for i, mac in document["released"]["exceptions"])
            self.releases = Releases(document["released"]["everything"] is True, links)
            self.floating = dict(map(self._record_of, document["floating"]))

    @staticmethod
    def _record_of(row: Mapping[str, Any]) -> tuple[Key, Record]:
        key = (int(row["link"][0]), str(row["link"][1]))
        return key, Record(
            frozenset(map(ip_address, row["theirs"])),
            frozenset((ip_address(ip), str(who)) for ip, who in row["taken"]),
            frozenset(map(ip_address, row["also"])),
        )

    def add(self, entries: Iterable[Entry]) -> None:
        """Record addresses that are about to be added. Raises OSError if that fails."""
        added = {entry: str(entry[2]) for entry in entries if entry not in self._entries}
        self._keep(self._entries | added, self.releases, self.floating)

    def keep_only(self, links: Iterable[Key]) -> None:
        """Remove the entries of all other links."""
        alive = set(links)
        entries = {entry: ip for entry, ip in self._entries.items() if entry[:2] in alive}
        floating = {key: record for key, record in self.floating.items() if key in alive}
        self._keep(entries, self.releases.among(alive), floating)

    def keep_releases(self, releases: Releases) -> None:
        """Record what is released. Raises OSError if that fails."""
        self._keep(self._entries, releases, self.floating)

    def keep_floating(self, floating: Mapping[Key, Record]) -> None:
        """Record what others have on the links, and what they took away. Raises OSError."""
        self._keep(self._entries, self.releases, floating)

    def try_floating(self, floating: Mapping[Key, Record]) -> None:
        """As `keep_floating`. What cannot be recorded is for another time; `trouble` says why."""
        self.trouble = ""
        try:
            self.keep_floating(floating)
        except OSError as error:
            self.trouble = f"{self._file} cannot be written: {error.strerror}; the old one stays"

    def _keep(
        self, entries: dict[Entry, str], releases: Releases, floating: Mapping[Key, Record]
    ) -> None:
        if (entries, releases, floating) == (self._entries, self.releases, self.floating):
            return
        released = {"everything": releases.everything, "exceptions": sorted(releases.exceptions)}
        document = {
            "boot": self._boot,
            "addresses": sorted((index, mac, ip) for (index, mac, _), ip in entries.items()),
            "released": released,
            "floating": [_row(key, record) for key, record in sorted(floating.items())],
        }
        _write(self._file, document)
        self._entries, self.releases, self.floating = entries, releases, floating

    def keep_needed(self, found: Mapping[Key, Iterable[Address]]) -> None:
        """Remove entries that are not needed; `found` are all addresses of links that were read.

        Those of what is gone, else what others add there later would count as ours; and of what
        has the kernel's own mark, else it would still count as ours once others replaced it.
        """
        if not self._entries:
            return
        needed = {
            (*link, address.ip)
            for link, addresses in found.items()
            for address in addresses
            if address.protocol != PROTOCOL
        }
        kept = (e for e in self._entries if e[:2] not in found or e in needed)
        entries = {entry: self._entries[entry] for entry in kept}
        self._keep(entries, self.releases, self.floating)

    def mark(self, mac: str, addresses: Iterable[Address]) -> tuple[Address, ...]:
        """The addresses; ours carry our mark: those in the ledger that nobody has taken over."""
        if not self._entries:
            return tuple(addresses)
        return tuple(
            _with_mark(address)
            if address.protocol == 0
            and not address.dynamic
            and address.prefixlen == address.ip.max_prefixlen
            and (address.index, mac, address.ip) in self._entries
            else address
            for address in addresses
        )


def _write(file: Path, document: Mapping[str, object]) -> None:
    with files.replacing(file) as written:
        written.write(json.dumps(document).encode())


@lru_cache(maxsize=16384)  # as the addresses of `nicwatchd.netlink.decode`: each stays the same one
def _with_mark(address: Address) -> Address:
    return replace(address, protocol=PROTOCOL)


def _row(key: Key, record: Record) -> dict[str, object]:
    """A record as JSON has it."""
    return {
        "link": key,
        "theirs": sorted(map(str, record.theirs)),
        "taken": sorted((str(ip), who) for ip, who in record.taken),
        "also": sorted(map(str, record.also)),
    }
