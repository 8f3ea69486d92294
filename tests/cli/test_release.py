"""The output and the exit code of `nicwatchd release`, carried out by a daemon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from nicwatchd.cli import release as release_command
from nicwatchd.cli.main import main
from nicwatchd.core.decision import Decision
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import (
    Family,
    Link,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
)
from nicwatchd.core.ownership import Snapshot
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import KernelError
from nicwatchd.core.releases import Releases
from nicwatchd.service.control import SOCKET_NAME, Control
from nicwatchd.service.platform import Lock
from nicwatchd.service.released import Released
from nicwatchd.service.requests import UnknownInterfaceError
from tests.service.test_control import Well

RULE = RemoveRule(Rule(Family.V4, 32765, 1_000_959, oif="eth1"))
RULE_V6 = RemoveRule(Rule(Family.V6, 32765, 1_000_959, oif="eth1"))
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
    named = [word for word in words if not word.startswith("-")]
    whole = [] if named else ["--all"]
    command = ["release", "--runtime-directory", str(directory), *whole, *words]
    return await asyncio.to_thread(main, command)


async def test_what_went(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answer = Released(DONE)
    assert await release(tmp_path) == 0
    assert capsys.readouterr().out == "released: 1 rule, 1 address, 1 link group\n"
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
    ("trouble", "said", "code"),
    [
        (UnknownInterfaceError("eth7", ["eth1", "eth0"]), "no interface 'eth7'; there are: ", 3),
        (OSError(28, "No space left on device"), "nothing was done: it could not be recorded", 1),
        (KernelError("no answer from the kernel in 5 s"), "no answer from the kernel in 5 s", 1),
    ],
)
async def test_what_could_not_be_done(
    service: Service,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    trouble: Exception,
    said: str,
    code: int,
) -> None:
    service.answer = trouble
    assert await release(tmp_path) == code
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"nicwatchd: {said}")
    assert complaint.count("\n") == 1


# --- before anything goes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "the whole host, and there is no terminal to ask on: name an interface, or say --all"),
        (("--json",), "there is no terminal to ask on"),
        (("",), "the interface is an empty text (an unset shell variable?)"),
        (("", "--all"), "the interface is an empty text"),
        (("", "--dry-run"), "the interface is an empty text"),
        (("eth1", "--all"), "either one interface or --all, not both"),
    ],
)
async def test_wrong_words_release_nothing(
    service: Service,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    command = ["release", "--runtime-directory", str(tmp_path), *words]
    assert await asyncio.to_thread(main, command) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1
    assert service.asked == []


def planned(*operations: Operation) -> dict[str, Any]:
    names = {i: Link(i, f"02:00:00:00:00:0{i}", f"eth{i - 2}", up=True) for i in (2, 3, 4)}
    return release_command._planned(
        Decision(
            revision=1,
            at=0.0,
            policy=Policy(),
            releases=Releases(),
            primary_mac=Value(names[2].mac),
            container_network=None,
            kernel=Snapshot(names),
            interfaces={},
            operations=operations,
            throttled=(),
            protected=(),
        )
    )


ROUTE = Route(ip_network("10.0.2.0/24"), 1_000_959, 3)


@pytest.mark.parametrize(
    ("operations", "interfaces", "counted"),
    [
        ((), [], ""),
        ((SetGroup(2, 0),), ["eth0"], "1 link group"),
        (
            (RULE, SetGroup(2, 0), SetGroup(3, 0), RemoveRoute(ROUTE)),
            ["eth1"],
            "1 rule, 1 route and 2 link groups",
        ),
        (
            (RULE, RULE_V6, RemoveRoute(ROUTE), RemoveAddress(4, ip_address("10.0.3.12"), 32)),
            ["eth1", "eth2"],
            "2 rules, 1 route and 1 address",
        ),
    ],
)
def test_what_would_go(
    operations: tuple[Operation, ...], interfaces: list[str], counted: str
) -> None:
    document = planned(*operations)
    assert document["interfaces"] == interfaces
    assert release_command._counted(document["would_release"]) == counted
    assert len(document["commands"]) == len(operations)
