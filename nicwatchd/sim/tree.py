"""The paths of an imitated IMDS: a path and the plugged ENIs in, the text or a 404 out. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

META_DATA: Final = "/latest/meta-data/"
MACS: Final = "network/interfaces/macs/"

# Each directory on the way to the ENIs, with what it lists.
_DIRECTORIES: Final = {
    "": "instance-id\nmac\nnetwork/",
    "network/": "interfaces/",
    "network/interfaces/": "macs/",
}


@dataclass(frozen=True, slots=True)
class Host:
    """What IMDS knows now: the primary's MAC, and for each listed MAC its keys (None: they lag)."""

    mac: str
    enis: Mapping[str, Mapping[str, str | None]]


def lookup(host: Host, path: str) -> str | None:
    """The text at a path below the meta-data root; None is a 404.

    A directory answers with and without its trailing slash, as EC2's does.
    """
    leaves = {"mac": host.mac, "instance-id": "i-0123456789abcdef0"}
    if path in leaves:
        return leaves[path]
    directory = path if not path or path.endswith("/") else path + "/"
    if directory in _DIRECTORIES:
        return _DIRECTORIES[directory]
    if directory == MACS:
        return "\n".join(f"{mac}/" for mac in host.enis)
    mac, _, key = path.removeprefix(MACS).partition("/")
    keys = host.enis.get(mac)
    if not path.startswith(MACS) or keys is None:
        return None
    return keys.get(key) if key else "\n".join(sorted(keys))


def kind(path: str) -> str:
    """What faults call a path: "directory" (the list of MACs or of keys) or "leaf:KEY"."""
    if path.startswith(MACS):
        key = path.removeprefix(MACS).partition("/")[2]
        return f"leaf:{key}" if key else "directory"
    return "directory" if not path or path.endswith("/") else f"leaf:{path}"
