"""`nicwatchd watch`: what it prints of events, and how it begins and ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nicwatchd.cli.watch import CAUSES, lines, matches, what_happened
from nicwatchd.service.event_stream import TYPES
from tests.scenarios.commands import AS_NOBODY

WITHIN = 30.0  # s; ends what hangs
NICWATCHD = (sys.executable, "-m", "nicwatchd.cli.main")
MAC = "06:aa:bb:cc:dd:03"
NO_V6 = {"code": "no-ipv6s", "text": 'IMDS lists no "ipv6s"', "remedy": ""}
UNLISTED = {"code": "mac-unlisted", "text": "IMDS does not list the MAC", "remedy": ""}
V4: dict[str, Any] = {"health": "working", "waits": False, "causes": [], "addresses": ["10.0.3.12"]}
V6: dict[str, Any] = {**V4, "addresses": ["2001:db8:3::12"]}
V6_WAITS: dict[str, Any] = {"health": "not-working", "waits": True, "causes": [NO_V6]}
SILENT: dict[str, Any] = {"health": "not-working", "causes": [{"code": "x", "text": "rule 100"}]}

PARTLY: dict[str, Any] = {**SILENT, "health": "degraded"}


def event(state: str = "applied", **more: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": "ens7", "mac": MAC, "eni": None, "state": state, "reasons": []}
    return {**plain, "ipv4": None, "ipv6": None, "health": None, **more}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (event("detected"), ("attached", MAC)),
        (event("detected", eni="eni-1"), ("attached", "eni-1")),
        (event("detected", previous="ignored"), ("managed", MAC)),
        (
            event("awaiting-imds", reasons=[UNLISTED]),
            ("waiting", "IMDS does not list the MAC"),
        ),
        (
            event("awaiting-imds", health="not-working", waits=True, ipv4=V4, ipv6=V6_WAITS),
            ("working", 'IPv4 10.0.3.12; IPv6 waits: IMDS lists no "ipv6s"'),
        ),
        (
            event("awaiting-imds", health="not-working", waits=True, ipv6=V6_WAITS),
            ("waiting", 'IPv6 waits: IMDS lists no "ipv6s"'),
        ),
        (
            event("awaiting-imds", health="not-working", waits=True, ipv4=V6_WAITS, ipv6=V6_WAITS),
            ("waiting", 'IPv4 and IPv6 wait: IMDS lists no "ipv6s"'),
        ),
        (
            event(health="working", ipv4=V4, ipv6=V6),
            ("working", "IPv4 10.0.3.12; IPv6 2001:db8:3::12"),
        ),
        (
            event(health="working", ipv4={**V4, "addresses": ["a", "b", "c", "d"]}),
            ("working", "IPv4 a, b +2"),
        ),
        (
            event(health="not-working", ipv4=SILENT, ipv6=V6),
            ("NOT WORKING", "IPv4 not working: rule 100; IPv6 2001:db8:3::12"),
        ),
        (event(health="degraded", ipv4=PARTLY), ("degraded", "IPv4 degraded: rule 100")),
        (event("ignored", reasons=[UNLISTED]), ("left alone", "IMDS does not list the MAC")),
        (event("ignored", primary=True, health="working", ipv4=V4), ("primary", "IPv4 10.0.3.12")),
        (event("gone"), ("detached", "")),
        (
            event(fought_over=True, fight={"code": "fought-over", "text": "rule 7"}),
            ("fought over", "rule 7"),
        ),
        # With the type of the event and its cause:
        (
            event(type="lost", cause={"code": "lost", "text": "8 rules"}, health="working"),
            ("lost", "8 rules"),
        ),
        (
            event(type="changed", changed="+9 routes, -1 rule", cause=UNLISTED),
            ("changed", "+9 routes, -1 rule; IMDS does not list the MAC"),
        ),
        (event(type="link", cause="the link is down"), ("link", "the link is down")),
        (event(type="family-given-up", cause=NO_V6), ("given up", 'IMDS lists no "ipv6s"')),
        (
            event(type="transition", cause=UNLISTED, health="working", ipv4=V4),
            ("working", "IPv4 10.0.3.12"),
        ),
        (event(type="present", health="working", ipv4=V4), ("working", "IPv4 10.0.3.12")),
        # Of a daemon of the version before:
        (
            {"name": "a", "state": "applied", "ipv4": {"addresses": ["10.0.0.9"]}},
            ("configured", "IPv4 10.0.0.9"),
        ),
        ({}, ("?", "")),
    ],
)
def test_what_is_said_of_an_event(told: dict[str, Any], expected: tuple[str, str]) -> None:
    assert what_happened(told) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("ens7", True),
        (MAC, True),
        ("eni-1", True),
        ("10.0.3.12", True),
        ("2001:DB8:3:0::12".lower(), True),
        ("10.0.3.1", False),
        ("none", False),
        ("eth0", False),
    ],
)
def test_an_interface_by_any_name_and_address(wanted: str, *, expected: bool) -> None:
    assert matches(event(eni="eni-1", ipv4=V4, ipv6=V6), wanted) is expected


def test_lines_fit_into_80_columns_and_are_aligned() -> None:
    text = "a word " * 40
    for name in (None, "ens7", "a-name-of-15-by"):
        found = list(lines(12345.678, name, "NOT WORKING", text))
        assert all(len(line) <= 80 for line in found)
        assert len(found) > 3
        indents = {len(line) - len(line.lstrip()) for line in found[1:]}
        assert indents == {found[0].index("a word")}
    assert list(lines(0.07, None, "waiting", "x")) == ["+0.07 s   waiting     x"]


# --- a stream --------------------------------------------------------------------------------

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK_HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"


class Daemon:
    """A daemon as far as `watch` sees it: it lists interfaces, and tells events when told to."""

    def __init__(self, *there: dict[str, Any], answer: bytes = OK_HEAD) -> None:
        self.there = there
        self.answer = answer
        self.streams: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readline()
        if b"/v1/events" in request:
            writer.write(self.answer)
            await self.streams.put(writer)
            return
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(self.there).encode())
        writer.close()

    @asynccontextmanager
    async def runs(self, directory: Path) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self.serve, directory / "nicwatchd.sock")
        try:
            yield
        finally:
            server.close()


def tell(stream: asyncio.StreamWriter, *events: dict[str, Any]) -> None:
    for each in events:
        stream.write(json.dumps(each).encode() + b"\n")


async def watching(directory: Path, *words: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    where = ("--runtime-directory", str(directory))
    return await asyncio.create_subprocess_exec(
        *NICWATCHD, "watch", *words, *where, stdout=pipe, stderr=pipe
    )


async def line_of(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    async with asyncio.timeout(WITHIN):
        return (await stream.readline()).decode().rstrip("\n")


async def ends(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    async with asyncio.timeout(WITHIN):
        out, complaint = await process.communicate()
    return await process.wait(), out.decode(), complaint.decode()


async def test_events_are_told_as_they_come_and_what_repeats_is_not(tmp_path: Path) -> None:
    daemon = Daemon()
    async with daemon.runs(tmp_path):
        process = await watching(tmp_path)
        stream = await daemon.streams.get()
        tell(stream, event("detected"))
        first = await line_of(process.stdout)
        assert first == f"+0.00 s   ens7     attached    {MAC}"
        works = event(health="working", ipv4=V4)
        tell(stream, works, works, event("gone"))
        assert (await line_of(process.stdout)).endswith(" ens7     working     IPv4 10.0.3.12")
        assert (await line_of(process.stdout)).endswith(" ens7     detached")
        stream.close()
        assert await ends(process) == (4, "", "nicwatchd: the daemon has ended\n")


async def test_ctrl_c_ends_it_well(tmp_path: Path) -> None:
    daemon = Daemon(event())
    async with daemon.runs(tmp_path):
        process = await watching(tmp_path, "10.0.3.12")
        stream = await daemon.streams.get()
        tell(stream, event(name="ens8", mac="x"), event(ipv4=V4))
        assert "ens8" not in await line_of(process.stdout)
        process.send_signal(signal.SIGINT)
        code, out, _ = await ends(process)
        assert (code, out) == (0, "")
        stream.close()


async def test_it_ends_when_nobody_reads_any_more(tmp_path: Path) -> None:
    daemon = Daemon()
    async with daemon.runs(tmp_path):
        read, write = os.pipe()
        where = ("--runtime-directory", str(tmp_path))
        process = await asyncio.create_subprocess_exec(*NICWATCHD, "watch", *where, stdout=write)
        os.close(write)
        stream = await daemon.streams.get()
        os.close(read)  # no event comes that would show it
        async with asyncio.timeout(WITHIN):
            assert await process.wait() == 0
        stream.close()


async def test_it_waits_for_the_daemon_and_for_the_interface(tmp_path: Path) -> None:
    process = await watching(tmp_path, "ens7", "--json")
    assert "the daemon is not running" in await line_of(process.stderr)
    daemon = Daemon(event(name="ens5", mac="y"))
    async with daemon.runs(tmp_path):
        stream = await daemon.streams.get()
        assert await line_of(process.stderr) == "nicwatchd: there is no 'ens7' yet; waiting for it"
        tell(stream, event(name="ens5", mac="y"), event("detected", more={"a": [1]}))
        assert json.loads(await line_of(process.stdout)) == event("detected", more={"a": [1]})
        # The same interface is followed when it is renamed.
        tell(stream, event("gone", name="eth7"))
        assert json.loads(await line_of(process.stdout))["state"] == "gone"
        stream.write(b"{ no JSON\n[]\n")
        stream.close()
        assert (await ends(process))[0] == 4


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"hello\r\n\r\n", "the daemon's answer is not HTTP"),
        (b"", "the daemon's answer is not HTTP"),
        (
            b'HTTP/1.0 503 Service Unavailable\r\n\r\n{"error": "too many event streams"}\n',
            "too many event streams",
        ),
        (b"HTTP/1.0 500 Oops\r\n\r\n", "the daemon answers 500"),
    ],
)
async def test_a_refusal_is_said(tmp_path: Path, answer: bytes, complaint: str) -> None:
    daemon = Daemon(answer=answer)
    async with daemon.runs(tmp_path):
        process = await watching(tmp_path)
        (await daemon.streams.get()).close()
        assert await ends(process) == (4, "", f"nicwatchd: {complaint}\n")


async def test_a_socket_of_another_user_is_no_right(tmp_path: Path) -> None:
    daemon = Daemon()
    async with daemon.runs(tmp_path):
        (tmp_path / "nicwatchd.sock").chmod(0)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(*AS_NOBODY, *NICWATCHD, "watch"),
            *("--runtime-directory", str(tmp_path)),
            stdout=pipe,
            stderr=pipe,
        )
        code, _, complaint = await ends(process)
        assert (code, "permission denied" in complaint) == (5, True), complaint


def test_each_type_of_event_with_a_cause_of_its_own_has_a_word() -> None:
    by_their_status = {"transition", "health"}
    assert set(TYPES.values()) - by_their_status == set(CAUSES)
