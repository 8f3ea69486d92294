"""`nicwatchd wait`: what it says, when it ends, and how."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nicwatchd.cli.main import main
from nicwatchd.cli.wait import standing
from nicwatchd.core.evidence import Status
from nicwatchd.core.health import Health
from nicwatchd.core.lifecycle import State
from nicwatchd.service.control import SOCKET_NAME, Control
from nicwatchd.service.status import FamilyStatus, HostStatus, InterfaceStatus, UnlinkedStatus
from tests.cli.statuses import (
    NO_IPV6S,
    NOW,
    Canned,
    alone,
    broken,
    degraded,
    eni,
    family,
    host,
    waiting,
    without_health,
)
from tests.scenarios.commands import NICWATCHD

ENI1 = "eni-0a1b2c3d4e5f60702"
ABSENT = FamilyStatus(verdict=Status.ABSENT)
ONLY_V4 = eni(1, ipv6=ABSENT)
NEW = eni(1, health=None, state=State.DETECTED, ipv4=None, ipv6=None)
PREFIXED = eni(1, ipv4=family(["10.0.2.10"], prefixes=["10.0.9.64/28"]))
UNLINKED = UnlinkedStatus(mac="02:00:00:00:00:02", eni=ENI1, since=NOW)
ATTACHED = "0.5 s after it was seen"


@pytest.mark.parametrize(
    ("status", "target", "wanted", "works", "text"),
    [
        (host(eni(0), eni(1)), "eth1", "all", True, f"IPv4 10.0.2.10 works, {ATTACHED}"),
        (host(eni(0), eni(1)), ENI1, "ipv4", True, f"eth1, IPv4 10.0.2.10 works, {ATTACHED}"),
        (host(eni(0), eni(1)), ENI1.upper(), "any", True, "eth1, IPv4 10.0.2.10 works"),
        (host(eni(0), eni(1)), "02:00:00:00:00:02", "ipv6", True, "eth1, IPv6 2001:db8:ec2:2::10"),
        (host(eni(0), waiting(1)), "eth1", "ipv4", True, f"IPv4 10.0.2.10 works, {ATTACHED}"),
        (host(eni(0), waiting(1)), "eth1", "any", True, f"IPv4 10.0.2.10 works, {ATTACHED}"),
        (host(eni(0), waiting(1)), "eth1", "all", False, "IPv6 waits: IMDS lists no ipv6s yet"),
        (host(eni(0), waiting(1)), "eth1", "ipv6", False, "IPv6 waits: IMDS lists no ipv6s yet"),
        (host(eni(0), broken(1)), "eth1", "ipv4", False, "IPv4 does not work: packets from"),
        (host(eni(0), ONLY_V4), "eth1", "all", True, f"IPv4 10.0.2.10 works, {ATTACHED}"),
        (host(eni(0), ONLY_V4), "eth1", "ipv6", False, "IPv6 waits"),
        (host(eni(0), NEW), "eth1", "any", False, "waits: nothing is known of it yet"),
        (host(eni(0), alone(1)), "eth1", "all", False, "left alone: excluded by the settings"),
        (host(eni(0)), "eth1", "all", False, "not attached yet"),
        (host(eni(0), unlinked=[UNLINKED]), ENI1, "all", False, "has no link of it yet"),
        (host(idle="no EC2"), "eth1", "all", False, "nicwatchd is idle: no EC2"),
        (host(eni(0), eni(1)), "10.0.2.10", "all", True, f"eth1, IPv4 works, {ATTACHED}"),
        (host(eni(0), eni(1)), "2001:DB8:ec2:2:0::10", "all", True, "eth1, IPv6 works"),
        (host(eni(0), degraded(1)), "10.0.2.10", "all", True, "IPv4 works"),
        (host(eni(0), degraded(1)), "10.0.2.11", "all", False, "IMDS lists 10.0.2.11 here, but"),
        (host(eni(0), eni(1)), "10.0.7.7", "all", False, "no interface has this address yet"),
        (host(eni(0), PREFIXED), "10.0.9.70", "all", True, "IPv4 prefix 10.0.9.64/28 works"),
    ],
)
def test_whether_a_target_works(
    status: HostStatus, target: str, wanted: str, works: bool, text: str
) -> None:
    found, said = standing(status.model_dump(mode="json"), target, wanted)
    assert found is works, said
    assert text in said


@pytest.mark.parametrize(
    ("interface", "target", "works"),
    [
        (eni(1), "eth1", True),
        (eni(1), "10.0.2.10", True),
        (waiting(1), "eth1", False),
        (waiting(1), "10.0.2.10", False),
    ],
)
def test_an_older_daemon(interface: InterfaceStatus, target: str, works: bool) -> None:
    document = without_health(host(interface).model_dump(mode="json"))
    assert standing(document, target, "all")[0] is works


class Waits:
    """The command as a process of its own, whose lines can be awaited."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode().strip()

    async def until(self, text: str) -> list[str]:
        """The lines up to the one with this text."""
        lines = [await self.line()]
        while text not in lines[-1]:
            assert lines[-1], f"it ended; said: {lines}"
            lines.append(await self.line())
        return lines

    async def end(self) -> tuple[int, list[str]]:
        """The exit code, and what it complains of."""
        _, complaint = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, complaint.decode().splitlines()


@asynccontextmanager
async def waits(directory: Path, *words: str) -> AsyncIterator[Waits]:
    pipe = asyncio.subprocess.PIPE
    command = (*NICWATCHD, "wait", *words, "--runtime-directory", str(directory))
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        yield Waits(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_one_line_for_each_change(service: Canned, tmp_path: Path) -> None:
    service.said = host(eni(0))
    async with waits(tmp_path, ENI1, "10.0.2.10", "--timeout", "60") as command:
        assert await command.line() == f"{ENI1}: not attached yet"
        assert await command.line() == "10.0.2.10: no interface has this address yet"
        service.change(host(eni(0), NEW))
        assert await command.line() == f"{ENI1}: eth1, waits: nothing is known of it yet"
        service.change(host(eni(0), waiting(1)))
        said = [await command.line() for _ in range(2)]
        assert said == [
            f"{ENI1}: eth1, IPv4 10.0.2.10 works, {ATTACHED}; IPv6 waits: IMDS lists no ipv6s yet",
            f"10.0.2.10: eth1, IPv4 works, {ATTACHED}",
        ]
        service.change(host(eni(0), waiting(1)))  # no news
        service.change(host(eni(0), eni(1)))
        assert (await command.line()).startswith(f"{ENI1}: eth1, IPv4 10.0.2.10 works, ")
        assert await command.end() == (0, [])


async def test_what_worked_once_is_not_waited_for_again(service: Canned, tmp_path: Path) -> None:
    service.said = host(eni(0), eni(1), waiting(2))
    async with waits(tmp_path, "eth1", "eth2", "--timeout", "60") as command:
        await command.until("eth2: ")
        service.change(host(eni(0), broken(1), eni(2)))
        await command.until("eth2: IPv4")
        assert await command.end() == (0, [])


async def test_before_the_daemon_runs(tmp_path: Path) -> None:
    canned = Canned(host(eni(0), eni(1)))
    async with waits(tmp_path, "eth1", "--timeout", "60") as command:
        first = "eth1: the daemon does not run yet, or does not answer"
        assert await command.line() == first
        for status in (host(eni(0)), host(eni(0), eni(1))):  # it is restarted meanwhile
            canned.said = status
            control = Control(canned, tmp_path / SOCKET_NAME)
            await control.start()
            await command.until("eth1: IPv4" if status.interfaces[1:] else "not attached")
            await control.close()
        assert await command.end() == (0, [])


@pytest.mark.parametrize(
    ("words", "complaints"),
    [
        (("eth1",), ["eth1: IPv4 does not work: packets from 10.0.2.10 leave by eth0"]),
        (("eth7", "eth0"), ["eth7: not attached yet"]),
    ],
)
async def test_the_time_is_over(
    service: Canned, tmp_path: Path, words: tuple[str, ...], complaints: list[str]
) -> None:
    service.said = host(eni(0), broken(1))
    async with waits(tmp_path, *words, "--for", "ipv4", "--timeout", "0.2") as command:
        code, said = await command.end()
    assert code == 1
    for line, complaint in zip(said, complaints, strict=True):
        assert line.startswith(f"nicwatchd: timed out after 0.2 s: {complaint}")


async def test_no_daemon_until_the_time_is_over(tmp_path: Path) -> None:
    async with waits(tmp_path, "eth1", "--timeout", "0.2") as command:
        code, said = await command.end()
    assert code == 4
    assert said[-1] == (
        "nicwatchd: the daemon does not run, or hangs: sudo systemctl restart nicwatchd"
    )


async def test_a_time_of_zero_looks_once(service: Canned, tmp_path: Path) -> None:
    assert service.said.interfaces
    async with waits(tmp_path, "eth1", "--timeout", "0") as command:
        assert (await command.end())[0] == 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("", "eth1"), "a target is empty: name, MAC, ENI id or address"),
        (("eth1", "--timeout", "-1"), "--timeout: -1.0 is not a number of seconds"),
        (("eth1", "--timeout", "nan"), "--timeout: nan is not a number of seconds"),
        (
            ("10.0.2.10", "--for", "ipv6"),
            "10.0.2.10 is no IPv6 address, so it never works for that",
        ),
    ],
)
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], complaint: str
) -> None:
    assert main(["wait", *words]) == 2
    assert capsys.readouterr().err == f"nicwatchd: {complaint}\n"


@pytest.mark.parametrize("words", [(), ("eth1", "--for", "ipv5"), ("eth1", "--timeout", "x")])
def test_what_the_parser_refuses(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["wait", *words])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("instance", "name"),
    [
        (r"eth1\x2d0", "eth1-0"),
        (ENI1, "eth1"),
        ("2001:db8:ec2:2::10", "eth1"),
        (r"a\x5cb\x40", r"a\b@"),
    ],
)
async def test_the_instance_of_a_unit(
    service: Canned, tmp_path: Path, instance: str, name: str
) -> None:
    service.said = host(eni(0), eni(1, name=name))
    words = ["wait", "--escaped", instance, "--timeout", "0"]
    code = await asyncio.to_thread(main, [*words, "--runtime-directory", str(tmp_path)])
    assert code == 0


def test_these_tables_are_of_what_they_say() -> None:
    told: list[tuple[Callable[[int], InterfaceStatus], Any]] = [
        (eni, Health.WORKING),
        (waiting, Health.NOT_WORKING),
        (broken, Health.NOT_WORKING),
        (degraded, Health.DEGRADED),
        (alone, None),
    ]
    assert [make(1).health for make, _ in told] == [health for _, health in told]
    assert NO_IPV6S in waiting(1).reasons
