"""The request socket: questions, dumps and batches, one at a time, each wait with a time limit.

After a timeout, a cancellation or a socket error, answers to the failed request may still arrive.
So the socket is closed, and the next request opens a new one.
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
from nicwatchd.netlink.wire import (
    HEADER,
    MALFORMED,
    S32,
    Message,
    attributes,
    pack,
    split,
    text,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from nicwatchd.netlink.encode import Request

T = TypeVar("T")

NETLINK_CAP_ACK: Final = 10  # error messages do not repeat the request
NLMSGERR_ATTR_MSG: Final = 1
# The kernel answers in microseconds. But it may have to wait for the rtnl lock, which a driver
# holds for a second or two during a reset.
TIMEOUT: Final = 5.0
# While the kernel works through a batch, what it says of failures fills the receive buffer: about
# 1 KiB each with bookkeeping, of usually 208 KiB.
BATCH: Final = 128
QUESTIONS: Final = 16  # answers take up to 8 KiB
# The kernel fills at most 32 KiB of a dump at a time.
RECEIVE: Final = 1 << 16
# Bytes of dumps after which the rest of the program has its turn: some 300 objects, 0.3 to 3 ms.
BREATH: Final = 1 << 15
# A dump is interrupted if objects change meanwhile. Twice in a row is rare; five times is a storm.
DUMP_TRIES: Final = 5
ENDS: Final = (NLMSG_ERROR, NLMSG_DONE)  # of a dump
WRAP: Final = 1 << 31  # sequence numbers have 32 bits
# The dump is empty: no such table or link, or a family that this kernel does not support.
NOTHING: Final = {errnos.ENOENT, errnos.ENODEV, errnos.EAFNOSUPPORT, errnos.EOPNOTSUPP}


class Reply(NamedTuple):
    """The answer to one request of a batch: errno (0: success) and the kernel's message, if any."""

    errno: int
    message: str


DONE: Final = Reply(0, "")


class Brief(NamedTuple):
    """How to read a dump that may be huge: `after` so many rows, decode only what `keeps` takes."""

    after: int
    keeps: Callable[[bytes], bool]


def open_request_socket() -> socket.socket:
    """A netlink socket of the current network namespace, with the options `RequestSocket` needs."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_ROUTE)
    for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
        sock.setsockopt(SOL_NETLINK, option, 1)
    sock.bind((0, 0))
    return sock


class RequestSocket:
    """Sends requests to the kernel. Each method raises `KernelError` without a valid answer."""

    def __init__(
        self,
        connect: Callable[[], socket.socket] = open_request_socket,
        timeout: float = TIMEOUT,
    ) -> None:
        self._connect = connect
        self._timeout = timeout
        self._lock = asyncio.Lock()
        self._sequence = 0
        self._read = 0  # bytes of dumps since the rest of the program had its turn
        self._socket: socket.socket | None = connect()

    @property
    def port_id(self) -> int | None:
        """The port id of the current socket; None if there is no socket (0 is the kernel's)."""
        return int(self._socket.getsockname()[0]) if self._socket else None

    def close(self) -> None:
        """Close the socket."""
        if self._socket:
            self._socket.close()
            self._socket = None

    async def get(self, request: Request) -> bytes | int:
        """The body of the answer, which is one message, or an errno."""
        async with self._exclusive() as sock:
            first = self._send(sock, [request], NLM_F_REQUEST)
            while True:
                for message in await self._receive(sock, first):
                    if message.type == NLMSG_ERROR:
                        return _reply(message).errno
                    return message.body

    async def dump(
        self, request: Request, decode: Callable[[bytes], T | None], brief: Brief | None = None
    ) -> list[T]:
        """The messages of a consistent dump, decoded; without those that `decode` maps to None."""
        for _ in range(DUMP_TRIES):
            async with self._exclusive() as sock:
                rows = await self._dump_once(sock, request, decode, brief)
            if rows is not None:
                return rows
        raise KernelError(f"the dump {request.type} was interrupted {DUMP_TRIES} times")

    async def ask(self, requests: Sequence[Request]) -> list[bytes | int]:
        """As `get`, for each request, in order."""
        answers: list[bytes | int] = []
        for start in range(0, len(requests), BATCH):
            async with self._exclusive() as sock:
                for at in range(start, min(start + BATCH, len(requests)), QUESTIONS):
                    answers += await self._ask_once(sock, requests[at : at + QUESTIONS])
            await asyncio.sleep(0)  # there may be thousands: let the rest of the program run
        return answers

    async def _ask_once(
        self, sock: socket.socket, requests: Sequence[Request]
    ) -> Sequence[bytes | int]:
        first = self._send(sock, requests, NLM_F_REQUEST)
        answers: dict[int, bytes | int] = {}
        while len(answers) < len(requests):
            for message in await self._receive(sock, first):
                failed = message.type == NLMSG_ERROR
                answer = _reply(message).errno if failed else message.body
                answers[message.sequence - first] = answer
        return [answers[position] for position in range(len(requests))]

    async def batch(self, requests: Iterable[Request]) -> list[Reply]:
        """A reply for each request, in order; a failed request does not stop the next one.

        Requests are taken from the iterable shortly before they are sent, so the caller can encode
        thousands of them step by step.
        """
        replies: list[Reply] = []
        remaining = iter(requests)
        while part := list(islice(remaining, BATCH)):
            async with self._exclusive() as sock:
                replies += await self._batch_once(sock, part)
            await asyncio.sleep(0)  # there may be thousands: let the rest of the program run
        return replies

    async def _batch_once(self, sock: socket.socket, requests: Sequence[Request]) -> list[Reply]:
        """The kernel answers those that fail, in order, and the last one, which asks for it.

        If it cannot (its memory or our buffer is full), the socket fails with ENOBUFS.
        """
        first = self._send(sock, requests, NLM_F_REQUEST, last=NLM_F_ACK)
        replies: dict[int, Reply] = {}
        while len(requests) - 1 not in replies:
            for message in await self._receive(sock, first):
                if message.type == NLMSG_ERROR:
                    replies[message.sequence - first] = _reply(message)
        return [replies.get(position, DONE) for position in range(len(requests))]

    async def _dump_once(
        self,
        sock: socket.socket,
        request: Request,
        decode: Callable[[bytes], T | None],
        brief: Brief | None,
    ) -> list[T] | None:
        """The rows of one dump; None if it was interrupted. It is read to its end in any case."""
        rows: list[T] = []
        interrupted = False
        first = self._send(sock, [request], NLM_F_REQUEST | NLM_F_DUMP)
        while True:
            datagram = await self._datagram(sock)
            for kind, flags, sequence, pid, body in split(datagram):
                if sequence != first:
                    continue
                if flags & NLM_F_DUMP_INTR:
                    interrupted = True
                if kind in ENDS:
                    _raise_unless_empty(request, _reply(Message(kind, flags, sequence, pid, body)))
                    return None if interrupted else rows
                if brief and len(rows) >= brief.after and not brief.keeps(body):
                    continue
                row = decode(body)
                if row is not None:
                    rows.append(row)
            await self._breathe(len(datagram))

    async def _breathe(self, read: int) -> None:
        """Let the rest of the program run, now and then: there may be thousands of objects."""
        self._read += read
        if self._read >= BREATH:
            self._read = 0
            await asyncio.sleep(0)

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[socket.socket]:
        async with self._lock:
            try:
                if self._socket is None:
                    self._socket = self._connect()
                yield self._socket
            except TimeoutError as error:
                self.close()
                raise KernelError(f"no answer from the kernel in {self._timeout:g} s") from error
            except OSError as error:
                self.close()
                raise KernelError(f"the netlink socket failed: {error}") from error
            except MALFORMED as error:
                self.close()
                raise _unreadable(error) from error
            except BaseException:
                self.close()
                raise

    def _send(
        self, sock: socket.socket, requests: Sequence[Request], flags: int, *, last: int = 0
    ) -> int:
        """Send all in one datagram; returns the first sequence number. `last`: more flags of it."""
        if self._sequence > WRAP:
            self._sequence = 0  # no answer is pending: we hold the lock
        first = self._sequence + 1
        self._sequence += len(requests)
        more = [flags] * (len(requests) - 1) + [flags | last]
        data = b"".join(
            pack(request.type, request.flags | more[position], first + position, request.body)
            for position, request in enumerate(requests)
        )
        sock.send(data)
        return first

    async def _receive(self, sock: socket.socket, first: int) -> list[Message]:
        """The messages of one datagram that answer the current request."""
        messages = unpack(await self._datagram(sock))
        return [m for m in messages if first <= m.sequence <= self._sequence]

    async def _datagram(self, sock: socket.socket) -> bytes:
        """The next datagram. The kernel answers while we send: nearly always it is there."""
        try:
            return sock.recv(RECEIVE)
        except BlockingIOError:
            async with asyncio.timeout(self._timeout):
                return await asyncio.get_running_loop().sock_recv(sock, RECEIVE)


def read(decode: Callable[[bytes], T], answer: bytes) -> T:
    """An answer, decoded. Raises KernelError if it is malformed."""
    try:
        return decode(answer)
    except MALFORMED as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> KernelError:
    return KernelError(f"an answer of the kernel cannot be read: {error!r}")


def _reply(message: Message) -> Reply:
    """The reply in an NLMSG_ERROR, or in an NLMSG_DONE, which carries an errno too."""
    code = -S32.unpack_from(message.body)[0] if message.body else 0
    if not message.flags & NLM_F_ACK_TLVS:
        return Reply(code, "")
    offset = S32.size
    if message.type == NLMSG_ERROR:  # next is the request: its header if capped, else all of it
        capped = message.flags & NLM_F_CAPPED
        offset += HEADER.size if capped else HEADER.unpack_from(message.body, offset)[0]
    return Reply(code, text(attributes(message.body, offset).get(NLMSGERR_ATTR_MSG, b"")))


def _raise_unless_empty(request: Request, reply: Reply) -> None:
    if reply.errno and reply.errno not in NOTHING:
        reason = reply.message or os.strerror(reply.errno)
        raise KernelError(f"the kernel refused the dump {request.type}: {reason}")
