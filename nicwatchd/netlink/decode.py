"""Message bodies -> model. `None` for objects that the model leaves out on purpose."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from nicwatchd.core.addresses import address, network
from nicwatchd.core.model import (
    ERRORS,
    SCOPE_UNIVERSE,
    THROW,
    Address,
    Family,
    Link,
    Route,
    Rule,
)
from nicwatchd.netlink.constants import (
    DEVCONF_DISABLE_IPV6,
    FIB_RULE_INVERT,
    FRA_DST,
    FRA_EXOTIC,
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
    IF_RA_MANAGED,
    IF_RA_RCVD,
    IFA_ADDRESS,
    IFA_CACHEINFO,
    IFA_F_DADFAILED,
    IFA_F_DEPRECATED,
    IFA_F_STABLE_PRIVACY,
    IFA_F_TEMPORARY,
    IFA_F_TENTATIVE,
    IFA_FLAGS,
    IFA_LOCAL,
    IFA_PROTO,
    IFAPROT_KERNEL_RA,
    IFF_LOWER_UP,
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_AF_INET6,
    IFLA_AF_SPEC,
    IFLA_GROUP,
    IFLA_IFNAME,
    IFLA_INET6_CONF,
    IFLA_INET6_FLAGS,
    IFLA_INFO_KIND,
    IFLA_LINK,
    IFLA_LINK_NETNSID,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MAX_MTU,
    IFLA_MTU,
    RTA_CACHEINFO,
    RTA_DST,
    RTA_METRICS,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTA_TABLE,
    RTM_F_CLONED,
    RTN_UNICAST,
)
from nicwatchd.netlink.hops import Nexthops, is_by_number_alone, read_hops
from nicwatchd.netlink.once import Once
from nicwatchd.netlink.wire import (
    CACHEINFO,
    FAMILY,
    FOREVER,
    IFADDR,
    IFINFO,
    ROUTE,
    ROUTE_CACHEINFO,
    RULE,
    attributes,
    find_attribute,
    text,
    u32,
)

NO_OBJECTS: Final = Nexthops()


def decode_link(body: bytes) -> Link:
    """RTM_NEWLINK of family AF_UNSPEC. The driver of a virtual link is its kind.

    The message does not name the driver of hardware: see `nicwatchd.netlink.driver`.
    """
    _, _, index, flags, _ = IFINFO.unpack_from(body)
    found = attributes(body, IFINFO.size)
    info = attributes(found.get(IFLA_LINKINFO, b""), 0)
    # The kernel names here what it has on the link. Without IPv6 on the host, or with an MTU too
    # small for it, there is no AF_INET6.
    protocols = attributes(found.get(IFLA_AF_SPEC, b""), 0)
    inet6 = attributes(protocols.get(IFLA_AF_INET6, b""), 0)
    ra = u32(inet6.get(IFLA_INET6_FLAGS))
    kind = text(info[IFLA_INFO_KIND]) if IFLA_INFO_KIND in info else None
    # In another network namespace the number is another link's, or nobody's.
    lower = 0 if IFLA_LINK_NETNSID in found else u32(found.get(IFLA_LINK))
    return Link(
        index=index,
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        name=text(found[IFLA_IFNAME]),
        up=bool(flags & IFF_UP),
        running=bool(flags & IFF_LOWER_UP),
        kind=kind,
        driver=kind,
        group=u32(found.get(IFLA_GROUP)),
        master=u32(found.get(IFLA_MASTER)),
        lower=lower,
        ra_received=bool(ra & IF_RA_RCVD),
        ra_managed=bool(ra & IF_RA_MANAGED),
        mtu=u32(found.get(IFLA_MTU)),
        max_mtu=u32(found.get(IFLA_MAX_MTU)),
        has_ipv6=IFLA_AF_INET6 in protocols,
        disable_ipv6=_sysctl(inet6.get(IFLA_INET6_CONF, b""), DEVCONF_DISABLE_IPV6) != 0,
    )


def _sysctl(conf: bytes, place: int) -> int:
    """One of a link's sysctls; 0 for those that the kernel does not have."""
    return u32(conf[4 * place : 4 * place + 4] or None)


def decode_address(body: bytes) -> Address | None:
    """RTM_NEWADDR.

    `from_ra`: since 5.18 the kernel reports it in IFA_PROTO. Older kernels reveal it only by the
    flags of temporary and stable-privacy addresses; a plain EUI-64 address is taken for one from
    DHCP. EC2 advertises no prefix for autoconfiguration.
    """
    number, prefixlen, flags, scope, index = IFADDR.unpack_from(body)
    family = FAMILY.get(number)
    found = attributes(body, IFADDR.size)
    # On a point-to-point link IFA_ADDRESS is the peer's; on others IPv6 omits IFA_LOCAL.
    ip = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
    if family is None or ip is None:
        return None
    flags = u32(found.get(IFA_FLAGS), flags)
    protocol = found.get(IFA_PROTO, b"\0")[0]
    preferred, valid = FOREVER, FOREVER
    if IFA_CACHEINFO in found:
        preferred, valid, _, _ = CACHEINFO.unpack_from(found[IFA_CACHEINFO])
    autoconf = family is Family.V6 and bool(flags & (IFA_F_TEMPORARY | IFA_F_STABLE_PRIVACY))
    return Address(
        index=index,
        ip=address(ip),
        prefixlen=prefixlen,
        scope=scope,
        dynamic=valid != FOREVER,
        deprecated=preferred == 0 or bool(flags & IFA_F_DEPRECATED),
        tentative=bool(flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)),
        from_ra=protocol == IFAPROT_KERNEL_RA or autoconf,
        protocol=protocol,
    )


def _address_lasts(body: bytes) -> bool:
    times = find_attribute(body, IFADDR.size, IFA_CACHEINFO)
    return times is None or {*CACHEINFO.unpack_from(times)[:2]} <= {0, FOREVER}


def _route_lasts(body: bytes) -> bool:
    times = find_attribute(body, ROUTE.size, RTA_CACHEINFO)
    return times is None or not ROUTE_CACHEINFO.unpack_from(times)[2]


def decode_route_or_body(body: bytes) -> Route | bytes | None:
    """RTM_NEWROUTE, as `decode_route`; the body itself if that needs the next-hop objects."""
    route = decode_route(body)
    *_, kind, _ = ROUTE.unpack_from(body)
    if route is None and kind == RTN_UNICAST:
        return body if is_by_number_alone(attributes(body, ROUTE.size)) else None
    return route


def decode_any_route(body: bytes) -> Route | bytes | None:
    """RTM_NEWROUTE, as `decode_route_or_body`, or an error or throw route, which leads nowhere."""
    number, dst_len, src_len, tos, table, protocol, _, kind, flags = ROUTE.unpack_from(body)
    family = FAMILY.get(number)
    if kind == RTN_UNICAST:
        return read_route(body)
    if family is None or kind not in (*ERRORS, THROW) or flags & RTM_F_CLONED or src_len:
        return None
    found = attributes(body, ROUTE.size)
    return Route(
        dst=network(family, found.get(RTA_DST), dst_len),
        table=u32(found.get(RTA_TABLE), table),
        oif=u32(found.get(RTA_OIF)),  # IPv6 has `lo` here
        protocol=protocol,
        metric=u32(found.get(RTA_PRIORITY)),
        tos=tos,
        kind=kind,
    )


def decode_route(body: bytes, nexthops: Nexthops = NO_OBJECTS) -> Route | None:
    """RTM_NEWROUTE. None unless it is a unicast route by destination that fits the model."""
    number, dst_len, src_len, tos, table, protocol, scope, kind, flags = ROUTE.unpack_from(body)
    family = FAMILY.get(number)
    found = attributes(body, ROUTE.size)
    if family is None or kind != RTN_UNICAST or flags & RTM_F_CLONED or src_len:
        return None
    hops = read_hops(found, flags, nexthops)
    if not hops:
        return None
    several = len(hops) > 1
    prefsrc = found.get(RTA_PREFSRC)
    return Route(
        dst=network(family, found.get(RTA_DST), dst_len),
        table=u32(found.get(RTA_TABLE), table),
        oif=hops[0].oif,
        protocol=protocol,
        gateway=None if several else hops[0].gateway,
        prefsrc=address(prefsrc) if prefsrc else None,
        metric=u32(found.get(RTA_PRIORITY)),
        scope=scope if family is Family.V4 else SCOPE_UNIVERSE,
        onlink=not several and hops[0].onlink,
        tos=tos,
        metrics=found.get(RTA_METRICS, b""),
        hops=hops if several else (),
    )


@lru_cache(maxsize=16384)  # every dump repeats the same rules, and a host may have thousands
def decode_rule(body: bytes) -> Rule | None:
    """RTM_NEWRULE. Leaves out selectors that only foreign rules have (ports, TOS, UIDs, ...)."""
    number, dst_len, src_len, tos, table, _, _, action, flags = RULE.unpack_from(body)
    family = FAMILY.get(number)
    if family is None:
        return None  # a rule of multicast routing
    found = attributes(body, RULE.size)
    src, dst = found.get(FRA_SRC), found.get(FRA_DST)
    iif, oif = found.get(FRA_IIFNAME), found.get(FRA_OIFNAME)
    return Rule(
        family=family,
        priority=u32(found.get(FRA_PRIORITY)),
        table=u32(found.get(FRA_TABLE), table),
        protocol=found.get(FRA_PROTOCOL, b"\0")[0],
        src=network(family, src, src_len) if src else None,
        dst=network(family, dst, dst_len) if dst else None,
        iif=text(iif) if iif else None,
        oif=text(oif) if oif else None,
        fwmark=_optional(found.get(FRA_FWMARK)),
        fwmask=_optional(found.get(FRA_FWMASK)),
        suppress_prefixlength=_unless_none(found.get(FRA_SUPPRESS_PREFIXLEN)),
        suppress_ifgroup=_unless_none(found.get(FRA_SUPPRESS_IFGROUP)),
        inverted=bool(flags & FIB_RULE_INVERT),
        exotic=bool(tos) or not FRA_EXOTIC.isdisjoint(found),
        action=action,
    )


# A host may have 64 ENIs with 64 addresses of each family, and containers.
read_address: Final = Once(decode_address, _address_lasts, 16384)
read_route: Final = Once(decode_route_or_body, _route_lasts, 4096)


def _optional(payload: bytes | None) -> int | None:
    return None if payload is None else u32(payload)


def _unless_none(payload: bytes | None) -> int | None:
    value = u32(payload, FOREVER)
    return None if value == FOREVER else value
