"""`nicwatchd bugreport` on a simulated host: what is in the archive, and what must not be."""

from __future__ import annotations

import json
import os
import signal
import stat
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from nicwatchd.sim.ec2 import Ec2
from nicwatchd.sim.recorded import Recording, load
from nicwatchd.sim.script import Scenario
from tests.scenarios.commands import AS_NOBODY, Ended, nicwatchd_on
from tests.scenarios.host import DEFAULT, PRIMARY, WITHIN, complete, numbered

pytestmark = pytest.mark.long


# Its addresses are public.
ETH1: Final = replace(
    numbered(1),
    ipv4=("54.93.7.11", "54.93.7.12"),
    subnet_ipv4="54.93.7.0/24",
    ipv6=("2600:1f18:1:2::11",),
    subnet_ipv6=("2600:1f18:1:2::/64",),
)
SCENARIO: Final = Scenario(PRIMARY.mac, (PRIMARY, ETH1))
# What may be asked of IMDS.
ALLOWED: Final = ("/latest/api/token", "/latest/meta-data/mac", "/latest/meta-data/network/")
WITHOUT_DAEMON: Final = {
    *("README.txt", "missing.txt", "versions.txt", "imds.json", "recording.jsonl"),
    *("settings/nicwatchd.toml", "kernel/sysctl.txt", "kernel/link.json", "kernel/addr.json"),
    *("kernel/route-ipv4.json", "kernel/route-ipv6.json", "kernel/rule-ipv4.json"),
    *("doctor.txt", "kernel/rule-ipv6.json", "kernel/nexthop.json", "kernel/nft.txt"),
}
OF_DAEMON: Final = {"status.json", "status.txt", "metrics.txt", "explain.txt"}


class Report:
    """An archive, unpacked."""

    def __init__(self, file: Path, where: Path) -> None:
        self.where = where / file.name.removesuffix(".tar.gz")
        with tarfile.open(file) as tar:
            assert {member.mode for member in tar} == {0o600}
            tar.extractall(where, filter="data")
        self.files = {
            str(path.relative_to(self.where)): path.read_text()
            for path in self.where.rglob("*")
            if path.is_file()
        }

    @property
    def text(self) -> str:
        return "\n".join(self.files.values())

    @property
    def missing(self) -> dict[str, str]:
        lines = self.files["missing.txt"].splitlines()
        return dict(line.split(": ", 1) for line in lines)

    @property
    def recording(self) -> Recording:
        return load(self.where / "recording.jsonl")


async def report(
    ec2: Ec2, tmp_path: Path, *more: str, settings: str = DEFAULT, wrapper: tuple[str, ...] = ()
) -> tuple[Ended, Report]:
    config = tmp_path / "nicwatchd.toml"
    config.write_text(settings)
    config.chmod(0o644)
    file = tmp_path / "report.tar.gz"
    words = ("bugreport", "--config", str(config), "--output", str(file), *more)
    ended = await nicwatchd_on(ec2.vpc, *words, wrapper=wrapper)
    assert (ended.code, ended.complaint) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    too_long = [line for line in ended.out.splitlines() if len(line) > 80]
    assert [line for line in too_long if str(tmp_path) not in line] == []
    found = Report(file, tmp_path)
    file.unlink()
    return ended, found


async def test_the_archive_of_a_host_with_the_daemon(tmp_path: Path) -> None:
    async with Ec2(SCENARIO) as ec2:
        daemon = await ec2.start_daemon(DEFAULT)
        await ec2.plug("eth1")
        await daemon.until("eth1", complete, WITHIN)
        ec2.imds.log.clear()
        ended, found = await report(ec2, tmp_path)
        tokens = list(ec2.imds._tokens)
        asked = {request.path for request in ec2.imds.log}

    assert found.files.keys() >= WITHOUT_DAEMON | OF_DAEMON
    for name in found.files:
        assert name in ended.out or name == "missing.txt"
    assert "Look at it before you send it" in ended.out

    # No secret: it was there to be told, and nothing else was asked for.
    assert tokens
    assert not [token for token in tokens if token in found.text]
    assert all(path.startswith(ALLOWED) for path in asked)
    assert "accountId" not in found.text

    # No public address, but what is what can still be seen.
    assert "54.93." not in found.text
    assert "2600:1f18" not in found.text
    keys = json.loads(found.files["imds.json"])
    listed = keys[f"network/interfaces/macs/{ETH1.mac}/ipv6s"]
    status = json.loads(found.files["status.json"])
    eth1 = next(each for each in status["interfaces"] if each["name"] == "eth1")
    assert eth1["ipv6"]["addresses"] == [listed]
    rules = json.loads(found.files["kernel/rule-ipv6.json"])
    assert listed in {rule["src"] for rule in rules}
    assert "10.0.1.10" in found.files["kernel/addr.json"]
    assert "eth0" in found.files["explain.txt"]
    assert "eth1" in found.files["explain.txt"]
    assert ETH1.mac in found.files["status.txt"] + found.files["kernel/link.json"]

    recording = found.recording
    assert recording.lines[-1].end
    assert recording.header.masked
    said = [line.said for line in recording.lines if line.said]
    assert {each.name: each.state for each in said} == {"eth0": "ignored", "eth1": "applied"}
    assert any(line.imds and line.imds.body == listed for line in recording.lines)


async def test_the_archive_of_a_host_without_the_daemon(tmp_path: Path) -> None:
    async with Ec2(SCENARIO) as ec2:
        await ec2.plug("eth1")
        ended, found = await report(ec2, tmp_path, "--no-mask")
        tokens = list(ec2.imds._tokens)
    assert found.files.keys() >= WITHOUT_DAEMON
    assert found.files.keys().isdisjoint(OF_DAEMON)
    for name in OF_DAEMON:
        assert found.missing[name].startswith("the daemon is not running")
        assert name in ended.out
    assert "NOT masked" in ended.out
    assert "NOT masked" in found.files["README.txt"]
    keys = json.loads(found.files["imds.json"])
    assert keys[f"network/interfaces/macs/{ETH1.mac}/local-ipv4s"] == "\n".join(ETH1.ipv4)
    assert not found.recording.header.masked
    assert not [token for token in tokens if token in found.text]


async def test_a_daemon_that_hangs_imds_that_is_gone_and_wrong_settings(tmp_path: Path) -> None:
    async with Ec2(SCENARIO) as ec2:
        daemon = await ec2.start_daemon(DEFAULT)
        ec2.imds.fault("all", "refuse")
        os.kill(daemon.process.pid, signal.SIGSTOP)
        try:
            _, found = await report(ec2, tmp_path, settings="platfrom = 1\n")
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)
    assert found.files.keys() >= WITHOUT_DAEMON - {"imds.json"}
    assert "no answer" in found.missing["status.json"]
    assert "IMDS" in found.missing["imds.json"]
    assert "platfrom" in found.missing["the settings (the defaults were used)"]
    assert found.files["settings/nicwatchd.toml"] == "platfrom = 1\n"
    assert any(line.imds and line.imds.failure for line in found.recording.lines)


@pytest.fixture
def open_path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o777)
    return tmp_path


async def test_another_user_gets_what_can_be_read(open_path: Path) -> None:
    async with Ec2(SCENARIO) as ec2:
        daemon = await ec2.start_daemon(DEFAULT)
        await daemon.until("eth0", lambda status: status["state"] == "ignored", WITHIN)
        ended, found = await report(ec2, open_path, wrapper=AS_NOBODY)
    assert found.files.keys() >= (WITHOUT_DAEMON | OF_DAEMON) - {"kernel/nft.txt"}
    assert "Operation not permitted" in found.missing["kernel/nft.txt"]
    assert "sudo nicwatchd bugreport" in ended.out
