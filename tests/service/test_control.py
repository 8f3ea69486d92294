"""The control socket against malicious and broken clients."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
from collections.abc import AsyncIterator, Callable, Iterable
from ipaddress import ip_address
from pathlib import Path

import pytest

from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import IPAddress
from nicwatchd.service import control as module
from nicwatchd.service import handlers
from nicwatchd.service.connections import CONTROL, READ_ONLY
from nicwatchd.service.control import Control
from nicwatchd.service.counts import Counts
from nicwatchd.service.main import CannotRunError, _with_control
from nicwatchd.service.released import Released
from nicwatchd.service.status import HostStatus, ImdsStatus, InterfaceStatus
from nicwatchd.service.telling import Observer, Stopped, Told
from tests.service.conftest import eventually

EVENTS = b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n"
KEPT = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
ETH1 = InterfaceStatus(
    name="eth1", index=3, mac="02:00:00:00:00:02", state=State.APPLIED, since=0, seen=0, table=7
)


class Well:
    """A service with a minimal status."""

    def status(self) -> HostStatus:
        return HostStatus(version="1", pid=1, started=0.0, imds=ImdsStatus(state="ok"))

    def __init__(self) -> None:
        self.listeners: list[Observer] = []
        self.adopted: list[IPAddress] = []

    def counts(self) -> Counts:
        return Counts()

    async def reconcile(
        self, interface: str | None = None, adopt: Iterable[IPAddress] = ()
    ) -> None:
        del interface
        self.adopted += adopt

    async def release(self, interface: str | None = None) -> Released:
        del interface
        return Released()

    def subscribe(self, listener: Observer) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    control = Control(Well(), tmp_path / "nicwatchd.sock")
    await control.start()
    yield control
    await control.close()


async def say(control: Control, request: bytes, path: Path | None = None) -> bytes:
    """Everything that the server sends until the connection ends."""
    reader, writer = await asyncio.open_unix_connection(path or control.path)
    try:
        writer.write(request)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def post(control: Control, path: str, headers: str = "") -> bytes:
    """A POST with the key."""
    key = control.key.path.read_text()
    return f"POST {path} HTTP/1.0\r\nNicwatchd-Key: {key}\r\n{headers}\r\n".encode()


async def test_connections_are_bounded_and_come_back(control: Control) -> None:
    idle = [await asyncio.open_unix_connection(control.path) for _ in range(CONTROL.connections)]
    assert await say(control, HEALTHZ) == b""
    for _, writer in idle:
        writer.close()
        await writer.wait_closed()

    async def answers() -> bool:  # once the server has noticed
        return (await say(control, HEALTHZ)).startswith(b"HTTP/1.1 200 ")

    await eventually(answers)


async def test_connections_that_ended_leave_nothing_behind(control: Control) -> None:
    for _ in range(3 * CONTROL.connections):
        await say(control, HEALTHZ)
    assert len(control.sockets[0].timers._running) <= 2 * CONTROL.connections


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\r\n\r\n", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n"]
)
async def test_what_is_no_http_is_refused_and_no_news(
    control: Control, caplog: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    with caplog.at_level(logging.INFO):
        assert b" 400 Bad Request" in await say(control, garbage)
    assert not caplog.records


async def test_a_socket_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    async def serve() -> None:
        raise AssertionError

    long = tmp_path / ("x" * 108)
    with pytest.raises(CannotRunError, match="xxx: AF_UNIX path too long"):
        await _with_control(Control(Well(), long), serve)


@pytest.mark.parametrize("request_", [b"", b"GET /healthz HTTP/1.1\r\nHo", KEPT])
async def test_who_does_not_ask_is_hung_up_on(tmp_path: Path, request_: bytes) -> None:
    control = Control(Well(), tmp_path / "nicwatchd.sock", idle=0.05)
    await control.start()
    try:
        answer = await say(control, request_)  # which ends with the connection
        assert (b"200 OK" in answer) == request_.endswith(b"\r\n\r\n")
    finally:
        await control.close()


async def test_a_stream_of_events_lasts_though_it_is_silent(tmp_path: Path) -> None:
    service = Well()
    control = Control(service, tmp_path / "nicwatchd.sock", idle=0.05)
    await control.start()
    reader, writer = await asyncio.open_unix_connection(control.path)
    try:
        writer.write(EVENTS)
        await reader.readuntil(b"\r\n\r\n")
        await say(control, b"")  # as long as others are borne with
        await say(control, b"")
        service.listeners[0](Told(Stopped(), ETH1))
        assert b'"name":"eth1"' in await reader.readuntil(b"}\n")
    finally:
        writer.close()
        await control.close()


async def test_who_does_not_take_the_events_is_hung_up_on(tmp_path: Path) -> None:
    service = Well()
    control = Control(service, tmp_path / "nicwatchd.sock", idle=0.05)
    await control.start()
    reader, writer = await asyncio.open_unix_connection(control.path)
    try:
        writer.write(EVENTS)
        await reader.readuntil(b"\r\n\r\n")
        long = ETH1.model_copy(update={"name": "x" * 1_000_000})
        service.listeners[0](Told(Stopped(), long))  # more than the socket and the reader take
        await eventually(lambda: not service.listeners)
    finally:
        writer.close()
        await control.close()


async def test_streams_of_events_are_bounded(control: Control) -> None:
    streams = [await asyncio.open_unix_connection(control.path) for _ in range(CONTROL.streams)]
    for reader, writer in streams:
        writer.write(EVENTS)
        assert b" 200 OK" in await reader.readuntil(b"\r\n\r\n")
    last = EVENTS.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert b"too many event streams" in await say(control, last)
    assert await say(control, HEALTHZ)
    for _, writer in streams:
        writer.close()

    async def answers() -> bool:  # once the server has noticed
        reader, writer = await asyncio.open_unix_connection(control.path)
        writer.write(last)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        return b" 200 OK" in head

    await eventually(answers)


async def test_reconcile_adopts_addresses(tmp_path: Path) -> None:
    service = Well()
    control = Control(service, tmp_path / "nicwatchd.sock")
    await control.start()
    path = "/v1/reconcile?interface=eth1&adopt=%s&adopt=2001:db8::1"
    assert b" 200 OK" in await say(control, post(control, path % "10.0.2.12"))
    assert service.adopted == [ip_address("10.0.2.12"), ip_address("2001:db8::1")]
    assert b" 400 Bad Request" in await say(control, post(control, path % "10.0.2"))
    await control.close()


class Rounds(Well):
    """Counts the rounds of the loop, and notes in which of them it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.round = 0
        self.asked: list[int] = []

    def status(self) -> HostStatus:
        self.asked.append(self.round)
        return super().status()

    async def count(self) -> None:
        while True:
            self.round += 1
            await asyncio.sleep(0)


async def test_between_two_answers_to_anyone_the_loop_does_its_own_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "is_privileged", lambda _: False)
    service = Rounds()
    control = Control(service, tmp_path / "nicwatchd.sock")
    await control.start()
    counting = asyncio.create_task(service.count())
    try:
        connections = [await asyncio.open_unix_connection(control.path) for _ in range(50)]
        for _, writer in connections:
            writer.write(HEALTHZ)
        answers = await asyncio.gather(*(reader.read() for reader, _ in connections))
        assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
        assert len(service.asked) == len(set(service.asked)) == 50
    finally:
        for _, writer in connections:
            writer.close()
        counting.cancel()
        await control.close()


# --- the read-only socket ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/v1/release", "/v1/reconcile", "/v1/status", "/", "/nothing"])
async def test_nobody_may_write_by_the_read_only_socket(
    control: Control, method: str, path: str
) -> None:
    request = f"{method} {path} HTTP/1.0\r\n\r\n".encode()
    answer = await say(control, request, control.read_only_path)  # by the daemon's own user
    assert answer.startswith(b"HTTP/1.0 403 ")
    assert b"this socket is read-only" in answer


@pytest.mark.parametrize("path", ["/v1/release", "/v1/reconcile"])
async def test_by_the_other_one_the_same_user_may(control: Control, path: str) -> None:
    assert b" 200 OK" in await say(control, post(control, path))


async def test_the_read_only_socket_answers_what_the_other_answers(control: Control) -> None:
    for path in ("/v1/status", "/v1/interfaces", "/healthz", "/readyz", "/v1/openapi.json"):
        request = f"GET {path} HTTP/1.0\r\n\r\n".encode()
        answer = (await say(control, request)).partition(b"\r\n\r\n")[2]
        other = (await say(control, request, control.read_only_path)).partition(b"\r\n\r\n")[2]
        assert answer == other != b""


async def test_anyone_may_connect_to_both(control: Control) -> None:
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (control.path, control.read_only_path)]
    assert modes == [0o666, 0o666]


async def test_the_read_only_socket_is_bounded_for_all(control: Control) -> None:
    path = control.read_only_path
    open_ = [await asyncio.open_unix_connection(path) for _ in range(READ_ONLY.connections)]
    assert await say(control, HEALTHZ, path) == b""
    assert await say(control, HEALTHZ)  # the other one is not full
    for _, writer in open_:
        writer.close()


async def asks(path: Path, request: bytes) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    return writer


@pytest.mark.parametrize("attempt", range(8))  # it depends on which step of an answer it ends in
async def test_hundreds_that_wait_for_an_answer_are_ended_without_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, attempt: int
) -> None:
    """They are answered one after the other, and the patience ends in the midst of them."""
    monkeypatch.setattr(module, "SHUTDOWN_TIMEOUT", 0.002 + 0.0003 * attempt)
    service = Well()
    control = Control(service, tmp_path / "nicwatchd.sock")
    await control.start()
    handlers = control.sockets[1]._handlers
    streams = [await asks(control.read_only_path, EVENTS) for _ in range(READ_ONLY.streams)]
    await handlers._turnstile.acquire()
    waiting = READ_ONLY.connections - len(streams)
    many = [await asks(control.read_only_path, KEPT) for _ in range(waiting)]

    async def all_wait() -> bool:
        return len(handlers.underway) == READ_ONLY.connections

    await eventually(all_wait)
    handlers._turnstile.release()
    await control.close()
    assert not caplog.records
    assert (len(handlers.underway), service.listeners) == (0, [])
    for writer in (*streams, *many):
        writer.close()


async def test_who_asks_while_it_stops_is_refused(control: Control) -> None:
    await control.sockets[0]._handlers.underway.end(1.0)
    answer = await say(control, KEPT)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Connection: close" in answer
    assert b"nicwatchd is stopping" in answer


async def test_both_sockets_go_with_the_daemon(tmp_path: Path) -> None:
    control = Control(Well(), tmp_path / "nicwatchd.sock")
    for path in (control.path, control.read_only_path):
        path.touch()  # a daemon that died left it
    await control.start()
    assert b" 200 OK" in await say(control, HEALTHZ, control.read_only_path)
    await control.close()
    assert not [path for path in (control.path, control.read_only_path) if path.exists()]


# --- what is asked wrongly -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status", "text"),
    [
        ("GET /nothing", 404, "GET / says what there is"),
        ("GET /v1/interfaces/eth9", 404, "no interface 'eth9'; there are: none"),
        ("GET /readyz?interface=", 404, "no interface ''"),
        ("GET /readyz?interface=10.0.9.9", 404, "no interface '10.0.9.9'"),
        ("GET /readyz?family=ipv5", 400, "family is ipv4 or ipv6, not 'ipv5'"),
        ("GET /readyz?family=", 400, "family is ipv4 or ipv6"),
        ("GET /metrics?process=2", 400, "process is 0 or 1"),
        ("DELETE /v1/status", 405, "not allowed here: DELETE"),
        ("GET /v1/release", 405, "not allowed here: GET"),
    ],
)
async def test_errors_are_json(control: Control, request_: str, status: int, text: str) -> None:
    answer = await say(control, f"{request_} HTTP/1.0\r\n\r\n".encode())
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.0 {status} ")
    assert text in json.loads(body)["error"]


async def test_the_root_says_what_there_is(control: Control) -> None:
    for path, read_only in ((control.path, False), (control.read_only_path, True)):
        answer = await say(control, b"GET / HTTP/1.0\r\n\r\n", path)
        index = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert index["read_only"] is read_only
        named = {(each["method"], each["path"]) for each in index["requests"]}
        assert ("GET", "/v1/openapi.json") in named
        assert (("POST", "/v1/release") in named) is not read_only
        for method, path_ in named:
            if method == "GET" and "{" not in path_ and path_ != "/v1/events":
                asked = f"GET {path_} HTTP/1.0\r\n\r\n".encode()
                assert b" 200 OK" in await say(control, asked, path)
