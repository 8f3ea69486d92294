"""The control socket against those who mean no good, or know no better."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from nicwatchd.service.control import CONNECTIONS, Control, Listener
from nicwatchd.service.counts import Counts
from nicwatchd.service.main import CannotRunError, _with_control
from nicwatchd.service.status import HostStatus, ImdsStatus
from tests.service.conftest import eventually

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Well:
    """A service of which nothing is to be said."""

    def status(self) -> HostStatus:
        return HostStatus(version="1", pid=1, started=0.0, imds=ImdsStatus(state="ok"))

    def counts(self) -> Counts:
        return Counts()

    async def reconcile(self) -> None:
        """See `Service`."""

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        del listener
        return lambda: None


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    control = Control(Well(), tmp_path / "nicwatchd.sock")
    await control.start()
    yield control
    await control.close()


async def say(control: Control, request: bytes) -> bytes:
    """All that is answered until the connection ends."""
    reader, writer = await asyncio.open_unix_connection(control.path)
    try:
        writer.write(request)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_connections_are_bounded_and_come_back(control: Control) -> None:
    idle = [await asyncio.open_unix_connection(control.path) for _ in range(CONNECTIONS)]
    assert await say(control, HEALTHZ) == b""
    for _, writer in idle:
        writer.close()
        await writer.wait_closed()

    async def answers() -> bool:  # once the server has noticed
        return (await say(control, HEALTHZ)).startswith(b"HTTP/1.1 200 ")

    await eventually(answers)


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
