"""What was found of one tool, and what would be done about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from nicwatchd.cli.migration.coverage import Status, missing_addresses, missing_rules
from nicwatchd.cli.migration.steps import Step
from nicwatchd.cli.migration.system import System
from nicwatchd.cli.migration.traces import LinkAddress, SourceRule, Traces, shown
from nicwatchd.core.model import IPNetwork


@dataclass(frozen=True, slots=True)
class Ground:
    """What all tools are judged by: the host, its kernel, and what nicwatchd says."""

    system: System
    kernel: Traces
    status: dict[str, Any]  # as `GET /v1/status`
    addresses: str  # the setting of that name
    leave: tuple[IPNetwork, ...] = ()  # `leave_addresses`

    @property
    def interfaces(self) -> list[Status]:
        """The interfaces that nicwatchd knows."""
        found: list[Status] = self.status["interfaces"]
        return found

    @property
    def primary(self) -> str | None:
        """The name of the primary; None while IMDS has not told."""
        mac = self.status["primary_mac"]
        return next((i["name"] for i in self.interfaces if mac and i["mac"] == mac), None)


@dataclass(frozen=True, slots=True)
class Finding:
    """A tool at work, by these `signs`. With `refusals`, nothing is done about any tool."""

    tool: str
    signs: tuple[str, ...]
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()  # what the operator should know
    refusals: tuple[str, ...] = ()


@dataclass(slots=True)
class Takeover:
    """What a tool has in the kernel, by interface, and the steps that hand it over."""

    ground: Ground
    rules: dict[str, list[SourceRule]] = field(default_factory=dict)
    addresses: dict[str, list[LinkAddress]] = field(default_factory=dict)

    def refusals(self) -> list[str]:
        """What nicwatchd does not have of it: one line each."""
        ground = self.ground
        rules = [rule for some in self.rules.values() for rule in some]
        addresses = [address for some in self.addresses.values() for address in some]
        lines = [
            *missing_rules(rules, ground.interfaces, ground.kernel),
            *missing_addresses(addresses, ground.interfaces, ground.kernel),
        ]
        left = {a.ip for a in addresses for net in ground.leave if a.ip in net}
        lines += [f"the setting `leave_addresses` leaves {ip} to others" for ip in sorted(left)]
        if addresses and ground.addresses == "none":
            lines.append('it adds addresses, and the settings say `addresses = "none"`')
        return lines

    @property
    def links(self) -> list[str]:
        """The interfaces that it has something on."""
        return sorted({*self.rules, *self.addresses})

    def confirm(self, link: str, *, after: bool) -> Step:
        """Wait until nicwatchd has what the tool has, or had, on an interface."""
        rules = self.rules.get(link, [])
        ips = [str(address.ip) for address in self.addresses.get(link, [])]
        args = {
            "rules": [[r.priority, str(r.source), r.table] for r in rules],
            "addresses": {link: ips} if after and ips else {},
        }
        when = "after" if after else "before"
        what = f"check that nicwatchd has what the tool has on {link}, {when} the tool ends there"
        sources = ", ".join(dict.fromkeys([*(shown(r.source) for r in rules), *ips])) or "nothing"
        return Step("confirm", what, f"make before break: {sources}", args)

    def adopt(self, link: str) -> list[Step]:
        """Have nicwatchd put back the tool's addresses on an interface."""
        ips = [str(address.ip) for address in self.addresses.get(link, [])]
        if not ips:
            return []
        why = "an address that others take away is otherwise left to them, as a cluster's is"
        what = f"have nicwatchd keep {', '.join(ips)} on {link}"
        return [Step("adopt", what, why, {"interface": link, "addresses": ips})]


def link_of(rule: SourceRule, kernel: Traces, interfaces: Iterable[Status]) -> str:
    """The interface that a tool's rule is about: its table's default, else who has its source."""
    family = rule.source.version
    for of, table, link, _ in kernel.defaults:
        if (of, table) == (family, rule.table):
            return link
    on = (a.link for a in kernel.addresses if a.ip in rule.source)
    known = (i["name"] for i in interfaces if _has(i, rule))
    return next(on, None) or next(known, "?")


def _has(status: Status, rule: SourceRule) -> bool:
    part = status[f"ipv{rule.source.version}"] or {}
    return shown(rule.source) in (*part.get("addresses", ()), *part.get("prefixes", ()))
