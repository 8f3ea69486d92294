"""Operations -> requests, built by pyroute2's message classes (see `nicwatchd.netlink.shapes`).

Each request sets every field that is part of the object's identity. Only objects with our protocol
can be encoded, so whatever a caller gets wrong, this module cannot touch what others configured.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from socket import AF_UNSPEC
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
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from nicwatchd.core.model import (
    LOCAL_TABLE,
    MAIN_TABLE,
    PROTOCOL,
    SCOPE_UNIVERSE,
    AddAddress,
    AddRoute,
    AddRule,
    OfKernel,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    SetGroup,
    SetUp,
)
from nicwatchd.netlink.constants import (
    IFA_F_NODAD,
    IFA_F_NOPREFIXROUTE,
    IFF_UP,
    NLA_F_NESTED,
    RTA_METRICS,
    RTN_UNICAST,
    RTNH_F_ONLINK,
)
from nicwatchd.netlink.hops import write_gateway, write_hops
from nicwatchd.netlink.shapes import splice
from nicwatchd.netlink.wire import FAMILY_OF_VERSION, FOREVER, attribute

if TYPE_CHECKING:
    from nicwatchd.core.model import IPAddress, Route, Rule
    from nicwatchd.netlink.shapes import Attributes, Write

# Where the kernel's own rules and routes are.
KERNELS_PRIORITIES: Final = (0, 32766, 32767)
KERNELS_TABLES: Final = (253, MAIN_TABLE, LOCAL_TABLE)
ADD: Final = NLM_F_CREATE | NLM_F_EXCL
REPLACE: Final = NLM_F_CREATE | NLM_F_REPLACE
# No duplicate address detection: EC2 assigns each address once, so it would only cause a delay.
# With a preferred lifetime of 0, the kernel never selects the address as a source by itself.
V6_LIFETIME: Final = (("ifa_preferred", 0), ("ifa_valid", FOREVER), ("cstamp", 0), ("tstamp", 0))
V6_PREFERRED: Final = (("ifa_preferred", FOREVER), *V6_LIFETIME[1:])


class Request(NamedTuple):
    """A message to send: its type, its flags in addition to NLM_F_REQUEST, its body."""

    type: int
    flags: int
    body: bytes


def encode(operation: OfKernel, write: Write = splice) -> Request:
    """The request that carries out an operation; `ValueError` for an object that is not ours."""
    flags = 0
    match operation:
        case SetGroup(index, group):
            kind, body = RTM_SETLINK, write(ifinfmsg, _link(index), {"IFLA_GROUP": group})
        case SetUp(index, mtu):
            up = {**_link(index), "flags": IFF_UP, "change": IFF_UP}
            kind, body = RTM_SETLINK, write(ifinfmsg, up, {"IFLA_MTU": mtu})
        case AddAddress(index, ip, preferred, replace):
            kind, flags = RTM_NEWADDR, REPLACE if replace else ADD
            body = _new_address(index, ip, write, preferred=preferred)
        case RemoveAddress(index, ip, prefixlen):
            kind, body = RTM_DELADDR, _address(index, ip, prefixlen, {}, write)
        case AddRoute(route, replace):
            kind, flags, body = RTM_NEWROUTE, REPLACE if replace else ADD, _route(route, write)
        case RemoveRoute(route):
            kind, body = RTM_DELROUTE, _route(route, write)
        case AddRule(rule):
            kind, flags, body = RTM_NEWRULE, NLM_F_CREATE, _rule(_unlocked(rule), write)
        case RemoveRule(rule):
            kind, body = RTM_DELRULE, _rule(rule, write)
    return Request(kind, flags, body)


def _link(index: int) -> dict[str, int]:
    return {"family": AF_UNSPEC, "index": index}


def _new_address(index: int, ip: IPAddress, write: Write, *, preferred: bool) -> bytes:
    v4 = isinstance(ip, IPv4Address)
    extra: Attributes = {
        "IFA_FLAGS": IFA_F_NOPREFIXROUTE if v4 else IFA_F_NOPREFIXROUTE | IFA_F_NODAD,
        "IFA_CACHEINFO": None if v4 else V6_PREFERRED if preferred else V6_LIFETIME,
        "IFA_PROTO": PROTOCOL,  # kernels before 5.18 ignore it
    }
    return _address(index, ip, ip.max_prefixlen, extra, write)


def _address(index: int, ip: IPAddress, prefixlen: int, extra: Attributes, write: Write) -> bytes:
    fields = {
        "family": FAMILY_OF_VERSION[ip.version],
        "prefixlen": prefixlen,
        "scope": SCOPE_UNIVERSE,
        "index": index,
    }
    return write(ifaddrmsg, fields, {"IFA_LOCAL": ip, "IFA_ADDRESS": ip, **extra})


def _ours(protocol: int) -> int:
    if protocol != PROTOCOL:
        raise ValueError(f"protocol {protocol} is not ours ({PROTOCOL}): not touched")
    return protocol


def _route(route: Route, write: Write) -> bytes:
    fields = {
        "family": FAMILY_OF_VERSION[route.dst.version],
        "dst_len": route.dst.prefixlen,
        "tos": route.tos,
        "proto": _ours(route.protocol),
        "scope": route.scope,
        "type": RTN_UNICAST,
        "flags": RTNH_F_ONLINK if route.onlink else 0,
    }
    attributes: Attributes = {
        "RTA_TABLE": route.table,
        "RTA_OIF": None if route.hops else route.oif,
        "RTA_DST": route.dst.network_address if route.dst.prefixlen else None,
        "RTA_PREFSRC": route.prefsrc,
        "RTA_PRIORITY": route.metric or None,
    }
    body = write(rtmsg, fields, attributes) + write_gateway(route.gateway, route.family)
    if route.metrics:
        body += attribute(RTA_METRICS | NLA_F_NESTED, route.metrics)
    return body + write_hops(route.hops, route.family)


def _unlocked(rule: Rule) -> Rule:
    """The rule, unless a plan that asks for it must be wrong: the lock at the last door."""
    if rule.priority in KERNELS_PRIORITIES:
        raise ValueError(f"priority {rule.priority} is the kernel's: not touched")
    guard = rule.suppress_prefixlength is not None or rule.dst is not None
    marked = rule.fwmark is not None and bool(rule.fwmask)  # of the primary's connections
    if rule.table in KERNELS_TABLES and not (
        (rule.table == MAIN_TABLE and (guard or marked))
        or (rule.table == LOCAL_TABLE and _selects(rule))
    ):
        raise ValueError(f"a rule of ours that leads all to table {rule.table}: not added")
    return rule


def _selects(rule: Rule) -> bool:
    return any(each is not None for each in (rule.src, rule.iif, rule.oif, rule.fwmark))


def _rule(rule: Rule, write: Write) -> bytes:
    fields = {
        "family": FAMILY_OF_VERSION[int(rule.family)],
        "dst_len": rule.dst.prefixlen if rule.dst else 0,
        "src_len": rule.src.prefixlen if rule.src else 0,
        "action": rule.action,
    }
    attributes: Attributes = {
        "FRA_PRIORITY": rule.priority,
        "FRA_TABLE": rule.table,
        "FRA_PROTOCOL": _ours(rule.protocol),
        "FRA_SRC": rule.src.network_address if rule.src else None,
        "FRA_DST": rule.dst.network_address if rule.dst else None,
        "FRA_IIFNAME": _name(rule.iif),
        "FRA_OIFNAME": _name(rule.oif),
        "FRA_FWMARK": rule.fwmark,
        "FRA_FWMASK": rule.fwmask,
        "FRA_SUPPRESS_PREFIXLEN": rule.suppress_prefixlength,
        "FRA_SUPPRESS_IFGROUP": rule.suppress_ifgroup,
    }
    return write(fibmsg, fields, attributes)


def _name(link: str | None) -> bytes | None:
    """A link's name as `wire.text` decoded it: it need not be UTF-8."""
    return None if link is None else link.encode(errors="surrogateescape")
