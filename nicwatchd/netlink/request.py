"""The request socket: questions, dumps and batches, one at a time, each with a time limit.

A socket on which a request ended badly (time-out, cancellation, an error of the socket) may still
get that request's answers, so it is closed and the next request opens a new one.
"""

from __future__ import annotations

import asyncio
import errno as errnos
import os
import socket
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from pyroute2.netlink import (
    NETLINK_EXT_ACK,
    NETLINK_GET_STRICT_CHK,
    NETLINK_ROUTE,
    NLM_F_ACK,
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    SOL_NETLINK,
)

from nicwatchd.core.port import KernelError
from nicwatchd.netlink.wire import HEADER, S32, attributes, pack, text, unpack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from nicwatchd.netlink.encode import Request
    from nicwatchd.netlink.wire import Message

T = TypeVar("T")

NETLINK_CAP_ACK: Final = 10  # an error's answer does not repeat the request
NLMSGERR_ATTR_MSG: Final = 1
# The kernel answers in microseconds; it may wait for the rtnl lock, which a driver that resets
# holds for a second or two.
TIMEOUT: Final = 5.0
# Acknowledgements wait in the receive buffer while the kernel works through a batch: about
# 1 KiB each with their bookkeeping, of the 208 KiB that are the usual limit.
BATCH: Final = 128
# The kernel fills at most 32 KiB of a dump at a time.
RECEIVE: Final = 1 << 16
# A dump is interrupted when its objects change meanwhile. Seldom twice; five times is a storm.
DUMP_TRIES: Final = 5
WRAP: Final = 1 << 31  # sequence numbers have 32 bits
# A dump of what is not there: no such table or link; a family that this kernel does not have.
NOTHING: Final = {errnos.ENOENT, errnos.ENODEV, errnos.EAFNOSUPPORT, errnos.EOPNOTSUPP}


class Reply(NamedTuple):
    """The answer to one request of a batch: errno (0: success) and the kernel's words, if any."""

    errno: int
    message: str


def open_request_socket() -> socket.socket:
    """A netlink socket of the current network namespace, as `RequestSocket` needs it."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_ROUTE)
    for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
        sock.setsockopt(SOL_NETLINK, option, 1)
    sock.bind((0, 0))
    return sock


class RequestSocket:
    """Asks the kernel. Every method raises `KernelError` when it does not answer as agreed."""

    def __init__(
        self,
        connect: Callable[[], socket.socket] = open_request_socket,
        timeout: float = TIMEOUT,
    ) -> None:
        self._connect = connect
        self._timeout = timeout
        self._lock = asyncio.Lock()
        self._sequence = 0
        self._socket: socket.socket | None = connect()

    @property
    def port_id(self) -> int | None:
        """The port id of the current socket, None while there is none (0 is the kernel's own)."""
        return int(self._socket.getsockname()[0]) if self._socket else None

    def close(self) -> None:
        """Close the socket."""
        if self._socket:
            self._socket.close()
            self._socket = None

    async def get(self, request: Request) -> bytes | int:
        """The body of the one message that answers, or an errno."""
        async with self._exclusive() as sock:
            first = await self._send(sock, [request], NLM_F_REQUEST)
            while True:
                for message in await self._receive(sock, first):
                    if message.type == NLMSG_ERROR:
                        return _reply(message).errno
                    return message.body

    async def dump(self, request: Request, decode: Callable[[bytes], T | None]) -> list[T]:
        """What `decode` makes of each message of a dump, without its None; all of one moment."""
        for _ in range(DUMP_TRIES):
            async with self._exclusive() as sock:
                rows = await self._dump_once(sock, request, decode)
            if rows is not None:
                return rows
        raise KernelError(f"the dump {request.type} was interrupted {DUMP_TRIES} times")

    async def batch(self, requests: Iterable[Request]) -> list[Reply]:
        """A reply for each request, in order; one that fails does not stop the next.

        A request is taken from the iterable shortly before it is sent, so that thousands can be
        encoded bit by bit.
        """
        replies: list[Reply] = []
        waiting = iter(requests)
        while part := list(islice(waiting, BATCH)):
            async with self._exclusive() as sock:
                replies += await self._batch_once(sock, part)
            await asyncio.sleep(0)  # thousands of operations: let the rest of the program breathe
        return replies

    async def _batch_once(self, sock: socket.socket, requests: Sequence[Request]) -> list[Reply]:
        first = await self._send(sock, requests, NLM_F_REQUEST | NLM_F_ACK)
        replies: dict[int, Reply] = {}
        while len(replies) < len(requests):
            for message in await self._receive(sock, first):
                if message.type == NLMSG_ERROR:
                    replies[message.sequence - first] = _reply(message)
        return [replies[position] for position in range(len(requests))]

    async def _dump_once(
        self, sock: socket.socket, request: Request, decode: Callable[[bytes], T | None]
    ) -> list[T] | None:
        """None when it was interrupted; it is read to its end even so."""
        rows: list[T] = []
        interrupted = False
        first = await self._send(sock, [request], NLM_F_REQUEST | NLM_F_DUMP)
        while True:
            for message in await self._receive(sock, first):
                interrupted |= bool(message.flags & NLM_F_DUMP_INTR)
                if message.type in (NLMSG_ERROR, NLMSG_DONE):
                    _raise_unless_empty(request, _reply(message))
                    return None if interrupted else rows
                row = decode(message.body)
                if row is not None:
                    rows.append(row)
            await asyncio.sleep(0)  # thousands of objects: let the rest of the program breathe

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[socket.socket]:
        async with self._lock:
            try:
                if self._socket is None:
                    self._socket = self._connect()
                async with asyncio.timeout(self._timeout):
                    yield self._socket
            except TimeoutError as error:
                self.close()
                raise KernelError(f"no answer from the kernel in {self._timeout:g} s") from error
            except OSError as error:
                self.close()
                raise KernelError(f"the netlink socket failed: {error}") from error
            except BaseException:
                self.close()
                raise

    async def _send(self, sock: socket.socket, requests: Sequence[Request], flags: int) -> int:
        """Send in one go; the first sequence number. The kernel works while we send."""
        if self._sequence > WRAP:
            self._sequence = 0  # nothing is on its way: we hold the lock
        first = self._sequence + 1
        self._sequence += len(requests)
        data = b"".join(
            pack(request.type, request.flags | flags, first + position, request.body)
            for position, request in enumerate(requests)
        )
        await asyncio.get_running_loop().sock_sendall(sock, data)
        return first

    async def _receive(self, sock: socket.socket, first: int) -> list[Message]:
        """The messages of one datagram that answer the request in hand."""
        datagram = await asyncio.get_running_loop().sock_recv(sock, RECEIVE)
        return [m for m in unpack(datagram) if first <= m.sequence <= self._sequence]


def _reply(message: Message) -> Reply:
    """What an NLMSG_ERROR says, or an NLMSG_DONE, which carries an errno too."""
    code = -S32.unpack_from(message.body)[0] if message.body else 0
    if not message.flags & NLM_F_ACK_TLVS:
        return Reply(code, "")
    offset = S32.size
    if message.type == NLMSG_ERROR:  # the request's header comes next; all of it, if not capped
        capped = message.flags & NLM_F_CAPPED
        offset += HEADER.size if capped else HEADER.unpack_from(message.body, offset)[0]
    return Reply(code, text(attributes(message.body, offset).get(NLMSGERR_ATTR_MSG, b"")))


def _raise_unless_empty(request: Request, reply: Reply) -> None:
    if reply.errno and reply.errno not in NOTHING:
        words = reply.message or os.strerror(reply.errno)
        raise KernelError(f"the kernel refused the dump {request.type}: {words}")
