"""What nicwatchd changed in the kernel, for people and for programs: `+9 routes, -1 rule`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from nicwatchd.core.forwarding import TABLE
from nicwatchd.core.model import (
    AddAddress,
    AddRoute,
    AddRule,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    RemoveRuleset,
    SetGroup,
    SetRuleset,
    SetUp,
)
from nicwatchd.core.news import Wrote
from nicwatchd.core.words import command, group_text
from nicwatchd.service.entries import (
    INFO,
    LISTED,
    Entry,
    clipped,
    interface_fields,
    label,
    plural,
    shown_lines,
)
from nicwatchd.service.status import InterfaceStatus, reason_statuses, shown

SORTS: Final[Mapping[type[Operation], tuple[str, str]]] = {
    SetUp: ("set", "link"),
    SetGroup: ("set", "group"),
    SetRuleset: ("set", "ruleset"),
    RemoveRuleset: ("removed", "ruleset"),
    AddAddress: ("added", "address"),
    RemoveAddress: ("removed", "address"),
    AddRoute: ("added", "route"),
    RemoveRoute: ("removed", "route"),
    AddRule: ("added", "rule"),
    RemoveRule: ("removed", "rule"),
}
REPLACED: Final = ("replaced", "", " replaced")


def wrote(news: Wrote, status: InterfaceStatus | None) -> Entry:
    """What nicwatchd changed for an interface, or for none in particular, and why."""
    what, link = summary(news.operations), news.view and news.view.link
    names = {link.index: link.name} if link else {}
    listed = "\n".join(command(each, names.get) for each in news.operations[:LISTED])
    why = shown(news.why.text)
    fields = {"NICWATCHD_CAUSE": clipped(why), "NICWATCHD_REASON_CODES": news.why.code}
    if status and news.view:
        fields = interface_fields(status, reason_statuses([news.why], news.view))
    fields |= {
        "NICWATCHD_OBJECTS": what,
        "NICWATCHD_OBJECT_LIST": shown_lines(listed),
        "NICWATCHD_CHANGES": json.dumps(counts(news.operations)),
    }
    who = label(status) if status else "nicwatchd"
    return f"{who} changed: {what}; {why}", INFO, fields


def summary(operations: Sequence[Operation]) -> str:
    """All of it on one line: `link up, group 3778, +9 routes, +8 rules`."""
    number = counts(operations)
    parts = [text for each in operations if (text := _setting(each))]
    for kind in ("address", "route", "rule"):
        for verb, before, after in (("added", "+", ""), ("removed", "-", ""), REPLACED):
            if n := number.get(verb, {}).get(kind):
                parts.append(f"{before}{n} {kind if n == 1 else plural(kind)}{after}")
    return ", ".join(parts)


def counts(operations: Iterable[Operation]) -> dict[str, dict[str, int]]:
    """How many of each kind were `added`, `removed`, `replaced` (changed in place) and `set`."""
    found: dict[str, dict[str, int]] = {}
    for operation in operations:
        verb, kind = SORTS[type(operation)]
        if getattr(operation, "replace", False):
            verb = "replaced"
        kinds = found.setdefault(verb, {})
        kinds[kind] = kinds.get(kind, 0) + 1
    return found


def _setting(operation: Operation) -> str:
    """What was set of the link, or became of our nftables table."""
    match operation:
        case SetUp(mtu=mtu):
            return "link up" if mtu is None else f"link up, MTU {mtu}"
        case SetGroup(group=group):
            return group_text(group)
        case SetRuleset():
            return f"nftables table {TABLE} written"
        case RemoveRuleset():
            return f"nftables table {TABLE} removed"
    return ""
