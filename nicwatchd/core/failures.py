"""Why an operation was not carried out, in words for the operator.

Reads: outcomes, and everybody's routes of the tables in question. Gives: a `Failure` for each
outcome that is none of "done" and "gone with its link".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from errno import EEXIST

from nicwatchd.core.model import PROTOCOL, AddRoute, Operation, Route
from nicwatchd.core.port import Outcome, Result
from nicwatchd.core.words import NameOf, command


@dataclass(frozen=True, slots=True)
class Failure:
    """An operation that the kernel did not carry out, and why; `code` is a reason's."""

    operation: Operation
    text: str
    code: str = "kernel-refused"


def failed(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes that are failures."""
    return [each for each in outcomes if each.result not in (Result.DONE, Result.GONE)]


def is_in_the_way(outcome: Outcome) -> bool:
    """Whether a route was not added since one is there already; whose, only its table tells."""
    return isinstance(outcome.operation, AddRoute) and outcome.errno == EEXIST


def explain(
    outcomes: Iterable[Outcome], tables: Mapping[int, tuple[Route, ...]], name_of: NameOf
) -> Iterator[Failure]:
    """What is to be told of failures. A foreign route in our table is left, and named."""
    for outcome in outcomes:
        operation = outcome.operation
        if isinstance(operation, AddRoute) and outcome.errno == EEXIST:
            route = operation.route
            there = tables.get(route.table)
            other = next((r for r in there or () if r.key == route.key), None)
            if there is not None and (other is None or other.protocol != PROTOCOL):
                yield Failure(operation, _in_the_way(route, other), "route-in-the-way")
                continue
        yield Failure(operation, f"{command(operation, name_of)}: {outcome.message}")


def _in_the_way(ours: Route, other: Route | None) -> str:
    """`other` is None for what we do not read: no unicast route, or one into a tunnel."""
    via = f" via {other.gateway}" if other and other.gateway else ""
    made = f" (protocol {other.protocol})" if other else ""
    return (
        f"somebody else's route to {ours.dst}{via}{made} in table {ours.table} takes the place of "
        "ours; nicwatchd leaves it alone and adds its own when it goes"
    )
