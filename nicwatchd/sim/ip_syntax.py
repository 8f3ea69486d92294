"""Objects of the model as the `ip` command prints them, one a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nicwatchd.core.model import SCOPE_LINK, SCOPE_UNIVERSE, Family

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nicwatchd.core.model import Address, IPNetwork, Link, Route, Rule

TABLES: Final = {253: "default", 254: "main", 255: "local"}
PROTOCOLS: Final = {2: "kernel", 3: "boot", 4: "static", 9: "ra", 16: "dhcp"}
SCOPES: Final = {SCOPE_UNIVERSE: "global", SCOPE_LINK: "link", 254: "host"}
ACTIONS: Final = {2: "goto", 6: "blackhole", 7: "unreachable", 8: "prohibit"}


def rules(chosen: Iterable[Rule]) -> str:
    """`ip rule`."""
    return "".join(f"{rule.priority}:\t{_rule(rule)}\n" for rule in chosen)


def routes(chosen: Iterable[Route], links: Mapping[int, Link]) -> str:
    """`ip route show table N`, by destination."""
    ordered = sorted(chosen, key=lambda r: (r.dst.network_address, r.dst.prefixlen, r.metric))
    return "".join(f"{_route(route, links)}\n" for route in ordered)


def addresses(chosen: Iterable[Address], links: Mapping[int, Link]) -> str:
    """`ip -oneline addr`, without lifetimes."""
    return "".join(f"{_address(address, links[address.index].name)}\n" for address in chosen)


def _rule(rule: Rule) -> str:
    words = [f"from {_prefix(rule.src) if rule.src else 'all'}"]
    if rule.dst:
        words.append(f"to {_prefix(rule.dst)}")
    if rule.fwmark is not None:
        full = rule.fwmask in (None, 0xFFFFFFFF)
        words.append(f"fwmark {rule.fwmark:#x}" + ("" if full else f"/{rule.fwmask:#x}"))
    if rule.iif:
        words.append(f"iif {rule.iif}")
    if rule.oif:
        words.append(f"oif {rule.oif}")
    words.append(ACTIONS.get(rule.action) or f"lookup {TABLES.get(rule.table, rule.table)}")
    if rule.suppress_prefixlength is not None:
        words.append(f"suppress_prefixlength {rule.suppress_prefixlength}")
    if rule.suppress_ifgroup is not None:
        words.append(f"suppress_ifgroup {rule.suppress_ifgroup}")
    if rule.protocol not in (0, 2, 3):  # unspecified, kernel and boot go without saying
        words.append(f"proto {PROTOCOLS.get(rule.protocol, rule.protocol)}")
    return " ".join(words)


def _route(route: Route, links: Mapping[int, Link]) -> str:
    words = ["default" if not route.dst.prefixlen else _prefix(route.dst)]
    if route.gateway:
        words.append(f"via {route.gateway}")
    words.append(f"dev {links[route.oif].name}")
    words.append(f"proto {PROTOCOLS.get(route.protocol, route.protocol)}")
    if route.scope != SCOPE_UNIVERSE:
        words.append(f"scope {SCOPES.get(route.scope, route.scope)}")
    if route.prefsrc:
        words.append(f"src {route.prefsrc}")
    if route.metric:
        words.append(f"metric {route.metric}")
    if route.onlink:
        words.append("onlink")
    if route.family is Family.V6:
        words.append("pref medium")
    return " ".join(words)


def _address(address: Address, name: str) -> str:
    inet = "inet" if address.family is Family.V4 else "inet6"
    scope = SCOPES.get(address.scope, address.scope)
    words = [f"{address.index}: {name}    {inet} {address.ip}/{address.prefixlen} scope {scope}"]
    words += [word for word in ("dynamic", "deprecated", "tentative") if getattr(address, word)]
    if address.protocol:
        words.append(f"proto {address.protocol}")
    return " ".join(words)


def _prefix(prefix: IPNetwork) -> str:
    alone = prefix.prefixlen == prefix.max_prefixlen
    return str(prefix.network_address if alone else prefix)
