"""Objects of the model as the `ip` command lists them, one per line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nicwatchd.core.model import Family
from nicwatchd.core.words import SCOPES, NameOf, names_in, route_words, rule_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nicwatchd.core.model import Address, Link, Route, Rule


def rules(chosen: Iterable[Rule]) -> str:
    """`ip rule`."""
    return "".join(f"{rule.priority}:\t{' '.join(rule_words(rule))}\n" for rule in chosen)


def routes(chosen: Iterable[Route], links: Mapping[int, Link]) -> str:
    """`ip route show table N`, by destination."""
    name_of = names_in(links)
    ordered = sorted(chosen, key=lambda r: (r.dst.network_address, r.dst.prefixlen, r.metric))
    return "".join(f"{_route(route, name_of)}\n" for route in ordered)


def addresses(chosen: Iterable[Address], links: Mapping[int, Link]) -> str:
    """`ip -oneline addr`, without lifetimes."""
    return "".join(f"{_address(address, links[address.index].name)}\n" for address in chosen)


def _route(route: Route, name_of: NameOf) -> str:
    words = route_words(route, name_of, in_table=False)
    if route.family is Family.V6:
        first = words.index("nexthop") if route.hops else len(words)
        words.insert(first, "pref medium")
    return " ".join(words).replace(" nexthop ", " \n\tnexthop ")


def _address(address: Address, name: str) -> str:
    inet = "inet" if address.family is Family.V4 else "inet6"
    scope = SCOPES.get(address.scope, address.scope)
    words = [f"{address.index}: {name}    {inet} {address.ip}/{address.prefixlen} scope {scope}"]
    words += [word for word in ("dynamic", "deprecated", "tentative") if getattr(address, word)]
    if address.protocol:
        words.append(f"proto {address.protocol}")
    return " ".join(words)
