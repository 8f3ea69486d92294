"""Whatever bytes come in by the sockets: a valid answer or a hang-up, no error and no silence.

Each example is one connection that sends pieces, the last of which ends what is not ended; after
it, another client is answered as ever.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nicwatchd.service import connections, handlers
from nicwatchd.service.control import Control
from nicwatchd.service.routes import LINES
from tests.service.test_openapi import Busy

PATIENCE: Final = 20.0  # s; ends what hangs
IDLE: Final = 2.0  # s after which the daemon hangs up on whoever sends nothing more
EXAMPLES: Final = 200
STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d) [ -~]*\r\n")
PROPER: Final = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

METHODS: Final = st.sampled_from(
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI", b"get"]
) | st.binary(max_size=8)
PATHS: Final = st.sampled_from(
    [
        *(b"/", b"*", b"/v1/status", b"/v1/events", b"/v1/release", b"/metrics", b"//", b"/%00"),
        *(b"/v1/interfaces/eth1", b"/v1/interfaces/%ff%2f..%2f", b"/v1/explain/\xc3\xa9"),
        *(b"http://localhost/v1/status", b"http://[::1/", b"https://x:99999999/", b"file:///etc"),
        *(b"/readyz?family=%", b"/readyz?interface=" + b"a" * 3000, b"/v1/reconcile?adopt=1.2.3"),
        *(b"/" + b"../" * 500, b"/\x00", b"/a b", b"?", b"#", b"/;"),
    ]
) | st.binary(max_size=64)
VERSIONS: Final = st.sampled_from(
    [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"", b"HTTP/1.1 "]
)
HEADERS: Final = st.sampled_from(
    [
        *(
            b"Host: x",
            b"Host:",
            b"Host: x\r\nHost: y",
            b"Connection: close",
            b"Connection: upgrade",
        ),
        *(b"Upgrade: websocket", b"Upgrade: h2c\r\nConnection: upgrade", b"Expect: 100-continue"),
        *(b"Content-Length: -1", b"Content-Length: 5", b"Content-Length: 99999999999999999999"),
        *(b"Content-Length: 1\r\nContent-Length: 2", b"Content-Length: +1", b"Content-Length: 0x1"),
        *(
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: chunked, gzip",
            b"Transfer-Encoding: x",
        ),
        *(
            b"Content-Encoding: gzip",
            b"Content-Encoding: deflate",
            b"Content-Type: multipart/form-data",
        ),
        *(
            b"Cookie: =;;;\x01",
            b"Range: bytes=-",
            b"If-Modified-Since: never",
            b"Accept-Encoding: *",
        ),
        *(
            b"Nicwatchd-Key: \xff",
            b"X-Forwarded-For: 1.2.3.4",
            b" folded: x",
            b"no colon",
            b"\x00: x",
        ),
        *(b"X: " + b"y" * 5000, b"X: y\r\n" * 200 + b"X: y", b"X:\x00", b"X: a\rb", b"X: a\nb"),
    ]
) | st.binary(max_size=64)
BODIES: Final = st.sampled_from(
    [
        *(b"", b"x" * 5, b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"-1\r\nx\r\n", b"zz\r\n", b"1"),
        *(b"ffffffffffffffffff\r\n", b"1;a=" + b"b" * 9000 + b"\r\n", b"x" * 20_000),
        *(b"\x1f\x8b\x08\x00" + b"\x00" * 60, b"0\r\nTrailer: x\r\n\r\n"),
    ]
) | st.binary(max_size=256)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Something like a request."""
    line = b" ".join((draw(METHODS), draw(PATHS), draw(VERSIONS)))
    headers = draw(st.lists(HEADERS, max_size=4))
    end = draw(st.sampled_from([b"\r\n", b"\n", b"\r", b""]))
    return b"\r\n".join((line, *headers)) + b"\r\n" + end + draw(BODIES)


# Several on one connection, whole or in pieces.
SENT: Final = st.lists(
    requests() | st.just(PROPER.replace(b"close", b"keep-alive")) | st.binary(max_size=300),
    min_size=1,
    max_size=4,
)


class Served:
    """Both sockets in a loop of the test's own, and what went wrong there."""

    def __init__(self, directory: Path) -> None:
        self.wrong: list[dict[str, Any]] = []
        self.control = Control(Busy(), directory / "nicwatchd.sock", idle=IDLE)
        self._runner = asyncio.Runner()
        self._runner.get_loop().set_exception_handler(lambda _, what: self.wrong.append(what))
        self._runner.run(self.control.start())

    def send(self, path: Path, pieces: list[bytes]) -> bytes:
        return self._runner.run(_send(path, pieces))

    def close(self) -> None:
        self._runner.run(self.control.close())
        self._runner.close()


async def _send(path: Path, pieces: list[bytes]) -> bytes:
    """Everything that comes back until the daemon hangs up, or a stream of events has begun."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_unix_connection(path)
        answer = b""
        try:
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0)  # so that they may arrive one by one
            while LINES.encode() not in answer and (data := await reader.read(1 << 16)):
                answer += data
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
        return answer


@pytest.fixture(params=["of root", "of nobody"])
def served(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Served]:
    if request.param == "of nobody":
        for module in (handlers, connections):
            monkeypatch.setattr(module, "is_privileged", lambda _: False)
    made = Served(tmp_path)
    yield made
    made.close()


@pytest.mark.lasts(10)
@pytest.mark.parametrize("socket", ["path", "read_only_path"])
def test_any_bytes_are_answered_or_hung_up_on(
    served: Served, socket: str, caplog: pytest.LogCaptureFixture
) -> None:
    path: Path = getattr(served.control, socket)

    @given(pieces=SENT)
    @example(pieces=[b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"])
    @example(pieces=[PROPER.replace(b"close", b"keep-alive") * 100])
    @example(pieces=[b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n" * 50])
    @example(pieces=[b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"])
    @example(pieces=[b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n" + b"z" * 100_000])
    @example(pieces=[b"\x00" * 10_000])
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def holds(pieces: list[bytes]) -> None:
        answer = served.send(path, [*pieces, b"\r\n\r\n" + PROPER])
        assert not answer or STATUS.match(answer), answer[:200]
        assert b" 500 Internal Server Error\r\n" not in answer
        assert served.wrong == []
        assert b" 200 OK\r\n" in served.send(path, [PROPER])

    with caplog.at_level(logging.INFO):
        holds()
    assert [record.getMessage() for record in caplog.records] == []


def test_an_error_in_the_loop_is_noticed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served.control.sockets[0]._handlers, "_service", None)
    assert b" 500 Internal Server Error\r\n" in served.send(served.control.path, [PROPER])
    monkeypatch.setattr(web.RequestHandler, "data_received", lambda *_: 1 / 0)
    served.send(served.control.path, [PROPER])
    assert [type(what["exception"]) for what in served.wrong] == [ZeroDivisionError]
