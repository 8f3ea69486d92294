"""GET /v1/explain: the account of an interface, and `nicwatchd explain` that prints it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nicwatchd.cli.main import main
from nicwatchd.core.evidence import Status
from nicwatchd.core.health import Health
from nicwatchd.core.lifecycle import State
from nicwatchd.service.control import SOCKET_NAME, Control
from nicwatchd.service.daemon import Daemon
from nicwatchd.service.explanation import Explain, Explanation, explainer
from nicwatchd.service.status import InterfaceStatus
from nicwatchd.sim.script import EniScript
from tests.service.conftest import ETH1, MAC, Host, until

LATE = frozenset({"ipv6s", "subnet-ipv6-cidr-blocks", "vpc-ipv6-cidr-blocks"})
DELEGATED = replace(ETH1, ipv4_prefixes=("10.0.2.64/28",))


@pytest.fixture
def eth1() -> EniScript:
    return DELEGATED


def works(status: InterfaceStatus) -> bool:
    return status.health is Health.WORKING


def misses_ipv6(status: InterfaceStatus) -> bool:
    is_told = bool(status.ipv6 and status.ipv6.verdict is Status.WAITING)
    return status.state is State.AWAITING and is_told and status.ipv4 is not None


@asynccontextmanager
async def running(
    host: Host, hide: frozenset[str] = frozenset()
) -> AsyncIterator[tuple[Daemon, Explain]]:
    """A daemon with its control socket, and what explains; IMDS does not list what is hidden."""
    host.plug_primary()
    host.plug()
    host.imds.step("eth1", hide=set(hide))
    async with host.daemon() as daemon:
        explain = explainer(daemon.turn, time.monotonic, time.time)
        control = Control(daemon, host.directory / SOCKET_NAME, explain=explain)
        await control.start()
        try:
            yield daemon, explain
        finally:
            await control.close()


async def command(directory: Path, *words: str) -> int:
    arguments = ["explain", *words, "--runtime-directory", str(directory)]
    return await asyncio.to_thread(main, arguments)


def keys(said: Explanation) -> dict[str, tuple[str, list[str]]]:
    every = (*said.keys, *said.ipv4.keys, *said.ipv6.keys)
    return {each.key: (each.answer, each.values) for each in every}


async def test_what_works_is_explained(host: Host) -> None:
    async with running(host) as (daemon, explain):
        await until(daemon, "eth1", works)
        await daemon.reconcile()  # what is only displayed is read last
        said = explain("eth1")
        assert said is not None
        assert keys(said)["local-ipv4s"] == ("value", ["10.0.2.10", "10.0.2.11"])
        assert keys(said)["ipv6-prefix"] == ("absent", [])
        assert keys(said)["subnet-id"][0] == "value"
        assert (said.treatment, said.undone, said.throttled) == ("managed", [], [])
        assert said.rules > 4
        now = time.time()
        assert said.asked is not None
        assert said.next_question is not None
        assert said.asked <= said.next_question
        assert said.next_look > said.asked
        since = {each.since for each in said.ipv4.keys}
        assert all(at is not None and at <= now for at in since)


@pytest.mark.parametrize(
    "key",
    ["ETH1", MAC, MAC.upper(), "10.0.2.11", "2001:DB8:0:2:0::10", "10.0.2.70", "eni-"],
)
async def test_it_is_found_by_whatever_names_it(host: Host, key: str) -> None:
    async with running(host) as (daemon, explain):
        status = await until(daemon, "eth1", works)
        said = explain(str(status.eni) if key == "eni-" else key)
        assert said is not None
        assert said.interface.name == "eth1"


@pytest.mark.parametrize("key", ["eth7", "10.0.3.10", "", "10.0.2.0/24"])
async def test_nobody_else_is_found(host: Host, key: str) -> None:
    async with running(host) as (daemon, explain):
        await until(daemon, "eth1", works)
        assert explain(key) is None


async def test_the_command_tells_what_works(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    async with running(host) as (daemon, _):
        status = await until(daemon, "eth1", works)
        assert await command(host.directory, "10.0.2.70") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(f"eth1  {status.eni}  working; its state is applied")
    assert lines[1] == "Treated:  managed: an ENI that nicwatchd configures"
    text = "\n".join(lines)
    assert "  IMDS   local-ipv4s              10.0.2.10, 10.0.2.11 (for " in text
    assert "         ipv6-prefix              none (for " in text
    assert "Kernel:   table " in text
    assert " all in place" in text
    assert "To do:    Nothing. If it does not answer all the same: routes, rules" in text


async def test_the_command_tells_what_is_missing_and_waits(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(host, hide=LATE) as (daemon, _):
        await until(daemon, "eth1", misses_ipv6)
        assert await command(host.directory, "eth1") == 1
        out = capsys.readouterr().out
        assert await command(host.directory, "eth1", "--json") == 1
        said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert "  cause:     no IPv6 in IMDS yet (ipv6s); waiting 30 s more." in out
    assert "ipv6s                    none (for " in out
    assert "To do:    See `mend` above; then it goes on by itself." in out
    answers = {each["key"]: each["answer"] for each in said["ipv6"]["keys"]}
    assert answers["ipv6s"] == "absent"
    assert max(map(len, out.splitlines())) <= 80


async def test_the_primary_and_who_is_not_there(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(host) as (daemon, _):
        await until(daemon, "eth1", works)
        assert await command(host.directory, "eth0") in (0, 1)
        out = capsys.readouterr().out
        assert "Treated:  primary: the primary: IMDS's top-level `mac` is its MAC" in out
        assert await command(host.directory, "eth7") == 3
    assert capsys.readouterr().err == "nicwatchd: no interface 'eth7'; there are: eth0, eth1\n"


async def test_an_older_daemon_has_no_account(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.plug_primary()
    host.plug()
    async with host.daemon() as daemon:
        control = Control(daemon, host.directory / SOCKET_NAME)  # it explains nothing
        await control.start()
        await until(daemon, "eth1", works)
        try:
            assert await command(host.directory, "eth1") == 0
        finally:
            await control.close()
    out = capsys.readouterr().out
    assert out.startswith("eth1  ")
    assert "IPv4: working for " in out


async def test_no_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await command(tmp_path, "eth1") == 4
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("nicwatchd: the daemon is not running")
    assert "nicwatchd plan" in second
