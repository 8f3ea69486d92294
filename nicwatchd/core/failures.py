"""Why an operation was not carried out, in words for the operator.

Reads: outcomes, and everybody's routes of the tables in question. Gives: a `Failure` for each
outcome other than "done" and "gone together with its link".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from errno import EEXIST

from nicwatchd.core.model import PROTOCOL, AddRoute, Operation, Reason, Route
from nicwatchd.core.operations import family_of
from nicwatchd.core.port import Outcome, Result
from nicwatchd.core.words import NameOf, command


@dataclass(frozen=True, slots=True)
class Failure:
    """An operation that the kernel did not carry out, and why; `code` is the reason code."""

    operation: Operation
    text: str
    code: str = "kernel-refused"

    @property
    def reason(self) -> Reason:
        """The same, to be shown."""
        return Reason(self.code, self.text, family=family_of(self.operation))


def failed(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes that are failures."""
    return [each for each in outcomes if each.result not in (Result.DONE, Result.GONE)]


def is_in_the_way(outcome: Outcome) -> bool:
    """Whether a route was not added because there is one already; only its table tells whose."""
    return isinstance(outcome.operation, AddRoute) and outcome.errno == EEXIST


def explain(
    outcomes: Iterable[Outcome], tables: Mapping[int, tuple[Route, ...]], name_of: NameOf
) -> Iterator[Failure]:
    """Each failure in words. A foreign route in our table stays, and is named."""
    for outcome in outcomes:
        operation = outcome.operation
        if isinstance(operation, AddRoute) and outcome.errno == EEXIST:
            route = operation.route
            there = tables.get(route.table)
            other = next((r for r in there or () if r.key == route.key), None)
            if there is not None and (other is None or other.protocol != PROTOCOL):
                yield Failure(operation, _in_the_way(route, other), "route-in-the-way")
                continue
        yield Failure(operation, f"`{command(operation, name_of)}` failed: {outcome.message}")


def _in_the_way(ours: Route, other: Route | None) -> str:
    """`other` is None for a route that we do not read: not unicast, or into a tunnel."""
    via = f" via {other.gateway}" if other and other.gateway else ""
    made = f" (protocol {other.protocol})" if other else ""
    return (
        f"somebody else's route to {ours.dst}{via}{made} in table {ours.table} stands in the place "
        "of nicwatchd's; nicwatchd does not replace it, and adds its own once that route is gone"
    )
