"""Operations -> requests. Each verb sets every field that is part of an object's identity.

Only objects of our protocol can be encoded: what others put into the kernel is out of reach of
this module, whatever its callers get wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    RTM_SETLINK,
)

from nicwatchd.core.model import (
    PROTOCOL,
    SCOPE_UNIVERSE,
    AddAddress,
    AddRoute,
    AddRule,
    Family,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    SetGroup,
    SetUp,
)
from nicwatchd.netlink.constants import (
    FRA_DST,
    FRA_FWMARK,
    FRA_FWMASK,
    FRA_IIFNAME,
    FRA_OIFNAME,
    FRA_PRIORITY,
    FRA_PROTOCOL,
    FRA_SRC,
    FRA_SUPPRESS_IFGROUP,
    FRA_SUPPRESS_PREFIXLEN,
    FRA_TABLE,
    IFA_ADDRESS,
    IFA_CACHEINFO,
    IFA_F_NODAD,
    IFA_F_NOPREFIXROUTE,
    IFA_FLAGS,
    IFA_LOCAL,
    IFA_PROTO,
    IFF_UP,
    IFLA_GROUP,
    RTA_DST,
    RTA_GATEWAY,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTA_TABLE,
    RTN_UNICAST,
    RTNH_F_ONLINK,
)
from nicwatchd.netlink.wire import (
    ADDRESS_FAMILY,
    CACHEINFO,
    FOREVER,
    IFADDR,
    IFINFO,
    ROUTE,
    RULE,
    attribute,
    attribute_u8,
    attribute_u32,
)

if TYPE_CHECKING:
    from nicwatchd.core.model import IPAddress, Route, Rule

ADD: Final = NLM_F_CREATE | NLM_F_EXCL
REPLACE: Final = NLM_F_CREATE | NLM_F_REPLACE
# EC2 answers for its own addresses: detection finds no duplicates, it only delays. Without a
# preferred lifetime an added address is never chosen as the source of unbound traffic.
V6_FLAGS: Final = attribute_u32(IFA_FLAGS, IFA_F_NOPREFIXROUTE | IFA_F_NODAD)
V6_LIFETIME: Final = attribute(IFA_CACHEINFO, CACHEINFO.pack(0, FOREVER, 0, 0))
V4_FLAGS: Final = attribute_u32(IFA_FLAGS, IFA_F_NOPREFIXROUTE)
ADDRESS_MARK: Final = attribute_u8(IFA_PROTO, PROTOCOL)  # kernels before 5.18 ignore it


class Request(NamedTuple):
    """A message to be: its type, its flags beside NLM_F_REQUEST, its body."""

    type: int
    flags: int
    body: bytes


def encode(operation: Operation) -> Request:
    """The request that carries an operation out; `ValueError` for an object that is not ours."""
    flags = 0
    match operation:
        case SetGroup(index, group):
            kind = RTM_SETLINK
            body = IFINFO.pack(0, 0, index, 0, 0) + attribute_u32(IFLA_GROUP, group)
        case SetUp(index):
            kind, body = RTM_SETLINK, IFINFO.pack(0, 0, index, IFF_UP, IFF_UP)
        case AddAddress(index, ip):
            kind, flags, body = RTM_NEWADDR, ADD, _new_address(index, ip)
        case RemoveAddress(index, ip, prefixlen):
            kind, body = RTM_DELADDR, _address(index, ip, prefixlen)
        case AddRoute(route, replace):
            kind, flags, body = RTM_NEWROUTE, REPLACE if replace else ADD, _route(route)
        case RemoveRoute(route):
            kind, body = RTM_DELROUTE, _route(route)
        case AddRule(rule):
            kind, flags, body = RTM_NEWRULE, ADD, _rule(rule)
        case RemoveRule(rule):
            kind, body = RTM_DELRULE, _rule(rule)
    return Request(kind, flags, body)


def _address(index: int, ip: IPAddress, prefixlen: int) -> bytes:
    family = ADDRESS_FAMILY[Family(ip.version)]
    header = IFADDR.pack(family, prefixlen, 0, SCOPE_UNIVERSE, index)
    return header + attribute(IFA_LOCAL, ip.packed) + attribute(IFA_ADDRESS, ip.packed)


def _new_address(index: int, ip: IPAddress) -> bytes:
    v4 = Family(ip.version) is Family.V4
    extra = V4_FLAGS if v4 else V6_FLAGS + V6_LIFETIME
    return _address(index, ip, ip.max_prefixlen) + extra + ADDRESS_MARK


def _ours(protocol: int) -> int:
    if protocol != PROTOCOL:
        raise ValueError(f"protocol {protocol} is not ours ({PROTOCOL}): hands off")
    return protocol


def _route(route: Route) -> bytes:
    parts = [
        ROUTE.pack(
            ADDRESS_FAMILY[route.family],
            route.dst.prefixlen,
            0,
            0,
            0,
            _ours(route.protocol),
            route.scope,
            RTN_UNICAST,
            RTNH_F_ONLINK if route.onlink else 0,
        ),
        attribute_u32(RTA_TABLE, route.table),
        attribute_u32(RTA_OIF, route.oif),
    ]
    if route.dst.prefixlen:
        parts.append(attribute(RTA_DST, route.dst.network_address.packed))
    if route.gateway is not None:
        parts.append(attribute(RTA_GATEWAY, route.gateway.packed))
    if route.prefsrc is not None:
        parts.append(attribute(RTA_PREFSRC, route.prefsrc.packed))
    if route.metric:
        parts.append(attribute_u32(RTA_PRIORITY, route.metric))
    return b"".join(parts)


def _rule(rule: Rule) -> bytes:
    src_len = rule.src.prefixlen if rule.src else 0
    dst_len = rule.dst.prefixlen if rule.dst else 0
    family = ADDRESS_FAMILY[rule.family]
    parts = [
        RULE.pack(family, dst_len, src_len, 0, 0, 0, 0, rule.action, 0),
        attribute_u32(FRA_PRIORITY, rule.priority),
        attribute_u32(FRA_TABLE, rule.table),
        attribute_u8(FRA_PROTOCOL, _ours(rule.protocol)),
    ]
    for kind, prefix in ((FRA_SRC, rule.src), (FRA_DST, rule.dst)):
        if prefix is not None:
            parts.append(attribute(kind, prefix.network_address.packed))
    for kind, name in ((FRA_IIFNAME, rule.iif), (FRA_OIFNAME, rule.oif)):
        if name is not None:
            parts.append(attribute(kind, name.encode(errors="surrogateescape") + b"\0"))
    for kind, number in (
        (FRA_FWMARK, rule.fwmark),
        (FRA_FWMASK, rule.fwmask),
        (FRA_SUPPRESS_PREFIXLEN, rule.suppress_prefixlength),
        (FRA_SUPPRESS_IFGROUP, rule.suppress_ifgroup),
    ):
        if number is not None:
            parts.append(attribute_u32(kind, number))
    return b"".join(parts)
