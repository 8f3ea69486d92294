"""Objects and operations in words: as `ip` prints them, and as commands for `ip`.

All messages about rules, routes, addresses and operations take their words from here. So they can
be compared with the output of `ip`, and tried by hand.

Reads: objects of the model. Gives: text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from shlex import join
from struct import Struct
from sys import byteorder
from typing import Final, TypeAlias

from nicwatchd.core.forwarding import GONE, TABLE
from nicwatchd.core.model import (
    ALL_BITS,
    ERRORS,
    SCOPE_LINK,
    SCOPE_UNIVERSE,
    THROW,
    UNICAST,
    AddAddress,
    Address,
    AddRoute,
    AddRule,
    Family,
    IPAddress,
    IPNetwork,
    Link,
    OfKernel,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    RemoveRuleset,
    Route,
    Rule,
    SetGroup,
    SetRuleset,
    SetUp,
)

NameOf: TypeAlias = Callable[[int], str | None]
"""A link's name by its ifindex, None for a link that is gone; for example the `get` of a dict."""

# The names that `ip` knows without its files in /etc/iproute2.
TABLES: Final = {253: "default", 254: "main", 255: "local"}
PROTOCOLS: Final = {2: "kernel", 3: "boot", 4: "static", 9: "ra", 16: "dhcp"}
SCOPES: Final = {SCOPE_UNIVERSE: "global", SCOPE_LINK: "link", 254: "host"}
GROUPS: Final = {0: "default"}
ROUTE_KINDS: Final = {**ERRORS, THROW: "throw"}
ACTIONS: Final = {2: "goto", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
UNTOLD: Final = (0, 2, 3)  # protocols of rules that `ip` does not print: none, kernel, boot
# RTAX_* of linux/rtnetlink.h: what RTA_METRICS is made of, in netlink's attributes.
RTAX_LOCK, RTAX_FEATURES, RTAX_RTO_MIN, RTAX_CC_ALGO = 1, 12, 13, 16
METRICS: Final = {
    2: "mtu",
    3: "window",
    4: "rtt",
    5: "rttvar",
    6: "ssthresh",
    7: "cwnd",
    8: "advmss",
    9: "reordering",
    10: "hoplimit",
    11: "initcwnd",
    12: "features",
    13: "rto_min",
    14: "initrwnd",
    15: "quickack",
    16: "congctl",
    17: "fastopen_no_cookie",
}
LOCKED_BY_ITSELF: Final = (RTAX_RTO_MIN,)  # `ip` has no word for it
FEATURE_ECN: Final = 1
ATTRIBUTE: Final = Struct("=HH")


def names_in(links: Mapping[int, Link]) -> NameOf:
    """The names of these links."""

    def name_of(index: int) -> str | None:
        link = links.get(index)
        return link.name if link else None

    return name_of


def device(index: int, name_of: NameOf) -> str:
    """A link's name; for a link that is gone `if7`, which `ip` prints and accepts too."""
    return name_of(index) or f"if{index}"


# --- objects -----------------------------------------------------------------------------------


def rule_text(rule: Rule) -> str:
    """`32765: from 10.0.2.10 lookup 1000959 proto 236`; as with `ip`, the family is not in it."""
    return f"{rule.priority}: {' '.join(rule_words(rule))}"


def route_text(route: Route, name_of: NameOf) -> str:
    """`default via 10.0.2.1 dev eth1 table 1000959 proto 236 src 10.0.2.10 onlink`."""
    return " ".join(route_words(route, name_of, in_table=True))


def address_text(address: Address, name_of: NameOf) -> str:
    """`10.0.2.10/24 dev eth1`."""
    return f"{address.ip}/{address.prefixlen} dev {device(address.index, name_of)}"


def group_text(group: int) -> str:
    """A link group: `group 3778`."""
    return f"group {_named(GROUPS, group)}"


def brief(operation: Operation) -> str:
    """The object of an operation, briefly: `the IPv4 rule 32765 (oif eth1)`."""
    match operation:
        case AddAddress(ip=ip) | RemoveAddress(ip=ip):
            return f"the address {ip}"
        case AddRoute(route=route) | RemoveRoute(route=route):
            return f"the route to {route.dst} in table {route.table}"
        case AddRule(rule=rule) | RemoveRule(rule=rule):
            mark = None if rule.fwmark is None else f"{rule.fwmark:#x}/{rule.fwmask:#x}"
            words = (("iif", rule.iif), ("from", rule.src), ("oif", rule.oif), ("fwmark", mark))
            selector = " ".join(f"{word} {value}" for word, value in words if value)
            return f"the {rule.family.label} rule {rule.priority} ({selector})"
        case SetGroup(group=group):
            return f"the link group {group}"
        case SetUp():
            return "the link's being up"
        case SetRuleset() | RemoveRuleset():
            return f"the nftables table {TABLE}"


def rule_words(rule: Rule) -> list[str]:
    """What `ip rule` prints after the priority."""
    words = ["not"] if rule.inverted else []
    words += ["from", _prefix(rule.src) if rule.src else "all"]
    if rule.dst:
        words += ["to", _prefix(rule.dst)]
    if rule.fwmark is not None:
        mask = "" if rule.fwmask in (None, ALL_BITS) else f"/{rule.fwmask:#x}"
        words += ["fwmark", f"{rule.fwmark:#x}{mask}"]
    if rule.iif:
        words += ["iif", rule.iif]
    if rule.oif:
        words += ["oif", rule.oif]
    if rule.action in ACTIONS:
        words.append(ACTIONS[rule.action])
    else:
        words += ["lookup", _named(TABLES, rule.table)]
    if rule.suppress_prefixlength is not None:
        words += ["suppress_prefixlength", str(rule.suppress_prefixlength)]
    if rule.suppress_ifgroup is not None:
        words += ["suppress_ifgroup", _named(GROUPS, rule.suppress_ifgroup)]
    if rule.protocol not in UNTOLD:
        words += ["proto", _named(PROTOCOLS, rule.protocol)]
    return words


def route_words(route: Route, name_of: NameOf, *, in_table: bool) -> list[str]:
    """What `ip route` prints; `in_table`: with the table, which `show table N` leaves out."""
    kind = [ROUTE_KINDS[route.kind]] if route.kind != UNICAST else []
    words = [*kind, _prefix(route.dst) if route.dst.prefixlen else "default"]
    if route.tos:
        words += ["tos", f"{route.tos:#04x}"]
    if route.oif and not route.hops:
        words += _via(route.gateway, route.family)
        words += ["dev", device(route.oif, name_of)]
    if in_table:
        words += ["table", _named(TABLES, route.table)]
    words += ["proto", _named(PROTOCOLS, route.protocol)]
    if route.scope != SCOPE_UNIVERSE:
        words += ["scope", _named(SCOPES, route.scope)]
    if route.prefsrc:
        words += ["src", str(route.prefsrc)]
    if route.metric:
        words += ["metric", str(route.metric)]
    if route.onlink:
        words.append("onlink")
    words += _metrics(route.metrics)
    for hop in route.hops:
        words += ["nexthop", *_via(hop.gateway, route.family), "dev", device(hop.oif, name_of)]
        words += ["weight", str(hop.weight), *(["onlink"] if hop.onlink else [])]
    return words


def _via(gateway: IPAddress | None, family: Family) -> list[str]:
    if gateway is None:
        return []
    return ["via", *([] if gateway.version == family else [f"inet{gateway.version}"]), str(gateway)]


def _metrics(payload: bytes) -> list[str]:
    """The metrics of a route, with numbers as the kernel holds them, which `ip` takes as well."""
    found = dict(_attributes(payload))
    locked = int.from_bytes(found.pop(RTAX_LOCK, b""), byteorder)
    words: list[str] = []
    for kind, value in found.items():
        name = METRICS.get(kind, f"metric{kind}")
        lock = ["lock"] if locked >> kind & 1 and kind not in LOCKED_BY_ITSELF else []
        words += [name, *lock, _metric(kind, value)]
    return words


def _metric(kind: int, value: bytes) -> str:
    if kind == RTAX_CC_ALGO:
        return value.rstrip(b"\0").decode(errors="replace")
    number = int.from_bytes(value, byteorder)
    return "ecn" if kind == RTAX_FEATURES and number == FEATURE_ECN else str(number)


def _attributes(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """Netlink attributes, by type."""
    while len(payload) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(payload)
        if length < ATTRIBUTE.size:
            return
        yield kind, payload[ATTRIBUTE.size : length]
        payload = payload[(length + 3) & ~3 :]


# --- operations --------------------------------------------------------------------------------


def command(operation: Operation, name_of: NameOf) -> str:
    """The command that does the same as an operation, to be pasted into a shell.

    It leaves out the mark of an address (IFA_PROTO): the `ip` of Debian 12 (6.1) has no option for
    it, and rejects that of later versions. So an address added by it counts as the operator's own.
    """
    match operation:
        case SetRuleset(text=text):
            return join(["nft", " ".join(text.splitlines())])
        case RemoveRuleset():
            return join(["nft", " ".join(GONE.splitlines())])
    return join(["ip", *_arguments(operation, name_of)])


def _arguments(operation: OfKernel, name_of: NameOf) -> list[str]:
    match operation:
        case SetGroup(index, group):
            return ["link", "set", "dev", device(index, name_of), *group_text(group).split()]
        case SetUp(index, mtu):
            more = [] if mtu is None else ["mtu", str(mtu)]
            return ["link", "set", "dev", device(index, name_of), *more, "up"]
        case AddAddress(index, ip, preferred, replace):
            v6 = Family(ip.version) is Family.V6
            lifetime = [] if preferred else ["preferred_lft", "0"]
            verb = "replace" if replace else "add"
            added = _address(verb, index, ip, ip.max_prefixlen, name_of)
            return [*added, *([*lifetime, "nodad"] if v6 else []), "noprefixroute"]
        case RemoveAddress(index, ip, prefixlen):
            return _address("del", index, ip, prefixlen, name_of)
        case AddRoute(route, replace):
            return _route("replace" if replace else "add", route, name_of)
        case RemoveRoute(route):
            return _route("del", route, name_of)
        case AddRule(rule):
            return _rule("add", rule)
        case RemoveRule(rule):
            return _rule("del", rule)


def _address(verb: str, index: int, ip: IPAddress, prefixlen: int, name_of: NameOf) -> list[str]:
    family = _family(Family(ip.version))
    return [*family, "addr", verb, f"{ip}/{prefixlen}", "dev", device(index, name_of)]


def _route(verb: str, route: Route, name_of: NameOf) -> list[str]:
    words = route_words(route, name_of, in_table=True)
    if route.family is Family.V4 and route.scope == SCOPE_UNIVERSE and route.is_on_link:
        words += ["scope", SCOPES[SCOPE_UNIVERSE]]  # without a router `ip` assumes `scope link`
    return [*_family(route.family), "route", verb, *words]


def _rule(verb: str, rule: Rule) -> list[str]:
    words = ["pref", str(rule.priority), *rule_words(rule)]
    return [*_family(rule.family), "rule", verb, *words]


def _family(family: Family) -> list[str]:
    return ["-6"] if family is Family.V6 else []  # IPv4 goes without saying


def _prefix(prefix: IPNetwork) -> str:
    alone = prefix.prefixlen == prefix.max_prefixlen
    return str(prefix.network_address if alone else prefix)


def _named(names: Mapping[int, str], number: int) -> str:
    return names.get(number, str(number))
