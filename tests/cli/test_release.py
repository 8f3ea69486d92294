"""The output and the exit code of `nicwatchd release`, carried out by a daemon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from nicwatchd.cli.main import main
from nicwatchd.core.model import Family, RemoveAddress, RemoveRule, Rule, SetGroup
from nicwatchd.core.port import KernelError
from nicwatchd.service.control import SOCKET_NAME, Control
from nicwatchd.service.platform import Lock
from nicwatchd.service.released import Released
from nicwatchd.service.requests import UnknownInterfaceError
from tests.service.test_control import Well

RULE = RemoveRule(Rule(Family.V4, 32765, 1_000_959, oif="eth1"))
DONE = (RULE, RemoveAddress(3, ip_address("10.0.2.10"), 32), SetGroup(3, 0))
STUCK = ("ip rule del pref 32765 from 10.0.2.10", "Operation not permitted")


class Service(Well):
    """A daemon with a canned result."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: Released | Exception = Released()
        self.asked: list[str | None] = []

    async def release(self, interface: str | None = None) -> Released:
        self.asked.append(interface)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    lock = Lock(tmp_path)
    service = Service()
    control = Control(service, tmp_path / SOCKET_NAME)
    await control.start()
    yield service
    await control.close()
    lock.release()


async def release(directory: Path, *words: str) -> int:
    command = ["release", "--runtime-directory", str(directory), *words]
    return await asyncio.to_thread(main, command)


async def test_what_went(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer = Released(DONE)
    assert await release(tmp_path) == 0
    assert capsys.readouterr().out == "released: 1 rules, 1 addresses, 1 link groups\n"
    assert await release(tmp_path, "--json") == 0
    counts = {"rules": 1, "routes": 0, "addresses": 1, "link_groups": 1}
    assert json.loads(capsys.readouterr().out) == {"released": counts, "failed": []}


async def test_nothing_was_left(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await release(tmp_path, "a name/with?odd&letters") == 0
    assert service.asked == ["a name/with?odd&letters"]
    assert capsys.readouterr().out == "nothing to release\n"


async def test_what_did_not_go(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer = Released((), (STUCK,))
    assert await release(tmp_path) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "not released: ip rule del pref 32765 from 10.0.2.10: Operation not permitted"


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (UnknownInterfaceError("eth7", ["eth1", "eth0"]), "no interface 'eth7'; there are: eth0, "),
        (OSError(28, "No space left on device"), "nothing was done: it could not be recorded: No "),
        (KernelError("no answer from the kernel in 5 s"), "no answer from the kernel in 5 s"),
    ],
)
async def test_what_could_not_be_done(
    service: Service,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    trouble: Exception,
    said: str,
) -> None:
    service.answer = trouble
    assert await release(tmp_path) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"nicwatchd: {said}")
    assert complaint.count("\n") == 1
