"""The event socket: what the kernel reports, judged from raw bytes.

A host with containers reports thousands of changes that do not concern us, so an event costs a
header and the few attributes that decide (1 to 5 us; pyroute2's decoder: 50 to 400).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pyroute2.netlink import NETLINK_ROUTE
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV4_ROUTE,
    RTMGRP_IPV4_RULE,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_IPV6_IFINFO,
    RTMGRP_IPV6_ROUTE,
    RTMGRP_IPV6_RULE,
    RTMGRP_LINK,
)

from nicwatchd.core.model import HEEDED, MAIN_TABLE, PROTOCOL, TABLE_BASE
from nicwatchd.core.port import AddressEvent, Event, LinkEvent, Overrun, RouteEvent, RuleEvent
from nicwatchd.netlink.constants import (
    FRA_PRIORITY,
    FRA_PROTOCOL,
    IFA_PROTO,
    IFF_UP,
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    RTA_OIF,
    RTA_TABLE,
    RTM_F_CLONED,
    RTN_ANYCAST,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
)
from nicwatchd.netlink.wire import (
    FAMILY,
    IFADDR,
    IFINFO,
    ROUTE,
    RULE,
    Message,
    attributes,
    find_attribute,
    text,
    u32,
    unpack,
)

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
)
# The hot-plug of 5,000 containers' links at once, at about 4 KiB for each message in the buffer,
# passes through 8 MiB while we are busy elsewhere for a tenth of a second.
BUFFER: Final = 8 << 20
SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h; beyond net.core.rmem_max, with CAP_NET_ADMIN
RECEIVE: Final = 1 << 16
# Datagrams for one turn of the loop: a storm of events must not starve the rest of the program.
BURST: Final = 64
# Between two readings of a storm [s]. To wake up costs ten times what an event does, and on a host
# that removes thousands of containers there is one every few milliseconds, for minutes.
PAUSE: Final = 0.05
RT_TABLE_COMPAT: Final = 252  # in the header: the number is over 255, see RTA_TABLE
# The kernel makes these for each address; they say nothing that the address' event does not.
BESIDE_ADDRESSES: Final = {RTN_LOCAL, RTN_BROADCAST, RTN_ANYCAST, RTN_MULTICAST}
PROC: Final = Path("/proc")


def open_event_socket(buffer: int = BUFFER) -> socket.socket:
    """A netlink socket of the current network namespace that hears all that we watch."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_ROUTE)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
    except PermissionError:  # in a user namespace; the kernel then caps what we ask for
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.bind((0, GROUPS))
    return sock


class EventSocket:
    """Hears the network namespace in which it was started; see `nicwatchd.core.port`."""

    def __init__(self, connect: Callable[[], socket.socket] = open_event_socket) -> None:
        self._connect = connect
        self._triage = Triage()
        self._overrun = False
        self._socket: socket.socket | None = None
        self._next: asyncio.Handle | None = None

    def start(self, notify: Callable[[Event], None]) -> None:
        """See `EventSource`."""
        self._socket = self._connect()
        self._listen(self._socket, notify)

    def close(self) -> None:
        """See `EventSource`."""
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
        self._turn(sock, notify)

    def _turn(self, sock: socket.socket, notify: Callable[[Event], None]) -> None:
        """The first event after a silence is heard at once, those behind it together."""
        loop = asyncio.get_running_loop()
        datagrams = self._read(sock, notify)
        if datagrams == BURST:
            self._next = loop.call_soon(self._turn, sock, notify)
        elif datagrams:
            self._next = loop.call_later(PAUSE, self._turn, sock, notify)
        else:
            self._listen(sock, notify)

    def _read(self, sock: socket.socket, notify: Callable[[Event], None]) -> int:
        """How many datagrams there were, up to BURST; fewer mean that the buffer is empty."""
        for count in range(BURST):
            try:
                datagram = sock.recv(RECEIVE)
            except BlockingIOError:
                self._emptied(notify)
                return count
            except OSError:  # ENOBUFS above all: the buffer was full, and events were dropped
                self._overrun = True
                continue
            for message in unpack(datagram):
                event = self._triage.event(message)
                if event is not None:
                    notify(event)
        return BURST

    def _emptied(self, notify: Callable[[Event], None]) -> None:
        """The time to tell of an overrun.

        Until its buffer is empty the kernel goes on to drop what comes, and does not tell again: a
        look at the kernel before that would miss it.
        """
        if self._overrun:
            self._overrun = False
            self._triage.forget()
            notify(Overrun())


class Triage:
    """Messages -> events. It remembers each link's kind, which lasts as long as its index."""

    def __init__(self) -> None:
        self._kinds: dict[int, str | None] = {}

    def forget(self) -> None:
        """Events were lost, so an index may have a new owner."""
        self._kinds.clear()

    def event(self, message: Message) -> Event | None:
        """The event that a message is; None when it cannot concern us."""
        if message.type in (RTM_NEWLINK, RTM_DELLINK):
            return self._link(message)
        if message.type in (RTM_NEWADDR, RTM_DELADDR):
            return _address(message)
        if message.type in (RTM_NEWROUTE, RTM_DELROUTE):
            return _route(message)
        if message.type in (RTM_NEWRULE, RTM_DELRULE):
            return _rule(message)
        return None

    def _link(self, message: Message) -> LinkEvent:
        family, _, index, flags, _ = IFINFO.unpack_from(message.body)
        if family:
            # A bridge's port or IPv6's settings changed. "Deleted" means the port, not the link.
            return LinkEvent(index)
        if message.type == RTM_DELLINK:
            self._kinds.pop(index, None)
            return LinkEvent(index, gone=True)
        if index not in self._kinds:
            info = find_attribute(message.body, IFINFO.size, IFLA_LINKINFO) or b""
            kind = find_attribute(info, 0, IFLA_INFO_KIND)
            self._kinds[index] = text(kind) if kind else None
        name = find_attribute(message.body, IFINFO.size, IFLA_IFNAME) or b""  # the first of them
        return LinkEvent(index, text(name), self._kinds[index], down=not flags & IFF_UP)


def _address(message: Message) -> AddressEvent:
    index = IFADDR.unpack_from(message.body)[4]
    if message.type == RTM_NEWADDR:
        return AddressEvent(index, message.pid)
    mark = find_attribute(message.body, IFADDR.size, IFA_PROTO)
    ours = mark == bytes([PROTOCOL]) and message.pid  # 0 tells nothing here: see AddressEvent
    who = culprit(message.pid) if ours else ""
    return AddressEvent(index, message.pid, deleted=True, culprit=who)


def _route(message: Message) -> RouteEvent | None:
    number, _, _, _, table, protocol, _, kind, flags = ROUTE.unpack_from(message.body)
    if kind in BESIDE_ADDRESSES or flags & RTM_F_CLONED:
        return None
    if protocol != PROTOCOL and table not in (MAIN_TABLE, RT_TABLE_COMPAT):
        return None
    if table == MAIN_TABLE and protocol not in HEEDED and protocol != PROTOCOL:
        return None
    found = attributes(message.body, ROUTE.size)
    table = u32(found.get(RTA_TABLE), table)
    # Ours is told by its protocol, whatever the table; from there on a table may be ours.
    if protocol != PROTOCOL and table != MAIN_TABLE and table < TABLE_BASE:
        return None
    deleted = message.type == RTM_DELROUTE
    return RouteEvent(
        FAMILY[number],
        table,
        protocol,
        u32(found.get(RTA_OIF)),
        deleted,
        message.pid,
        culprit(message.pid) if deleted and protocol == PROTOCOL else "",
    )


def _rule(message: Message) -> RuleEvent | None:
    family = FAMILY.get(RULE.unpack_from(message.body)[0])
    if family is None:
        return None  # multicast routing's
    found = attributes(message.body, RULE.size)
    protocol = found.get(FRA_PROTOCOL, b"\0")[0]
    deleted = message.type == RTM_DELRULE
    return RuleEvent(
        family,
        u32(found.get(FRA_PRIORITY)),
        protocol,
        deleted,
        message.pid,
        culprit(message.pid) if deleted and protocol == PROTOCOL else "",
    )


def culprit(pid: int, proc: Path = PROC) -> str:
    """Who asked the kernel for a change, for people.

    A port id is the pid of a program's first netlink socket; its later ones have random numbers,
    and a pid of another namespace means another process here. A short-lived `ip` can be read at
    the receipt of its event, not 5 ms later.
    """
    if not pid:
        return "the kernel"
    with contextlib.suppress(OSError):
        return f"port id {pid}, perhaps {(proc / str(pid) / 'comm').read_text().strip()}"
    return f"port id {pid}"
