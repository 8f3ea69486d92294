"""What an operation is called, and why it was not carried out."""

from __future__ import annotations

import re
from errno import EEXIST

from nicwatchd.core.host import Failure
from nicwatchd.core.model import (
    PROTOCOL,
    AddAddress,
    AddRoute,
    AddRule,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Route,
)
from nicwatchd.core.port import Kernel, Outcome


def verb(operation: Operation) -> str:
    """What kind of operation it is: add_rule."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(operation).__name__).lower()


def describe(operation: Operation, trouble: str) -> str:
    """An operation, and what the trouble with it is."""
    match operation:
        case AddAddress(ip=ip) | RemoveAddress(ip=ip):
            what = f" {ip}"
        case AddRoute(route=route) | RemoveRoute(route=route):
            what = f" {route.dst}"
        case AddRule(rule=rule) | RemoveRule(rule=rule):
            what = f" {rule.priority}"
        case _:
            what = ""
    return f"{type(operation).__name__}{what}: {trouble}"


async def explain(outcome: Outcome, kernel: Kernel) -> Failure:
    """Why an operation was not carried out. A foreign route in our table is left, and named.

    Raises KernelError.
    """
    operation = outcome.operation
    if isinstance(operation, AddRoute) and outcome.errno == EEXIST:
        route = operation.route
        there = await kernel.table_routes(route.table)
        other = next((known for known in there if known.key == route.key), None)
        if other is None or other.protocol != PROTOCOL:
            return Failure(operation, _in_the_way(route, other), "route-in-the-way")
    return Failure(operation, describe(operation, outcome.message))


def _in_the_way(ours: Route, other: Route | None) -> str:
    """`other` is None for what we do not read: no unicast route, or one with several next hops."""
    via = f" via {other.gateway}" if other and other.gateway else ""
    made = f" (protocol {other.protocol})" if other else ""
    return (
        f"somebody's own route to {ours.dst}{via}{made} in table {ours.table} is where ours "
        "should be; it is left, and ours returns when it goes"
    )
