"""That somebody changed something of nftables. Not what: whoever wants to know lists the rules.

The kernel tells of each rule, and nobody here reads that: its first word is enough. What comes in
a short time after it belongs to it: a container's ports take several changes.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from nicwatchd.netlink.nftables import NETLINK_NETFILTER

if TYPE_CHECKING:
    from collections.abc import Callable

NFNLGRP_NFTABLES: Final = 7  # linux/netfilter/nfnetlink.h
# The kernel takes that for the least that it allows. What has no place there is not missed.
BUFFER: Final = 1
PATIENCE: Final = 0.4  # s from the first change to the word of it
AT_MOST: Final = 64  # datagrams to drop in one go; the buffer has place for fewer


def open_firewall_socket() -> socket.socket:
    """A netlink socket of the current network namespace. Raises OSError without CAP_NET_ADMIN."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.bind((0, 1 << (NFNLGRP_NFTABLES - 1)))
    except OSError:
        sock.close()
        raise
    return sock


class FirewallEvents:
    """Calls `notify` for the changes, once for all that come within PATIENCE."""

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify
        self._socket: socket.socket | None = None
        self._next: asyncio.Handle | None = None

    def start(self) -> None:
        """Begin, in the current network namespace; a kernel without nftables has no changes."""
        with suppress(OSError):
            self._socket = open_firewall_socket()
            self._listen(self._socket)

    def close(self) -> None:
        """End."""
        if self._next:
            self._next.cancel()
        if self._socket:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _listen(self, sock: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable, sock)

    def _readable(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock.fileno())
        self._next = loop.call_later(PATIENCE, self._tell, sock)

    def _tell(self, sock: socket.socket) -> None:
        _drop(sock)
        self._listen(sock)
        self._notify()


def _drop(sock: socket.socket) -> None:
    """Empty the buffer."""
    for _ in range(AT_MOST):
        try:
            sock.recv(1)
        except BlockingIOError:
            return
        except OSError:  # ENOBUFS: there was more
            continue
