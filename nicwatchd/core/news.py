"""What the core reports, as values: for the journal, the event streams and the counters.

Reads: nothing; the host makes them. Gives: values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from nicwatchd.core.fights import Thing
from nicwatchd.core.health import FamilyHealth
from nicwatchd.core.lifecycle import Transition
from nicwatchd.core.model import Family, Operation, Reason
from nicwatchd.core.view import View


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The state, the reasons or the overdue mark of an interface changed; `view` is as of then."""

    view: View
    transition: Transition


@dataclass(frozen=True, slots=True)
class FightChanged:
    """Others have begun to remove the same things of ours repeatedly, or have stopped."""

    view: View
    began: bool


@dataclass(frozen=True, slots=True)
class HealthChanged:
    """A family of an interface works, or does not any more, or for other causes; `view` as of now.

    `before` and `after` are None where it has no verdict. `at`: monotonic seconds.
    """

    view: View
    family: Family
    before: FamilyHealth | None
    after: FamilyHealth | None
    at: float


@dataclass(frozen=True, slots=True)
class Surprised:
    """An exception was caught: a bug. `where` is the work that raised it, `trace` the traceback."""

    view: View | None  # None: it is about no interface
    where: str
    error: str
    trace: str


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """A link that carried packets does not any more, or does again. It was not nicwatchd.

    `flapped`: it was down for a moment only. `carries` is False while it is down (`view.link.up` is
    False then) or has no carrier.
    """

    view: View
    carries: bool
    flapped: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """Others removed things of ours. `who`: whom the kernel's notifications name; empty: nobody.

    `untold`: how many were lost before it and put back, too fast to tell each.
    """

    view: View
    things: tuple[Thing, ...]
    who: tuple[str, ...]
    at: float  # monotonic seconds: when we heard of the first
    untold: int = 0


@dataclass(frozen=True, slots=True)
class Restored:
    """What was lost is there again, `after` so many seconds."""

    view: View
    things: tuple[Thing, ...]
    after: float


@dataclass(frozen=True, slots=True)
class Wrote:
    """We changed something in the kernel in this turn, beside what others had taken; and why.

    `view` is None for what concerns no interface that is there: one that is gone, or our nftables
    table. What cancels out is not among the operations.
    """

    view: View | None
    operations: tuple[Operation, ...]
    why: Reason


@dataclass(frozen=True, slots=True)
class Bypassed:
    """Foreign rules or routes have begun to win over ours, others than before, or do no more.

    `by` are the reasons now; empty: none does. `before` are those that were told before.
    """

    view: View
    by: tuple[Reason, ...]
    before: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class FamilyGivenUp:
    """An ENI is taken for one without this family, `after` so many seconds since it was seen."""

    view: View
    family: Family
    reason: Reason
    after: float


@dataclass(frozen=True, slots=True)
class EgressMoved:
    """Main's best default route, by which the host's own traffic leaves, has other links.

    `view` is the ENI that it leads through now, or else did before. `before` and `after` are names
    of links; empty: there is none. `by_us`: the route is nicwatchd's.
    """

    view: View | None
    family: Family
    before: tuple[str, ...]
    after: tuple[str, ...]
    by_us: bool


Cause: TypeAlias = LinkChanged | Lost | Restored | Wrote | Bypassed | FamilyGivenUp | EgressMoved
News: TypeAlias = StateChanged | FightChanged | HealthChanged | Surprised | Cause
