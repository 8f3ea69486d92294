"""Messages -> events: what a notification of the kernel is about. None if it cannot concern us."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final

from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNETCONF,
    RTM_NEWROUTE,
    RTM_NEWRULE,
)

from nicwatchd.core.addresses import address
from nicwatchd.core.model import (
    ERRORS,
    LOCAL_TABLE,
    MAIN_TABLE,
    PROTOCOL,
    SCOPE_LINK,
    TABLE_BASE,
    WIDE,
)
from nicwatchd.core.port import (
    AddressEvent,
    Event,
    FilterEvent,
    Ipv6Event,
    LinkEvent,
    NexthopEvent,
    RouteEvent,
    RuleEvent,
)
from nicwatchd.netlink import culprit
from nicwatchd.netlink.constants import (
    FRA_PRIORITY,
    FRA_PROTOCOL,
    IFA_ADDRESS,
    IFA_LOCAL,
    IFA_PROTO,
    IFF_UP,
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    NETCONFA_FORWARDING,
    NETCONFA_IFINDEX,
    NETCONFA_IFINDEX_ALL,
    NETCONFA_RP_FILTER,
    NHA_OIF,
    RTA_DST,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_TABLE,
    RTM_DELNEXTHOP,
    RTM_F_CLONED,
    RTM_NEWNEXTHOP,
    RTN_ANYCAST,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_UNICAST,
)
from nicwatchd.netlink.covering import Covering
from nicwatchd.netlink.hops import NEXTHOP, is_by_number_alone, links_of
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
)

if TYPE_CHECKING:
    from nicwatchd.core.model import IPAddress

# The kernel's route for multicast on a link comes and goes with IPv6 there: `addrconf_ifdown` takes
# the link's routes first, and then its addresses. (Seen with 6.18.)
MULTICAST: Final = (socket.AF_INET6, 8, LOCAL_TABLE, IPv6Address("ff00::").packed)
NETCONF: Final = 4  # bytes before the attributes: the family
RT_TABLE_COMPAT: Final = 252  # in the header: the number exceeds 255, see RTA_TABLE
# The kernel creates these for each address. They add nothing to the event of the address.
BESIDE_ADDRESSES: Final = {RTN_LOCAL, RTN_BROADCAST, RTN_ANYCAST, RTN_MULTICAST}


class Triage:
    """Messages -> events. Remembers the kind of each link, which never changes for an index."""

    def __init__(self) -> None:
        self._kinds: dict[int, str | None] = {}
        self.covering = Covering()  # the prefixes that are heeded in all tables

    def forget(self) -> None:
        """Forget all links: events were lost, so an index may belong to a new link."""
        self._kinds.clear()

    def event(self, message: Message) -> Event | None:
        """The event for a message; None if it cannot concern us."""
        if message.type in (RTM_NEWLINK, RTM_DELLINK):
            return self._link(message)
        if message.type in (RTM_NEWADDR, RTM_DELADDR):
            return _address(message)
        if message.type in (RTM_NEWROUTE, RTM_DELROUTE):
            return _route(message, self.covering)
        if message.type in (RTM_NEWRULE, RTM_DELRULE):
            return _rule(message)
        if message.type in (RTM_NEWNEXTHOP, RTM_DELNEXTHOP):
            return NexthopEvent(u32(find_attribute(message.body, NEXTHOP.size, NHA_OIF)))
        return _filter(message) if message.type == RTM_NEWNETCONF else None

    def _link(self, message: Message) -> LinkEvent:
        family, _, index, flags, _ = IFINFO.unpack_from(message.body)
        if family:
            # A bridge port or IPv6 settings have changed. "Deleted" means the port, not the link.
            return LinkEvent(index)
        if message.type == RTM_DELLINK:
            self._kinds.pop(index, None)
            return LinkEvent(index, gone=True)
        if index not in self._kinds:
            info = find_attribute(message.body, IFINFO.size, IFLA_LINKINFO) or b""
            kind = find_attribute(info, 0, IFLA_INFO_KIND)
            self._kinds[index] = text(kind) if kind else None
        name = find_attribute(message.body, IFINFO.size, IFLA_IFNAME) or b""  # comes first: cheap
        return LinkEvent(index, text(name), self._kinds[index], down=not flags & IFF_UP)


def _filter(message: Message) -> FilterEvent | None:
    """A message with all sysctls is about a link that has just come, which is read anyway."""
    found = attributes(message.body, NETCONF)
    if NETCONFA_RP_FILTER not in found or NETCONFA_FORWARDING in found:
        return None
    index = u32(found.get(NETCONFA_IFINDEX))
    return FilterEvent(0 if index == NETCONFA_IFINDEX_ALL else index)


def _address(message: Message) -> AddressEvent:
    _, _, _, scope, index = IFADDR.unpack_from(message.body)
    link_local = scope == SCOPE_LINK
    if message.type == RTM_NEWADDR:
        return AddressEvent(index, message.pid, link_local=link_local)
    found = attributes(message.body, IFADDR.size)
    ours = found.get(IFA_PROTO) == bytes([PROTOCOL]) and message.pid  # 0: see AddressEvent
    packed = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
    process = culprit.process_name(message.pid) if message.pid else ""
    return AddressEvent(
        index,
        message.pid,
        deleted=True,
        culprit=culprit.words(message.pid, process) if ours else "",
        link_local=link_local,
        ip=address(packed) if packed else None,
        process=process,
        stop=culprit.stop(message.pid) if ours else "",
    )


def _route(message: Message, covering: Covering) -> RouteEvent | NexthopEvent | Ipv6Event | None:
    number, length, _, _, table, protocol, _, kind, flags = ROUTE.unpack_from(message.body)
    if (number, length, table) == MULTICAST[:3] and message.type == RTM_DELROUTE:
        found = attributes(message.body, ROUTE.size)
        ends = found.get(RTA_DST) == MULTICAST[3]
        return Ipv6Event(u32(found.get(RTA_OIF))) if ends else None
    # A foreign rule may lead to any table, and then its routes to what is looked up decide.
    wide = length <= WIDE and table != LOCAL_TABLE
    heeded = table != LOCAL_TABLE and _is_in(covering, message.body, number, length)
    if (kind in BESIDE_ADDRESSES and not heeded) or flags & RTM_F_CLONED or number not in FAMILY:
        return None
    is_told = protocol == PROTOCOL or wide or heeded
    if not is_told and table not in (MAIN_TABLE, RT_TABLE_COMPAT):
        return None
    found = attributes(message.body, ROUTE.size)
    table = u32(found.get(RTA_TABLE), table)
    # A route of ours has our protocol, whatever its table. Tables from TABLE_BASE on may be ours.
    if not is_told and table != MAIN_TABLE and table < TABLE_BASE:
        return None
    host = _host(length, found) if table == MAIN_TABLE else None
    if table == MAIN_TABLE and kind == RTN_UNICAST and is_by_number_alone(found):
        return NexthopEvent(0, host, heeded)
    deleted = message.type == RTM_DELROUTE
    lost = deleted and protocol == PROTOCOL
    return RouteEvent(
        FAMILY[number],
        table,
        protocol,
        u32(found.get(RTA_OIF)),
        deleted,
        message.pid,
        culprit.culprit(message.pid) if lost else "",
        links_of(found) if RTA_MULTIPATH in found else (),
        host,
        wide=wide,
        error=wide and table == MAIN_TABLE and kind in ERRORS,
        heeded=heeded,
        stop=culprit.stop(message.pid) if lost else "",
    )


def _is_in(covering: Covering, body: bytes, number: int, length: int) -> bool:
    return (number, length, find_attribute(body, ROUTE.size, RTA_DST)) in covering


def _host(length: int, found: dict[int, bytes]) -> IPAddress | None:
    """The destination, if it is one address."""
    packed = found.get(RTA_DST, b"")
    return address(packed) if packed and length == 8 * len(packed) else None


def _rule(message: Message) -> RuleEvent | None:
    family = FAMILY.get(RULE.unpack_from(message.body)[0])
    if family is None:
        return None  # a rule of multicast routing
    found = attributes(message.body, RULE.size)
    protocol = found.get(FRA_PROTOCOL, b"\0")[0]
    deleted = message.type == RTM_DELRULE
    lost = deleted and protocol == PROTOCOL
    return RuleEvent(
        family,
        u32(found.get(FRA_PRIORITY)),
        protocol,
        deleted,
        message.pid,
        culprit.culprit(message.pid) if lost else "",
        culprit.stop(message.pid) if lost else "",
    )
