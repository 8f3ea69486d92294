"""Amazon's network devices that have no link in this network namespace, as /sys tells of them.

The MAC of such a device cannot be read: whose it is, nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEVICES: Final = Path("/sys/bus/pci/devices")
AMAZON: Final = "0x1d0f"
NETWORK: Final = "0x02"  # the class of network controllers; Amazon's NVMe disks have another


@dataclass(frozen=True, slots=True)
class Device:
    """A PCI device by its address; `driver` is the one that has it, if one does."""

    address: str
    driver: str | None


def without_link(devices: Path = DEVICES) -> list[Device]:
    """The devices, by address. None where /sys does not tell."""
    try:
        paths = sorted(devices.iterdir())
    except OSError:
        return []
    return [device for path in paths for device in _device(path)]


def _device(path: Path) -> Iterator[Device]:
    try:
        vendor, kind = ((path / name).read_text().strip() for name in ("vendor", "class"))
        # /sys shows the links of the reader's namespace alone.
        has_link = any((path / "net").iterdir()) if (path / "net").is_dir() else False
        driver = (path / "driver").readlink().name if (path / "driver").is_symlink() else None
    except OSError:  # it has just been taken out
        return
    if vendor == AMAZON and kind.startswith(NETWORK) and not has_link:
        yield Device(path.name, driver)
