"""Does nicwatchd have all that a tool has? What is missing is a reason not to end the tool.

Reads: what the tool has in the kernel, what nicwatchd says of the interfaces, what it has there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import Any

from nicwatchd.cli.migration.traces import LinkAddress, SourceRule, Traces, shown
from nicwatchd.core.model import IPAddress, IPNetwork

Status = dict[str, Any]  # of one interface, as the daemon says it
APPLIED = "applied"
PRIMARY = "primary"  # a reason's code


def missing_rules(
    rules: Iterable[SourceRule], interfaces: Iterable[Status], kernel: Traces
) -> Iterator[str]:
    """One line for each rule of a tool for which nicwatchd has nothing in the kernel."""
    by_source = {net: status for status in interfaces for net in _sources(status)}
    for rule in rules:
        status = by_source.get(rule.source)
        why = _why_not(rule, status, kernel)
        if why:
            yield f"the rule {rule}: {why}"


def missing_addresses(
    addresses: Iterable[LinkAddress], interfaces: Iterable[Status], kernel: Traces
) -> Iterator[str]:
    """One line for each address of a tool that nicwatchd would not keep on its link."""
    known = {status["name"]: status for status in interfaces}
    for address in addresses:
        status = known.get(address.link)
        if status is None:
            why = f"nicwatchd does not know {address.link}"
        else:
            why = _unserved(status, kernel)
        if not why and status and ip_network(address.ip) not in _sources(status):
            why = f"IMDS does not list it on {address.link}, or it is left to others"
        if why:
            yield f"the address {address.ip} on {address.link}: {why}"


def _why_not(rule: SourceRule, status: Status | None, kernel: Traces) -> str:
    """Why nicwatchd would not route what a rule of a tool routes; empty if it does."""
    if status is None:
        return f"nicwatchd has no interface with {shown(rule.source)}"
    unserved = _unserved(status, kernel)
    if unserved:
        return unserved
    family, table = rule.source.version, status["table"]
    if not any(_selects(ours, rule.source, table) for ours in kernel.rules):
        return f"nicwatchd has no rule for it on {status['name']}"
    theirs = any(each[:2] == (family, rule.table) for each in kernel.defaults)
    if theirs and not any(each[:2] == (family, table) and each[3] for each in kernel.defaults):
        return f"nicwatchd has no default route in table {table}"
    return ""


def _unserved(status: Status, kernel: Traces) -> str:
    """Why nicwatchd does not serve an interface; empty if it does.

    The primary is served where it is protected: it has a rule to its table then.
    """
    serves = status["state"] == APPLIED
    if any(reason["code"] == PRIMARY for reason in status["reasons"]):
        serves = any(rule.ours and rule.table == status["table"] for rule in kernel.rules)
    if serves and not status["fought_over"]:
        return ""
    texts = "; ".join(reason["text"] for reason in status["reasons"])
    state = "fought over" if status["fought_over"] else status["state"]
    return f"nicwatchd has {status['name']} as {state}" + (f" ({texts})" if texts else "")


def _sources(status: Status) -> Iterator[IPNetwork]:
    for family in ("ipv4", "ipv6"):
        part = status[family] or {}
        for text in (*part.get("addresses", ()), *part.get("prefixes", ())):
            yield ip_network(text)


def _selects(ours: SourceRule, source: IPNetwork, table: int) -> bool:
    if not ours.ours or ours.table != table or ours.source.version != source.version:
        return False
    inside = int(ours.source.network_address) <= int(source.network_address)
    return inside and int(source.broadcast_address) <= int(ours.source.broadcast_address)


def is_on(link: str, ips: Iterable[IPAddress], kernel: Traces) -> bool:
    """Whether all these addresses are on a link."""
    return frozenset(ips) <= kernel.on(link)
