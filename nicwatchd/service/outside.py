"""What others say of links, in files: udev, DHCP clients, Multus' configuration, sysctls.

A file that cannot be read says nothing; it is no failure of ours. What has not changed since is not
read again.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final

from nicwatchd.core.dhcp import DHCPCD, NETWORK_MANAGER

RUN: Final = Path("/run")
UDEV: Final = Path("/run/udev")
SYSCTLS: Final = Path("/proc/sys/net/ipv4/conf")
CNI: Final = Path("/etc/cni/net.d")  # the directory of kubelet's, containerd's and CRI-O's defaults

STRICT: Final = 1  # of rp_filter; 2 is loose
MARK: Final = "E:ID_NET_MANAGED_BY="
MULTUS: Final = "multus"
# The plugin itself, and the front of its daemon ("thick" Multus).
MULTUS_TYPES: Final = (MULTUS, "multus-shim")
LARGEST: Final = 1 << 20  # bytes; a CNI configuration has some hundreds

Stamp = tuple[int, int, int]  # what changes when a file does


class Outside:
    """Reads all of them. The directories are arguments for tests."""

    def __init__(
        self, udev: Path = UDEV, cni: Path = CNI, sysctls: Path = SYSCTLS, run: Path = RUN
    ) -> None:
        self._udev = udev / "data"
        self._run = run
        self._sysctls = sysctls
        self._cni = cni
        self._managers: dict[int, tuple[Stamp, str]] = {}
        self._multus: dict[Path, tuple[Stamp, bool]] = {}

    def manager_of(self, index: int) -> str:
        """The value of ID_NET_MANAGED_BY that udev gave to a link; empty without one."""
        file = f"{self._udev}/n{index}"
        try:
            stamp = _stamp(file)
            known = self._managers.get(index)
            if known is None or known[0] != stamp:
                text = Path(file).read_text(encoding="utf-8", errors="surrogateescape")
                known = self._managers[index] = stamp, _mark_in(text)
        except OSError:  # most often, that there is no such file
            self._managers.pop(index, None)
            return ""
        return known[1]

    def clients_of(self, indices: Collection[int]) -> dict[int, str]:
        """The DHCP client that may serve each link, if it is one that is waited for by name."""
        if not indices:
            return {}
        # Itself asks that directory whether it ran since boot; netplan writes files for it beside.
        if (self._run / "NetworkManager/devices").is_dir():
            return dict.fromkeys(indices, NETWORK_MANAGER)
        try:
            files = {file.name for file in (self._run / "dhcpcd").iterdir()}
        except OSError:  # most often, that there is no such directory
            files = set()
        return {index: DHCPCD if _are_for(index, files) else "" for index in indices}

    def is_strict(self, index: int) -> bool:
        """Whether a link's reverse-path filter for IPv4 is strict: the greater of two sysctls."""
        try:
            names = ("all", socket.if_indextoname(index))
            values = [int((self._sysctls / name / "rp_filter").read_text()) for name in names]
        except (OSError, ValueError):  # the link is gone, or was just renamed
            return False
        return max(values) == STRICT

    def multus(self) -> tuple[str, ...]:
        """The files that configure Multus."""
        try:
            files = sorted(f for f in self._cni.iterdir() if f.suffix in (".conf", ".conflist"))
        except OSError:
            files = []
        found: dict[Path, tuple[Stamp, bool]] = {}
        for file in files:
            try:
                stamp = _stamp(file)
            except OSError:  # gone since, or a link to nowhere
                continue
            known = self._multus.get(file)
            found[file] = known if known and known[0] == stamp else (stamp, _is_multus(file))
        self._multus = found
        return tuple(str(file) for file, (_, is_multus) in found.items() if is_multus)


def _stamp(file: Path | str) -> Stamp:
    now = os.stat(file)  # noqa: PTH116 (a Path costs five times as much, of each link)
    return now.st_mtime_ns, now.st_ino, now.st_size


def _are_for(index: int, files: AbstractSet[str]) -> bool:
    """Whether one of these is of a dhcpcd for a link, for a family of it, or for all links."""
    try:
        name = socket.if_indextoname(index) if files else ""
    except OSError:  # it is gone
        return False
    return not files.isdisjoint({"pid", f"{name}.pid", f"{name}-4.pid", f"{name}-6.pid"})


def _mark_in(text: str) -> str:
    marks = (line for line in text.split("\n") if line.startswith(MARK))
    return next((line.removeprefix(MARK).strip() for line in marks), "")


def _is_multus(file: Path) -> bool:
    """Whether a CNI configuration is Multus'. Of one that only root may read, its name tells."""
    try:
        with file.open("rb") as opened:
            document = json.loads(opened.read(LARGEST))
    except OSError:
        return MULTUS in file.name
    except (ValueError, RecursionError):
        return False
    return _type_of(document) in MULTUS_TYPES or any(
        _type_of(each) in MULTUS_TYPES for each in _plugins(document)
    )


def _plugins(document: Any) -> list[Any]:
    plugins = document.get("plugins") if isinstance(document, dict) else None
    return plugins if isinstance(plugins, list) else []


def _type_of(document: Any) -> object:
    return document.get("type") if isinstance(document, dict) else None
