"""Does an ENI work? The state says what we did; this says whether its addresses answer.

What the host cannot know, a security group perhaps, is not judged.

Reads: nothing; `nicwatchd.core.diagnosis` makes the verdicts. Gives: values, and how one follows
another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from nicwatchd.core.model import Family, IPAddress, Reason


class Health(StrEnum):
    """Whether a family of an ENI works, as far as the host can know."""

    WORKING = "working"  # every address that the ENI has answers
    DEGRADED = "degraded"  # some answer, or all that are known while more may be missing
    NOT_WORKING = "not-working"


WORST_FIRST: Final = (Health.NOT_WORKING, Health.DEGRADED, Health.WORKING)


@dataclass(frozen=True, slots=True)
class FamilyHealth:
    """The verdict on one family. `causes` say why it is not working; each with its remedy.

    `waits`: all causes will end by themselves, as far as we know: facts are still missing.
    `answering` are the addresses whose packets leave by the ENI; `silent` those that are the ENI's
    and do not answer. `since`: when its health became what it is (monotonic seconds).
    `worked_after`: seconds from the link's coming until it worked first; None: not yet.
    """

    family: Family
    health: Health
    since: float
    causes: tuple[Reason, ...] = ()
    waits: bool = False
    answering: tuple[IPAddress, ...] = ()
    silent: tuple[IPAddress, ...] = ()
    worked_after: float | None = None


def worst(found: Iterable[Health]) -> Health | None:
    """The worst of them; None: there is none."""
    there = frozenset(found)
    return next((health for health in WORST_FIRST if health in there), None)


def follow(before: FamilyHealth | None, after: FamilyHealth, patience: float) -> FamilyHealth:
    """The verdict after an earlier one: since when it is so, and when it worked first.

    What has been waited for longer than `patience` [s] is not expected any more.
    """
    if before is None:
        return after
    since = before.since if before.health is after.health else after.since
    first = after.worked_after if before.worked_after is None else before.worked_after
    waits = after.waits and after.since - since < patience
    return replace(after, since=since, waits=waits, worked_after=first)
