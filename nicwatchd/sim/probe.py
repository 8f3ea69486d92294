"""Tests reachability with TCP.

Never with ping: the kernel answers an ICMPv6 echo through the interface on which it arrived, and
that hides wrong routes.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from bisect import insort
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import count, pairwise, takewhile
from typing import TYPE_CHECKING, Final, Self, cast

from nicwatchd.core.model import Family, IPAddress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nicwatchd.sim.parts import Peer
    from nicwatchd.sim.vpc import Vpc

PORT: Final = 7777
INTERVAL: Final = 0.1  # s between new connections of a watch
# s. Below the first SYN retransmission (1 s), so that each attempt tests one moment only.
TIMEOUT: Final = 0.9
AT_ONCE: Final = 64  # concurrent connections of a matrix
UNDISTURBED: Final = 0.3  # s without a reply that nobody notices


# --- the answering side ------------------------------------------------------------------------


class _Greeting(asyncio.Protocol):
    """Sends the client its own address, and disconnects."""

    def __init__(self, calls: set[asyncio.Transport]) -> None:
        self._calls = calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._calls.add(self._transport)
        caller = self._transport.get_extra_info("peername")
        if caller:  # None if the client has already disconnected
            self._transport.write(f"{caller[0]}\n".encode())
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002, asyncio's signature
        self._calls.discard(self._transport)


class Acceptor:
    """`async with Acceptor(vpc, vpc.host)`: answers TCP on all addresses of a namespace.

    The answer is one line with the client's address.
    """

    def __init__(self, vpc: Vpc, namespace: str, port: int = PORT) -> None:
        self._vpc, self._namespace, self._port = vpc, namespace, port
        self._servers: list[asyncio.Server] = []
        self._calls: set[asyncio.Transport] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for address in ("0.0.0.0", "::"):
            listener = self._vpc.listen(self._namespace, address, self._port)
            server = await loop.create_server(lambda: _Greeting(self._calls), sock=listener)
            self._servers.append(server)
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for call in list(self._calls):
            call.abort()
        for server in self._servers:
            await server.wait_closed()


# --- the asking side -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """A connection was established and answered."""

    elapsed: float  # s
    seen_as: IPAddress  # the client's address, as the server sees it


async def reach(
    vpc: Vpc,
    namespace: str,
    to: IPAddress,
    *,
    source: IPAddress | None = None,
    device: str | None = None,
    port: int = PORT,
    timeout: float = TIMEOUT,  # noqa: ASYNC109, part of what is measured
) -> Reply | None:
    """Connect from a namespace, optionally from a source address or a device; None: no reply.

    `timeout` in s.
    """
    started = time.monotonic()
    family = socket.AF_INET6 if Family(to.version) is Family.V6 else socket.AF_INET
    with vpc.socket(namespace, family) as caller:
        try:
            async with asyncio.timeout(timeout):
                line = await _call(caller, to, source, device, port)
        except OSError:  # refused, no route, no such source; includes TimeoutError
            return None
    return Reply(time.monotonic() - started, line)


async def _call(
    caller: socket.socket,
    to: IPAddress,
    source: IPAddress | None,
    device: str | None,
    port: int,
) -> IPAddress:
    loop = asyncio.get_running_loop()
    if device is not None:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    if source is not None:
        caller.bind((str(source), 0))
    await loop.sock_connect(caller, (str(to), port))
    line = await loop.sock_recv(caller, 64)
    # Close with a reset, so that thousands of connections leave no TIME_WAIT behind.
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if not line.endswith(b"\n"):
        raise ConnectionError("disconnected without an answer")
    return ip_address(line.decode().strip())


@dataclass(frozen=True, slots=True)
class Path:
    """A peer, and the address that it tries to reach."""

    peer: Peer
    to: IPAddress

    def __str__(self) -> str:
        return f"{self.peer.name} to {self.to}"

    async def try_once(self, vpc: Vpc, port: int = PORT) -> Reply | None:
        """Open one new connection from the peer's address."""
        source = self.peer.address(Family(self.to.version))
        return await reach(vpc, self.peer.namespace, self.to, source=source, port=port)


def paths(peers: Iterable[Peer], addresses: Iterable[IPAddress]) -> tuple[Path, ...]:
    """The paths from each peer to each address whose family the peer has."""
    wanted = list(addresses)
    return tuple(
        Path(peer, to) for peer in peers for to in wanted if peer.address(Family(to.version))
    )


async def matrix(vpc: Vpc, wanted: Iterable[Path], port: int = PORT) -> dict[Path, Reply | None]:
    """Try each path once, many at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(path: Path) -> Reply | None:
        async with gate:
            return await path.try_once(vpc, port)

    tried = list(wanted)
    return dict(zip(tried, await asyncio.gather(*map(one, tried)), strict=True))


# --- over time -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Attempt:
    """One connection of a watch; times are monotonic, in s."""

    started: float
    replied: float | None = field(compare=False)


class Watch:
    """`async with Watch(vpc, paths)`: records a new connection on each path every 100 ms.

    A longer `interval` (s) is for hosts on which ten connections per second are a load. `late` is
    by how many seconds the watch itself was late, at the most: for so long it may have heard
    nothing while all was well.
    """

    def __init__(
        self, vpc: Vpc, watched: Iterable[Path], port: int = PORT, interval: float = INTERVAL
    ) -> None:
        self._vpc, self._port, self._interval = vpc, port, interval
        self.attempts: dict[Path, list[Attempt]] = {path: [] for path in watched}
        self.late = 0.0
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._began = time.monotonic()
        self._ended: float | None = None
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended = time.monotonic()
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()  # raises: only an error ends a watch

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as attempts:
            for beat in count():
                for path in self.attempts:
                    attempts.create_task(self._try(path))
                # Keep the beat, however long it took to create the tasks.
                following = self._began + (beat + 1) * self._interval
                await asyncio.sleep(following - time.monotonic())
                self.late = max(self.late, time.monotonic() - following)

    async def _try(self, path: Path) -> None:
        started = time.monotonic()
        reply = await path.try_once(self._vpc, self._port)
        insort(self.attempts[path], Attempt(started, time.monotonic() if reply else None))
        self._news.set()

    def reachable(self, path: Path) -> bool:
        """Whether the latest completed attempt was answered."""
        history = self.attempts[path]
        return bool(history) and history[-1].replied is not None

    def since(self, path: Path) -> float | None:
        """The monotonic time of the first answer after the last failure; None: not reachable."""
        tail = takewhile(lambda attempt: attempt.replied is not None, reversed(self.attempts[path]))
        return min((a.replied for a in tail if a.replied is not None), default=None)

    async def all_reachable(self, timeout: float) -> None:  # noqa: ASYNC109, callers read better
        """Wait until every path answers. Raises TimeoutError, which names those that do not."""
        try:
            async with asyncio.timeout(timeout):
                while not all(map(self.reachable, self.attempts)):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            silent = [str(path) for path in self.attempts if not self.reachable(path)]
            raise TimeoutError(f"no answer within {timeout} s: {'; '.join(silent)}") from None

    def failures(self, path: Path) -> int:
        """How many attempts got no answer."""
        return sum(attempt.replied is None for attempt in self.attempts[path])

    def silence(self, path: Path) -> float:
        """The longest time without an answer on a path, in s, from the start to now or the end."""
        return max(end - began for began, end in self.pauses(path))

    def pauses(self, path: Path) -> list[tuple[float, float]]:
        """The times from one answer on a path to the next, from the start to now or the end."""
        answers = sorted(a.replied for a in self.attempts[path] if a.replied is not None)
        end = self._ended if self._ended is not None else time.monotonic()
        return list(pairwise([self._began, *answers, max(end, self._began)]))

    @property
    def longest_silence(self) -> float:
        """The longest silence of any path, in s."""
        return max(map(self.silence, self.attempts), default=0.0)

    @property
    def undisturbed(self) -> bool:
        """Whether no path was silent for longer than anybody would notice."""
        return self.longest_silence <= UNDISTURBED


async def all_answer(
    vpc: Vpc, wanted: Iterable[Path], within: float = 15.0, port: int = PORT
) -> None:
    """Return once all paths answer in one matrix. Raises TimeoutError after `within` s.

    A host that was just configured drops packets for a second, while its link-local address is
    tentative; on a busy machine for longer.
    """
    tried = list(wanted)
    deadline = time.monotonic() + within
    while True:
        replies = await matrix(vpc, tried, port)
        silent = [str(path) for path, reply in replies.items() if not reply]
        if not silent:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"no answer within {within:g} s: {'; '.join(silent)}")
        await asyncio.sleep(INTERVAL)


def watch_primary(vpc: Vpc, interval: float = INTERVAL) -> Watch:
    """A watch from one far host on the first address of the primary in each family."""
    first = [a[0] for a in (vpc.primary.ipv4, vpc.primary.ipv6) if a]
    return Watch(vpc, paths(vpc.far_hosts[:1], first), interval=interval)
