"""Amazon's network devices without a link, of a /sys made of files."""

from __future__ import annotations

from pathlib import Path

from nicwatchd.service.pci import Device, without_link

ENA, DISK, INTEL = ("0x1d0f", "0x020000"), ("0x1d0f", "0x010802"), ("0x8086", "0x020000")


def device(
    root: Path, address: str, what: tuple[str, str], driver: str = "", link: str = ""
) -> None:
    path = root / "devices" / address
    path.mkdir(parents=True)
    for name, text in zip(("vendor", "class"), what, strict=True):
        (path / name).write_text(f"{text}\n")
    if driver:
        (path / "driver").symlink_to(f"../../drivers/{driver}")
    if link:
        (path / "net" / link).mkdir(parents=True)


def test_only_networks_of_amazon_without_a_link(tmp_path: Path) -> None:
    device(tmp_path, "0000:00:04.0", DISK, "nvme")
    device(tmp_path, "0000:00:05.0", ENA, "ena", "ens5")
    device(tmp_path, "0000:00:06.0", ENA, "vfio-pci")
    device(tmp_path, "0000:00:07.0", ENA)
    device(tmp_path, "0000:00:08.0", INTEL, "vfio-pci")
    device(tmp_path, "0000:00:09.0", ENA, "ena")
    (tmp_path / "devices/0000:00:09.0/net").mkdir()  # its link is in another namespace
    (tmp_path / "devices/0000:00:0a.0").mkdir()  # it goes just now
    assert without_link(tmp_path / "devices") == [
        Device("0000:00:06.0", "vfio-pci"),
        Device("0000:00:07.0", None),
        Device("0000:00:09.0", "ena"),
    ]


def test_a_host_without_pci(tmp_path: Path) -> None:
    assert without_link(tmp_path / "nowhere") == []
