"""The paths of a simulated IMDS: maps a path and the plugged ENIs to a text or a 404. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

META_DATA: Final = "meta-data/"
MACS: Final = "network/interfaces/macs/"
# Some of EC2's: those that cloud-init asks for, best first, and the one that all others use.
VERSIONS: Final = ("2021-03-23", "2018-09-24", "2016-09-02", "latest")

_IDENTITY: Final = {
    "accountId": "123456789012",
    "architecture": "x86_64",
    "availabilityZone": "us-east-1a",
    "imageId": "ami-0123456789abcdef0",
    "instanceId": "i-0123456789abcdef0",
    "instanceType": "m5.large",
    "region": "us-east-1",
    "version": "2017-09-30",
}
# Texts that are the same for every host, by the path below the version. No user data: 404.
_LEAVES: Final = {
    "dynamic/instance-identity/document": json.dumps(_IDENTITY, indent=2),
    "meta-data/ami-id": _IDENTITY["imageId"],
    "meta-data/ami-launch-index": "0",
    "meta-data/hostname": "vm.ec2.internal",
    "meta-data/instance-id": _IDENTITY["instanceId"],
    "meta-data/instance-type": _IDENTITY["instanceType"],
    "meta-data/local-hostname": "vm.ec2.internal",
    "meta-data/placement/availability-zone": _IDENTITY["availabilityZone"],
    "meta-data/placement/region": _IDENTITY["region"],
}


@dataclass(frozen=True, slots=True)
class Host:
    """What IMDS knows now: the primary's MAC, and the keys of each listed MAC (None: it lags)."""

    mac: str
    enis: Mapping[str, Mapping[str, str | None]]


def below_version(path: str) -> str | None:
    """The path below the version: "user-data" for `/latest/user-data`.

    None if the version is unknown.
    """
    version, _, rest = path.removeprefix("/").partition("/")
    return rest if version in VERSIONS else None


def lookup(host: Host, path: str) -> str | None:
    """The text at a path below the version; None means 404.

    A directory answers with and without its trailing slash, as on EC2.
    """
    leaves = _LEAVES | {f"{META_DATA}mac": host.mac}
    if path in leaves:
        return leaves[path]
    directory = path if not path or path.endswith("/") else path + "/"
    macs = META_DATA + MACS
    if not directory.startswith(macs):
        return _listing((*leaves, macs), directory)
    if directory == macs:
        return "\n".join(f"{mac}/" for mac in host.enis)
    mac, _, key = path.removeprefix(macs).partition("/")
    keys = host.enis.get(mac)
    if keys is None:
        return None
    return keys.get(key) if key else "\n".join(sorted(keys))


def _listing(paths: tuple[str, ...], directory: str) -> str | None:
    """The names in a directory, subdirectories with a slash; None if it is not a directory."""
    below = [path.removeprefix(directory) for path in paths if path.startswith(directory)]
    names = {name + slash for name, slash, _ in (path.partition("/") for path in below)}
    return "\n".join(sorted(names)) or None


def kind(path: str) -> str:
    """The name of a path below the version in faults: "directory" or "leaf:KEY"."""
    path = path.removeprefix(META_DATA)
    if path.startswith(MACS):
        key = path.removeprefix(MACS).partition("/")[2]
        return f"leaf:{key}" if key else "directory"
    return "directory" if not path or path.endswith("/") else f"leaf:{path}"
