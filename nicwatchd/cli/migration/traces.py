"""What tools left in the kernel: rules that select by source, routes of their tables, addresses.

Read with `ip -json`: the command needs it a few times in its life, and it is what operators see.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final

from nicwatchd.cli.migration.system import System
from nicwatchd.core.model import PROTOCOL, IPAddress, IPNetwork

FAMILIES: Final = (4, 6)
GLOBAL: Final = "global"


@dataclass(frozen=True, slots=True)
class SourceRule:
    """A rule `from SOURCE lookup TABLE`, and whether it carries our mark."""

    priority: int
    source: IPNetwork
    table: int
    ours: bool = False
    only_local: bool = False  # `iif lo`

    def __str__(self) -> str:
        return f"pref {self.priority} from {shown(self.source)} lookup {self.table}"


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """A global address on a link. A lease is `dynamic`."""

    link: str
    ip: IPAddress
    prefixlen: int
    dynamic: bool = False


@dataclass(frozen=True, slots=True)
class Traces:
    """What the kernel has. `defaults` are (family, table, link, whether it is ours)."""

    rules: tuple[SourceRule, ...] = ()
    addresses: tuple[LinkAddress, ...] = ()
    defaults: tuple[tuple[int, int, str, bool], ...] = ()
    local_prefixes: tuple[IPNetwork, ...] = ()  # whole networks that are local, but 127.0.0.0/8

    def foreign(self, is_theirs: Callable[[SourceRule], bool]) -> tuple[SourceRule, ...]:
        """The rules of others that a tool's mark fits."""
        return tuple(rule for rule in self.rules if not rule.ours and is_theirs(rule))

    def on(self, link: str) -> frozenset[IPAddress]:
        """The addresses of a link."""
        return frozenset(address.ip for address in self.addresses if address.link == link)


def read(system: System) -> Traces:
    """Read the kernel. Raises CommandError."""
    rules, defaults, local = [], [], []
    for family in FAMILIES:
        rules += [r for row in _rows(system, family, "rule") if (r := _rule(row, family))]
        for row in _rows(system, family, "route", "show", "table", "all"):
            table = _number(row.get("table", "main"))
            if row["dst"] == "default" and "dev" in row and table:
                defaults.append((family, table, row["dev"], _is_ours(row)))
            if row.get("type") == "local" and "/" in row["dst"]:
                local.append(ip_network(row["dst"]))
    loopback = ip_network("127.0.0.0/8")
    return Traces(
        tuple(rules),
        tuple(_addresses(_rows(system, None, "address"))),
        tuple(defaults),
        tuple(net for net in local if net != loopback),
    )


def shown(source: IPNetwork) -> str:
    """A network as `ip rule` shows it: an address without its length."""
    return str(source.network_address if source.prefixlen == source.max_prefixlen else source)


def _rows(system: System, family: int | None, *what: str) -> list[dict[str, Any]]:
    flags = () if family is None else (f"-{family}",)
    text = system.must("ip", "-details", "-json", *flags, *what)
    return [row for row in json.loads(text or "[]") if row]


def _rule(row: dict[str, Any], family: int) -> SourceRule | None:
    source, table = row.get("src", "all"), _number(row.get("table", ""))
    if source == "all" or table is None or "fwmark" in row or "dst" in row:
        return None
    length = row.get("srclen", 32 if family == FAMILIES[0] else 128)
    net = ip_network(f"{source}/{length}")
    return SourceRule(
        row["priority"], net, table, ours=_is_ours(row), only_local=row.get("iif") == "lo"
    )


def _addresses(rows: Iterable[dict[str, Any]]) -> Iterable[LinkAddress]:
    for row in rows:
        for one in row.get("addr_info", []):
            if "local" in one and one.get("scope") == GLOBAL:
                dynamic = bool(one.get("dynamic"))
                ip = ip_address(one["local"])
                yield LinkAddress(row["ifname"], ip, one["prefixlen"], dynamic=dynamic)


def _is_ours(row: dict[str, Any]) -> bool:
    return str(row.get("protocol")) == str(PROTOCOL)


def _number(table: str | int) -> int | None:
    """The number of a table; None for one of the kernel's, or one that /etc names."""
    return int(table) if str(table).isdigit() else None
