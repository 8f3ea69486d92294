"""What an operation is about.

Reads: an operation. Gives: its family.
"""

from __future__ import annotations

from nicwatchd.core.model import (
    AddAddress,
    AddRoute,
    AddRule,
    Family,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
)


def family_of(operation: Operation) -> Family | None:
    """The family of what it adds or removes; None for a link, and for our nftables table."""
    match operation:
        case AddAddress(ip=ip) | RemoveAddress(ip=ip):
            return Family(ip.version)
        case AddRoute(route=route) | RemoveRoute(route=route):
            return route.family
        case AddRule(rule=rule) | RemoveRule(rule=rule):
            return rule.family
    return None
