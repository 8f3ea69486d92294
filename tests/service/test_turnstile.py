"""Clients without privileges come after the daemon's own work, and cost a bounded amount."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from nicwatchd.service import connections, handlers
from nicwatchd.service.control import Control
from nicwatchd.service.status import HostStatus
from nicwatchd.service.turnstile import DEBT, LONG, READS, SHARE, Turnstile
from nicwatchd.sim import fast_clock
from tests.service.conftest import eventually
from tests.service.test_control import ETH1, HEALTHZ, KEPT, Well, say

LARGE: Final = 4 << 20  # bytes; far more than a socket takes


class Working(Well):
    """A service whose turn is underway until a test ends it, and with a large status."""

    def __init__(self) -> None:
        super().__init__()
        self.is_busy = False
        self.asked = 0
        self.made = (
            super()
            .status()
            .model_copy(update={"interfaces": [ETH1.model_copy(update={"name": "x" * LARGE})]})
        )

    def status(self) -> HostStatus:
        self.asked += 1
        return self.made


@pytest.fixture
def service() -> Working:
    return Working()


@pytest.fixture
async def control(
    tmp_path: Path, service: Working, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Control]:
    """Its clients have no privileges."""
    for module in (handlers, connections):
        monkeypatch.setattr(module, "is_privileged", lambda _: False)
    path = tmp_path / "nicwatchd.sock"
    control = Control(service, path, is_busy=lambda: service.is_busy)
    await control.start()
    yield control
    await control.close()


def test_during_a_turn_nobody_is_served_unless_it_takes_too_long() -> None:
    async def served(busy: list[bool]) -> float:
        turnstile = Turnstile(lambda: busy[0])
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with turnstile:
            loop.call_later(0.1, busy.__setitem__, 0, busy[-1])
            await turnstile.step_back()
        return loop.time() - start

    assert fast_clock.run(served([False])) < 0.001
    assert 0.1 <= fast_clock.run(served([True, False])) < LONG
    assert LONG <= fast_clock.run(served([True])) < 2 * LONG


async def test_what_is_asked_during_a_turn_is_answered_after_it(
    control: Control, service: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nicwatchd.service.turnstile.LONG", float("inf"))
    service.is_busy = True
    asking = [asyncio.create_task(say(control, HEALTHZ)) for _ in range(3)]
    await eventually(control.turnstile.locked)
    assert service.asked == 0
    service.is_busy = False
    answers = await asyncio.gather(*asking)
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)


def test_what_they_use_of_the_processor_is_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    used = 0.0
    monkeypatch.setattr("nicwatchd.service.turnstile.time.thread_time", lambda: used)

    async def serve(seconds: float) -> float:
        """How long it takes when each answer costs a millisecond."""
        nonlocal used
        turnstile = Turnstile()
        loop = asyncio.get_running_loop()
        start = loop.time()
        for _ in range(round(seconds / 0.001)):
            async with turnstile:
                await turnstile.step_back()
                used += 0.001
        return loop.time() - start

    assert fast_clock.run(serve(0.01)) < 0.001  # a few that ask now and then do not wait
    assert 3.5 < fast_clock.run(serve(1.0)) < 4.1


def test_a_host_so_slow_that_each_look_costs_the_share_serves_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = 0.0

    def look() -> float:
        nonlocal used
        used += 0.5
        return used

    monkeypatch.setattr("nicwatchd.service.turnstile.time.thread_time", look)

    async def serve() -> float:
        turnstile = Turnstile()
        loop = asyncio.get_running_loop()
        start = loop.time()
        for _ in range(10):
            async with turnstile:
                await turnstile.step_back()
        heard: list[Heard] = []
        turnstile.hold(Heard(heard))
        await asyncio.sleep(2 * DEBT / SHARE)
        assert heard
        return loop.time() - start

    assert fast_clock.run(serve()) < 12 * DEBT / SHARE + 0.01


class Heard(asyncio.Transport):
    """A transport that tells when it may read on."""

    def __init__(self, heard: list[Heard]) -> None:
        super().__init__()
        self._heard = heard

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        self._heard.append(self)


async def test_a_few_read_on_in_each_round_of_the_loop_in_order() -> None:
    heard: list[Heard] = []
    turnstile = Turnstile()
    transports = [Heard(heard) for _ in range(3 * READS)]
    for each in transports:
        turnstile.hold(each)
    for number in range(1, 4):
        await asyncio.sleep(0)
        assert heard == transports[: number * READS]


async def test_who_sends_much_is_read_a_chunk_at_a_time(control: Control) -> None:
    answer = await say(control, KEPT * 1000 + HEALTHZ)
    assert answer.count(b"HTTP/1.1 200 OK") == 1001


async def test_one_body_is_made_however_many_ask(control: Control, service: Working) -> None:
    request = b"GET /v1/interfaces HTTP/1.0\r\n\r\n"
    first, second = await say(control, request), await say(control, request)
    bodies = control.sockets[0]._handlers._bodies
    made = bodies._made["interfaces"]
    assert first.partition(b"\r\n\r\n")[2] == second.partition(b"\r\n\r\n")[2] == made[1]
    service.made = service.made.model_copy(update={"interfaces": [ETH1]})
    [changed] = json.loads((await say(control, request)).partition(b"\r\n\r\n")[2])
    assert changed["name"] == "eth1"


async def test_who_does_not_read_costs_a_piece_and_not_the_whole_answer(control: Control) -> None:
    """A piece and what the kernel takes; the body itself is there once."""
    pairs = [await asyncio.open_unix_connection(control.path, limit=1) for _ in range(8)]
    for _, writer in pairs:
        writer.write(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
    server = control.sockets[0]._runner.server
    assert server is not None

    async def all_wait() -> bool:
        return [c.writing_paused for c in server.connections] == [True] * len(pairs)

    await eventually(all_wait)
    for connection in server.connections:
        assert connection.transport is not None
        assert connection.transport.get_write_buffer_size() < LARGE // 8
    for _, writer in pairs:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (
            b"POST /v1/release HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
            + b"x" * 10_000,
            413,
        ),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", 413),
        (
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
            200,
        ),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 5000 + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100 + b"\r\n", 400),
    ],
)
async def test_what_is_too_large_is_refused_and_hung_up_on(
    control: Control, request_: bytes, status: int
) -> None:
    answer = await say(control, request_)  # which ends with the connection
    assert answer.partition(b" ")[2].startswith(b"%d " % status)


async def test_more_than_a_hundred_that_connect_at_once_all_get_through(control: Control) -> None:
    async def one() -> bytes:
        return await say(control, HEALTHZ)

    answers = await asyncio.gather(*(one() for _ in range(150)))
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
