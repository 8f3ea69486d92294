"""What the files of other software say, and what is wrong with them."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from nicwatchd.service.outside import Outside

MULTUS = {"cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus"}
AWS = {"name": "aws-cni", "plugins": [{"type": "aws-cni"}, {"type": "portmap"}]}


def outside(directory: Path, files: dict[str, Any]) -> Outside:
    for name, document in files.items():
        text = document if isinstance(document, str) else json.dumps(document)
        (directory / name).write_text(text, encoding="utf-8")
    return Outside(udev=directory / "none", cni=directory)


@pytest.mark.parametrize(
    ("name", "document", "expected"),
    [
        ("00-multus.conf", MULTUS, True),
        ("00-multus.conf", MULTUS | {"type": "multus-shim"}, True),
        ("zz.conf", MULTUS, True),
        ("a.conflist", {"plugins": [{"type": "multus"}, {"type": "portmap"}]}, True),
        ("a.conflist", {"plugins": [{"type": "portmap"}, {"type": "multus-shim"}]}, True),
        ("00-multus.conf.new", MULTUS, False),
        ("multus.kubeconfig", "apiVersion: v1", False),
        ("00-multus.conf", AWS, False),
        ("a.conf", {"type": "bridge", "name": "multus", "delegates": [MULTUS]}, False),
        ("00-multus.conf", "", False),
        ("00-multus.conf", "not JSON", False),
        ("00-multus.conf", "[" * 100_000, False),
        ("00-multus.conf", "[]", False),
        ("00-multus.conf", "3", False),
        ("00-multus.conf", {"type": ["multus"]}, False),
        ("00-multus.conf", {"plugins": "multus"}, False),
        ("00-multus.conf", {"plugins": ["multus", None, 7]}, False),
        ("00-multus.conf", {"plugins": {"type": "multus"}}, False),
    ],
)
def test_what_is_multus(tmp_path: Path, name: str, document: Any, *, expected: bool) -> None:
    found = outside(tmp_path, {"10-aws.conflist": AWS, name: document}).multus()
    assert found == ((str(tmp_path / name),) if expected else ())


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_bytes(b'{"type": "multus\xff"}')
    assert Outside(cni=tmp_path).multus() == ()


def test_without_the_directory(tmp_path: Path) -> None:
    assert Outside(cni=tmp_path / "none").multus() == ()
    (tmp_path / "file").touch()
    assert Outside(cni=tmp_path / "file").multus() == ()


@pytest.mark.parametrize(("name", "expected"), [("00-multus.conf", True), ("10-aws.conf", False)])
def test_of_what_may_not_be_read_the_name_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, *, expected: bool
) -> None:
    """Multus' daemon writes it for root alone, and nicwatchd is not root."""
    watched = outside(tmp_path, {name: MULTUS})

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert bool(watched.multus()) is expected


def test_a_link_to_nowhere_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "00-multus.conf").symlink_to(tmp_path / "none")
    assert Outside(cni=tmp_path).multus() == ()


def test_what_comes_changes_and_goes_is_seen(tmp_path: Path) -> None:
    watched = outside(tmp_path, {})
    assert watched.multus() == ()
    outside(tmp_path, {"a.conf": MULTUS})
    assert watched.multus() == (str(tmp_path / "a.conf"),)
    outside(tmp_path, {"a.conf": AWS})
    assert watched.multus() == ()
    outside(tmp_path, {"a.conf": MULTUS | {"name": "x"}})
    assert watched.multus() == (str(tmp_path / "a.conf"),)
    (tmp_path / "a.conf").unlink()
    assert watched.multus() == ()


def test_what_did_not_change_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/n3").write_text("E:ID_NET_MANAGED_BY=x\n", encoding="utf-8")
    (tmp_path / "a.conf").write_text(json.dumps(MULTUS), encoding="utf-8")
    watched = Outside(udev=tmp_path, cni=tmp_path)
    before = watched.multus(), watched.manager_of(3)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("it was read again")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    assert (watched.multus(), watched.manager_of(3)) == before


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["E:ID_NET_MANAGED_BY=org.example.Fabric"], "org.example.Fabric"),
        (["E:ID_NET_MANAGED_BY=io.systemd.Network"], "io.systemd.Network"),
        (["E:ID_NET_MANAGED_BY="], ""),
        (["E:ID_NET_DRIVER=ena"], ""),
        (["E:XID_NET_MANAGED_BY=x", "Q:ID_NET_MANAGED_BY=x"], ""),
        (["E:ID_NET_MANAGED_BY=Fabric \xe9"], "Fabric \xe9"),
        ([], ""),
    ],
)
def test_whose_a_link_is(tmp_path: Path, lines: list[str], expected: str) -> None:
    (tmp_path / "data").mkdir()
    text = "\n".join(["I:5812345", *lines, "G:systemd", ""])
    (tmp_path / "data/n3").write_text(text, encoding="utf-8")
    watched = Outside(udev=tmp_path)
    assert (watched.manager_of(3), watched.manager_of(4)) == (expected, "")
    (tmp_path / "data/n3").unlink()
    assert watched.manager_of(3) == ""


def test_a_mark_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "data/n3").mkdir(parents=True)
    assert Outside(udev=tmp_path).manager_of(3) == ""


@pytest.mark.parametrize(
    ("of_all", "of_link", "expected"),
    [
        ("0", "0", False),
        ("1", "0", True),
        ("0", "1", True),
        ("1", "1", True),
        ("2", "1", False),
        ("1", "2", False),
        ("1", "?", False),
        ("1", None, False),
    ],
)
def test_the_greater_of_two_sysctls_is_the_filter(
    tmp_path: Path, of_all: str, of_link: str | None, *, expected: bool
) -> None:
    for name, value in (("all", of_all), ("lo", of_link)):
        (tmp_path / name).mkdir()
        if value is not None:
            (tmp_path / name / "rp_filter").write_text(f"{value}\n", encoding="utf-8")
    assert Outside(sysctls=tmp_path).is_strict(socket.if_nametoindex("lo")) is expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["dhcpcd/pid"], "dhcpcd"),
        (["dhcpcd/lo.pid"], "dhcpcd"),
        (["dhcpcd/lo-4.pid", "dhcpcd/lo-4.sock"], "dhcpcd"),
        (["dhcpcd/lo-6.pid"], "dhcpcd"),
        (["dhcpcd/lo.sock", "dhcpcd/hook-state"], ""),
        (["dhcpcd/eth1.pid", "dhcpcd/lo1-4.pid"], ""),
        (["NetworkManager/devices/1"], "NetworkManager"),
        (["NetworkManager/devices/1", "dhcpcd/pid"], "NetworkManager"),
        (["NetworkManager/conf.d/netplan.conf"], ""),
        (["NetworkManager/conf.d/netplan.conf", "dhcpcd/pid"], "dhcpcd"),
        (["systemd/netif/links/1"], ""),
        ([], ""),
    ],
)
def test_which_client_is_waited_for_by_name(
    tmp_path: Path, files: list[str], expected: str
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    watched = Outside(run=tmp_path)
    lo = socket.if_nametoindex("lo")
    assert watched.clients_of([lo]) == {lo: expected}
    assert watched.clients_of([]) == {}


def test_a_link_that_is_gone_has_no_dhcpcd(tmp_path: Path) -> None:
    (tmp_path / "dhcpcd").mkdir()
    (tmp_path / "dhcpcd/pid").touch()
    assert Outside(run=tmp_path).clients_of([1 << 30]) == {1 << 30: ""}


def test_a_link_that_is_gone_has_no_filter(tmp_path: Path) -> None:
    assert Outside(sysctls=tmp_path).is_strict(1 << 30) is False
