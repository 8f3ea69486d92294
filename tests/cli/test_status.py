"""The output and the exit code of `nicwatchd status`, for canned answers of a daemon."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import pytest

from nicwatchd.cli.main import main
from nicwatchd.core.evidence import Status
from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import IPAddress
from nicwatchd.service.control import Control
from nicwatchd.service.counts import Counts
from nicwatchd.service.released import Released
from nicwatchd.service.status import (
    DeviceStatus,
    FamilyStatus,
    HostStatus,
    ImdsStatus,
    InterfaceStatus,
    ReasonStatus,
    UnlinkedStatus,
)
from nicwatchd.service.telling import Observer

ETH0 = InterfaceStatus(
    name="eth0", index=2, mac="02:00:00:00:00:01", state=State.IGNORED, since=0.0, seen=0.0,
    table=1_000_703, reasons=[ReasonStatus(code="primary", text="the primary interface")],
)  # fmt: skip
ETH1 = InterfaceStatus(
    name="eth1", index=3, mac="02:00:00:00:00:02", eni="eni-2", state=State.APPLIED,
    since=0.0, seen=0.0, table=1_000_959,
    ipv4=FamilyStatus(verdict=Status.READY, addresses=["10.0.2.10"], subnets=["10.0.2.0/24"]),
    notes=[ReasonStatus(code="link-down", text="the link is down")], link_up=False,
)  # fmt: skip
LATE = ReasonStatus(code="mac-unlisted", text="IMDS does not list the MAC")
ETH2 = ETH1.model_copy(
    update={
        "name": "eth2", "mac": "02:00:00:00:00:03", "eni": None, "state": State.AWAITING,
        "overdue": True, "link_up": True, "reasons": [LATE], "notes": [], "ipv4": None,
    }
)  # fmt: skip
WELL = HostStatus(version="1", pid=1, started=0.0, imds=ImdsStatus(state="ok"), primary_mac="x")


class Canned:
    """A service with a canned status."""

    def __init__(self, status: HostStatus) -> None:
        self.said = status

    def status(self) -> HostStatus:
        return self.said

    def counts(self) -> Counts:
        return Counts()

    async def reconcile(
        self, interface: str | None = None, adopt: Iterable[IPAddress] = ()
    ) -> None:
        del interface, adopt
        self.said = self.said.model_copy(update={"interfaces": [ETH0]})

    async def release(self, interface: str | None = None) -> Released:
        del interface
        return Released()

    def subscribe(self, listener: Observer) -> Callable[[], None]:
        del listener
        return lambda: None


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Canned]:
    canned = Canned(WELL.model_copy(update={"interfaces": [ETH0, ETH1]}))
    control = Control(canned, tmp_path / "nicwatchd.sock")
    await control.start()
    yield canned
    await control.close()


async def run(directory: Path, *words: str) -> int:
    """Run the command in a thread: it blocks, and the server is in this loop."""
    return await asyncio.to_thread(main, [*words, "--runtime-directory", str(directory)])


async def test_settled_interfaces(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(service.said.interfaces) == 2
    assert await run(tmp_path, "status") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("eth0  ignored  for ")
    assert lines[1] == "    reason: the primary interface"
    assert lines[2].startswith("eth1  applied (link down)  for ")
    assert lines[2].endswith("02:00:00:00:00:02 eni-2")
    assert lines[3:] == ["    ipv4: 10.0.2.10  (table 1000959)", "    note: the link is down"]


async def test_an_interface_that_waits(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.said = WELL.model_copy(update={"interfaces": [ETH2]})
    assert await run(tmp_path, "status") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("eth2  awaiting-imds (overdue)  for ")
    assert lines[1:] == ["    reason: IMDS does not list the MAC"]


async def test_an_interface_that_is_fought_over(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = ReasonStatus(code="fought-over", text="a rule was removed 3 times")
    fought = ETH1.model_copy(update={"fought_over": True, "link_up": True, "notes": [note]})
    service.said = WELL.model_copy(update={"interfaces": [fought]})
    assert await run(tmp_path, "status") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("eth1  applied (fought over)  for ")
    assert lines[-1] == "    note: a rule was removed 3 times"


async def test_trouble_comes_first(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.said = WELL.model_copy(
        update={
            "idle": "no EC2",
            "problems": ["kernel: no answer"],
            "container_network": "Cilium",
            "imds": ImdsStatus(state="disabled", detail="403 on the token"),
        }
    )
    assert await run(tmp_path, "status") == 1
    assert capsys.readouterr().out.splitlines() == [
        "idle: no EC2",
        "problem: kernel: no answer",
        "IMDS is disabled: 403 on the token",
        "Cilium owns this host's secondary interfaces",
    ]


@pytest.mark.parametrize("key", ["eth1", "ETH1", "02:00:00:00:00:02", "eni-2"])
async def test_one_interface(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    assert service.said.interfaces
    assert await run(tmp_path, "status", "--json", key) == 0
    said = json.loads(capsys.readouterr().out)
    assert [interface["name"] for interface in said["interfaces"]] == ["eth1"]


async def test_an_interface_that_is_not_there(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert service.said.interfaces
    assert await run(tmp_path, "status", "eth7") == 2
    assert capsys.readouterr().err == "nicwatchd: no interface 'eth7'; there are: eth0, eth1\n"


async def test_reconcile(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(tmp_path, "reconcile", "--json") == 0
    assert service.said.interfaces == [ETH0]
    said = json.loads(capsys.readouterr().out)
    assert [interface["name"] for interface in said["interfaces"]] == ["eth0"]


async def test_no_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run(tmp_path, "status") == 2
    said = capsys.readouterr().err
    assert said.startswith("nicwatchd: the daemon is not running (nothing listens on ")
    assert said.endswith("`nicwatchd status --journal` shows the last known state\n")
    assert said.count("\n") == 1


async def test_a_locale_without_the_letters_and_a_closed_output(
    tmp_path: Path, service: Canned, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.said = WELL.model_copy(
        update={"interfaces": [ETH0.model_copy(update={"name": "\xfc"})]}
    )
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, "ascii", write_through=True))
    assert await run(tmp_path, "status") == 0
    assert printed.getvalue().startswith(b"\\xfc  ignored ")
    monkeypatch.setattr("sys.stdout", None)  # as Python starts with `>&-`
    assert await run(tmp_path, "status") == 0
    assert sys.stdout is not None
    sys.stdout.close()


AWAY = UnlinkedStatus(mac="02:00:00:00:00:03", eni="eni-3", name="eth2", since=0.0, remembered=True)
VFIO = DeviceStatus(address="0000:00:06.0", driver="vfio-pci")
ONE_OF_TWO = "it may be one of 2 Amazon network devices without a link"
BARE = DeviceStatus(address="0000:00:07.0")


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ([], "nor is there an Amazon network device without a link"),
        ([VFIO], "the one Amazon network device without a link is 0000:00:06.0 (vfio-pci)"),
        (
            [VFIO, BARE],
            f"{ONE_OF_TWO}: 0000:00:06.0 (vfio-pci), 0000:00:07.0 (no driver)",
        ),
    ],
)
async def test_an_eni_without_a_link(
    devices: list[DeviceStatus],
    words: str,
    service: Canned,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = {"interfaces": [ETH0], "unlinked": [AWAY], "devices": devices}
    service.said = WELL.model_copy(update=more)
    assert await run(tmp_path, "status") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("no link (was eth2)  for ")
    assert lines[2].endswith("02:00:00:00:00:03 eni-3")
    begin = "    reason: IMDS lists it, and this host has no link with its MAC; "
    assert lines[3] == begin + words
    assert lines[4].startswith("    note: what is known of it is kept")
    assert await run(tmp_path, "status", "eth0") == 0
    assert "no link" not in capsys.readouterr().out
