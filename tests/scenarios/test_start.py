"""Where the daemon cannot work, or must not: what it says, and that it never fails a boot."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from nicwatchd.sim.ec2 import SETTINGS
from nicwatchd.sim.script import Fault
from tests.scenarios.commands import nicwatchd, nicwatchd_on
from tests.scenarios.host import WITHIN, complete, ec2_host, numbered

BAD = {
    "unknown-key": (
        "[retry]\nintervall = 1",
        "unknown key 'retry.intervall'; did you mean 'interval'?",
    ),
    "unknown-section": ("[imsd]\nburst = 1", "unknown key 'imsd'; did you mean 'imds'?"),
    "wrong-type": ("[retry]\nsettling = 'long'", "retry.settling: 'long' is wrong"),
    "out-of-range": ("[retry]\nsettling = -1", "retry.settling: -1 is wrong"),
    "unknown-word": ("[interfaces]\nrules = 'subnets'", "interfaces.rules: 'subnets' is wrong"),
    "bad-cidr": (
        "[interfaces]\nexclude_subnets = ['10.0.0.0/33']",
        "interfaces.exclude_subnets.0: '10.0.0.0/33' is wrong; it should be a CIDR",
    ),
    "no-toml": ("[retry", "is not TOML"),
}


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD)
async def test_bad_settings_are_one_clear_line(text: str, words: str, tmp_path: Path) -> None:
    config = tmp_path / "nicwatchd.toml"
    config.write_text(text)
    ended = await nicwatchd("run", "--config", str(config), "--runtime-directory", str(tmp_path))
    assert ended.code == 2
    assert ended.complaint_line.startswith(f"nicwatchd: {config}: ")
    assert words in ended.complaint_line


@pytest.mark.parametrize("kind", ["missing", "directory", "not-text"])
async def test_unreadable_settings_are_one_clear_line(kind: str, tmp_path: Path) -> None:
    config = tmp_path / "nicwatchd.toml"
    if kind == "directory":
        config.mkdir()
    elif kind == "not-text":
        config.write_bytes(b"\xff\xfe")
    ended = await nicwatchd("run", "--config", str(config), "--runtime-directory", str(tmp_path))
    assert ended.code == 2
    assert ended.complaint_line.startswith(f"nicwatchd: {config}: ")


async def test_a_second_daemon_says_that_there_is_one() -> None:
    async with ec2_host(numbered(1)) as host:
        ended = await nicwatchd_on(host.vpc, "run", "--config", str(host.daemon.config))
        assert ended.code == 2
        assert f"is already running (pid {host.daemon.process.pid}, " in ended.complaint_line
        await host.plug("eth1")
        await host.until("eth1", complete)  # the first one serves on


async def test_it_says_which_capability_is_missing(tmp_path: Path) -> None:
    without = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
    config = tmp_path / "nicwatchd.toml"
    config.write_text(SETTINGS)
    ended = await nicwatchd(
        *("run", "--config", str(config), "--runtime-directory", str(tmp_path)), wrapper=without
    )
    assert ended.code == 5
    assert "CAP_NET_ADMIN is missing" in ended.complaint_line


async def test_off_ec2_it_idles_and_answers() -> None:
    idle = SETTINGS.replace('platform = "ec2"', 'platform = "auto"')
    async with ec2_host(numbered(1), config=idle, settled=False) as host:
        status = await host.daemon.get("/v1/status")
        assert "does not say that this is an EC2 host" in status["idle"]
        assert status["interfaces"] == []
        assert (await host.daemon.get("/healthz"))["status"] == "ok"
        assert (await host.daemon.get("/readyz"))["status"] == "ok"
        before = await host.kernel_objects()
        await host.plug("eth1")
        await host.daemon.post("/v1/reconcile")
        assert await host.kernel_objects() == before
        assert not host.imds.log
        said = await nicwatchd_on(host.vpc, "status")
        assert "\nidle: " in said.out
        # What is left of a time with other settings can go all the same.
        await host.ip("rule add pref 32765 from 10.0.2.0/24 lookup 1002495 proto 236")
        said = await nicwatchd_on(host.vpc, "release", "--all")
        assert said.out == "released: 1 rule\n"
        assert await host.kernel_objects() == before
        assert await host.daemon.stop() == 0


async def test_imds_disabled() -> None:
    async with ec2_host(numbered(1), faults=[Fault("token", "403")], settled=False) as host:
        await host.plug("eth1")
        status = await host.until("eth1", "awaiting-imds")
        assert "IMDS is disabled" in status["reasons"][0]["text"]
        imds = (await host.daemon.get("/v1/status"))["imds"]
        assert imds["state"] == "disabled"
        assert (await host.daemon.get("/healthz"))["status"] == "ok"
        assert (await host.daemon.get("/readyz"))["status"] == "failing"
        said = await nicwatchd_on(host.vpc, "status")
        assert "IMDS is disabled: " in said.text
        assert await host.own_rules() == []


async def test_ready_comes_before_imds_answers(tmp_path: Path) -> None:
    """systemd's notification socket: READY, a line for people, and the watchdog's beats."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.settimeout(0)
        path = tmp_path / "notify"
        notified.bind(str(path))
        silent = [Fault("token", "timeout")]
        wrapper = ("env", f"NOTIFY_SOCKET={path}")
        async with ec2_host(numbered(1), faults=silent, wrapper=wrapper, settled=False) as host:
            said = await _said(notified, "READY=1")
            assert said["STATUS"] == "0 of 1 interfaces work, 1 detected"
            assert not any(request.status for request in host.imds.log)  # none was answered
            await _said(notified, "WATCHDOG=1")
            host.imds.clear()
            await host.plug("eth1")
            await _said(notified, "STATUS=2 of 2 interfaces work, 1 applied, 1 ignored")
            assert await host.daemon.stop() == 0
            await _said(notified, "STOPPING=1")


async def _said(notified: socket.socket, wanted: str) -> dict[str, str]:
    """The first notification with a line."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(WITHIN):
        while True:
            lines = (await loop.sock_recv(notified, 4096)).decode().splitlines()
            if wanted in lines:
                return dict(line.split("=", 1) for line in lines)
