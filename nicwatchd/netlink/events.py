"""The event socket: receives the kernel's notifications, and filters them as raw bytes.

On a host with containers, thousands of changes do not concern us. So we read only the header and
the few attributes that decide (1 to 5 us for each message; pyroute2's decoder takes 50 to 400).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final

from pyroute2.netlink import NETLINK_ROUTE
from pyroute2.netlink.rtnl import (
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV4_ROUTE,
    RTMGRP_IPV4_RULE,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_IPV6_IFINFO,
    RTMGRP_IPV6_ROUTE,
    RTMGRP_IPV6_RULE,
    RTMGRP_LINK,
    RTNLGRP_IPV4_NETCONF,
)

from nicwatchd.core.port import Event, FirewallEvent, Heeded, Overrun
from nicwatchd.netlink import culprit
from nicwatchd.netlink.constants import RTNLGRP_NEXTHOP
from nicwatchd.netlink.covering import Covering
from nicwatchd.netlink.echoes import drop_echoes
from nicwatchd.netlink.firewall_events import FirewallEvents
from nicwatchd.netlink.triage import Triage
from nicwatchd.netlink.wire import MALFORMED, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

GROUPS: Final = (
    RTMGRP_LINK
    | RTMGRP_IPV4_IFADDR
    | RTMGRP_IPV4_ROUTE
    | RTMGRP_IPV4_RULE
    | RTMGRP_IPV6_IFADDR
    | RTMGRP_IPV6_IFINFO  # the flags of router advertisements
    | RTMGRP_IPV6_ROUTE
    | RTMGRP_IPV6_RULE
    # What goes with an IPv4 next-hop object goes without a word. Older kernels ignore the bit.
    | 1 << (RTNLGRP_NEXTHOP - 1)
    | 1 << (RTNLGRP_IPV4_NETCONF - 1)  # the sysctls of links: rp_filter
)
MESSAGE: Final = 4 << 10  # bytes of the buffer that each takes, about
# 8 MiB are enough when the links of 5,000 containers appear at once and we are busy elsewhere for a
# tenth of a second.
BUFFER: Final = 8 << 20
SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h; may exceed net.core.rmem_max (CAP_NET_ADMIN)
RECEIVE: Final = 1 << 16
# Datagrams to read in one go: a storm of events must not starve the rest of the program.
BURST: Final = 64
# Seconds between two reads in a storm. A wake-up costs ten times as much as an event, and a host
# that removes thousands of containers has an event every few milliseconds, for minutes.
PAUSE: Final = 0.05


def open_event_socket(buffer: int = BUFFER) -> socket.socket:
    """A netlink socket of the current network namespace, subscribed to everything we watch."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_ROUTE)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
    except PermissionError:  # in a user namespace; the kernel then caps the size
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.bind((0, GROUPS))
    return sock


class EventSocket:
    """Events of the network namespace in which it was started; see `nicwatchd.core.port`."""

    def __init__(self, connect: Callable[[], socket.socket] = open_event_socket) -> None:
        self._connect = connect
        self._triage = Triage()
        self._heeded = Heeded()
        self._unheard = 0  # the port id of which echoes are dropped
        self._firewall: FirewallEvents | None = None
        self._notify: Callable[[Event], None] | None = None
        self._overrun = False
        self._malformed = ""  # what was wrong with the last message that could not be read
        self._socket: socket.socket | None = None
        self._next: asyncio.Handle | None = None

    def start(self, notify: Callable[[Event], None]) -> None:
        """See `EventSource`."""
        self._notify = notify
        self._socket = self._connect()
        self._listen(self._socket, notify)

    def heed(self, heeded: Heeded) -> None:
        """See `EventSource`."""
        if heeded == self._heeded:
            return
        if heeded.destinations != self._heeded.destinations:
            self._triage.covering = Covering(heeded.destinations)
        if heeded.firewall != self._heeded.firewall:
            self._heed_firewall(on=heeded.firewall)
        self._heeded = heeded

    def drop_echoes(self, port_id: int | None) -> None:
        """See `EventSource`."""
        if self._socket and port_id and port_id != self._unheard:
            self._unheard = port_id
            with contextlib.suppress(OSError):  # they come, and cost time
                drop_echoes(self._socket, port_id)

    def drain(self) -> None:
        """See `EventSource`."""
        if self._socket and self._notify:
            for _ in range(BUFFER // MESSAGE // BURST):
                if self._read(self._socket, self._notify) < BURST:
                    break

    def _heed_firewall(self, *, on: bool) -> None:
        if self._firewall:
            self._firewall.close()
            self._firewall = None
        notify = self._notify
        if on and notify:
            self._firewall = FirewallEvents(lambda: notify(FirewallEvent()))
            self._firewall.start()

    def close(self) -> None:
        """See `EventSource`."""
        self._heed_firewall(on=False)
        if self._socket:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._next:
            self._next.cancel()

    def _listen(self, sock: socket.socket, notify: Callable[[Event], None]) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(sock.fileno(), self._readable, sock, notify)

    def _readable(self, sock: socket.socket, notify: Callable[[Event], None]) -> None:
        asyncio.get_running_loop().remove_reader(sock.fileno())
        self._drain(sock, notify)

    def _drain(self, sock: socket.socket, notify: Callable[[Event], None]) -> None:
        """Read the first event after a quiet time at once, and those that follow it in batches."""
        loop = asyncio.get_running_loop()
        datagrams = self._read(sock, notify)
        if datagrams == BURST:
            self._next = loop.call_soon(self._drain, sock, notify)
        elif datagrams:
            self._next = loop.call_later(PAUSE, self._drain, sock, notify)
        else:
            self._listen(sock, notify)

    def _read(self, sock: socket.socket, notify: Callable[[Event], None]) -> int:
        """Read up to BURST datagrams; returns how many. Fewer mean that the buffer is empty."""
        culprit.forget()
        for count in range(BURST):
            try:
                datagram = sock.recv(RECEIVE)
            except BlockingIOError:
                self._emptied(notify)
                return count
            except OSError:  # ENOBUFS above all: the buffer was full, and events were dropped
                self._overrun = True
                continue
            self._tell(datagram, notify)
        return BURST

    def _tell(self, datagram: bytes, notify: Callable[[Event], None]) -> None:
        """Tell the events of a datagram. What is malformed counts as lost, with what follows it."""
        try:
            for message in unpack(datagram):
                event = self._triage.event(message)
                if event is not None:
                    notify(event)
        except MALFORMED as error:
            self._overrun, self._malformed = True, repr(error)

    def _emptied(self, notify: Callable[[Event], None]) -> None:
        """Report an overrun, if there was one, now that the buffer is empty.

        Until then the kernel keeps dropping events without reporting it again, so reading the
        kernel's state any earlier would miss changes.
        """
        if self._overrun:
            malformed, self._overrun, self._malformed = self._malformed, False, ""
            self._triage.forget()
            notify(Overrun(malformed))
