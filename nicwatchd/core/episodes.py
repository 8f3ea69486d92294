"""What to tell of losses: what others took and by whom, and when it is back.

What went in one turn is one loss, however much it was; what is lost again and again is a fight,
which is told by itself. Losses that come too fast are counted, and told with the next one.

A turn may read that something is gone before the notification that names who did it is taken. So a
loss by nobody is told only after the turn that its notification made due.

Reads: each loss, and what is back. Gives: `Loss` and `Return` values, for the news.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from nicwatchd.core.backoff import Pace
from nicwatchd.core.fights import Place, Thing, has, place
from nicwatchd.core.model import Plan

# Losses of one interface that are told: each of its own, for a while.
TOLD, SPAN = 10, 60.0  # in so many seconds
NAMED: Final = 3  # of those whom notifications name


@dataclass(frozen=True, slots=True)
class Loss:
    """Things of one interface that others took; `at`: when we heard of the first.

    `who` are those whom the kernel's notifications name; empty: nobody. `untold` things were lost
    and put back since the last one that was told, too fast to tell each.
    """

    index: int
    things: tuple[Thing, ...]
    who: tuple[str, ...]
    at: float
    untold: int = 0


@dataclass(frozen=True, slots=True)
class Return:
    """Things that were lost are back, `after` so many seconds."""

    index: int
    things: tuple[Thing, ...]
    after: float


Episode: TypeAlias = Loss | Return


@dataclass(slots=True)
class _Batch:
    """What one interface lost in one turn."""

    things: list[Thing] = field(default_factory=list)
    who: dict[str, None] = field(default_factory=dict)  # in order


class Episodes:
    """The losses and returns of one host. Times: monotonic seconds."""

    def __init__(self) -> None:
        self._lost: dict[int, _Batch] = {}
        self._missing: dict[Thing, tuple[int, float]] = {}  # what was told: whose, and since when
        self._untold: Counter[int] = Counter()
        self._paces: dict[int, Pace] = {}
        self._told: list[Episode] = []
        self._ripe = 0  # so many of them may be told, whoever it was
        self._next = 0  # so many may be when the next turn is over

    def lose(self, index: int, lost: Thing, who: str | None) -> None:
        """Others took something of an interface; `seal` ends what belongs together."""
        batch = self._lost.setdefault(index, _Batch())
        batch.things.append(lost)
        if who:
            batch.who[who] = None

    def seal(
        self,
        wanted: AbstractSet[Thing],
        plans: Mapping[int, Plan],
        noticed: float,
        now: float,
    ) -> None:
        """All losses of a turn are known; `noticed` is when we heard of the first.

        What was lost and is not `wanted` any more is back, by others' doing, or given up.
        """
        elsewhere = {t: its for t, its in self._missing.items() if t not in wanted}
        self.back((t for t, (i, _) in elsewhere.items() if i in plans and has(plans[i], t)), now)
        self._missing = {t: its for t, its in self._missing.items() if t in wanted}
        lost_now, self._lost = self._lost, {}
        for index, batch in lost_now.items():
            if not self._paces.setdefault(index, Pace(TOLD, SPAN)).allows(now):
                self._untold[index] += len(batch.things)
                continue
            self._missing |= dict.fromkeys(batch.things, (index, noticed))
            who = tuple(batch.who)[:NAMED]
            untold = self._untold.pop(index, 0)
            self._told.append(Loss(index, tuple(batch.things), who, noticed, untold))

    def back(self, things: Iterable[Thing], now: float) -> None:
        """These are in the kernel again; of some it may not have been told that they were lost."""
        found: dict[int, list[Thing]] = {}
        since: dict[int, float] = {}
        for thing in things:
            if thing in self._missing:
                index, at = self._missing.pop(thing)
                found.setdefault(index, []).append(thing)
                since[index] = min(at, since.get(index, at))
        self._told += [
            Return(index, tuple(back), now - since[index]) for index, back in found.items()
        ]

    def forget(self, index: int) -> None:
        """A link is gone, with all that was lost there."""
        self._missing = {lost: its for lost, its in self._missing.items() if its[0] != index}
        self._paces.pop(index, None)
        self._untold.pop(index, None)

    def suspect(self, where: Place, who: str) -> None:
        """A notification names who removed something there: perhaps what is not told yet."""
        for number, each in enumerate(self._told):
            if isinstance(each, Loss) and not each.who and where in map(place, each.things):
                self._told[number] = replace(each, who=(who,))

    def turned(self) -> None:
        """A turn is over: what was lost before it can be told."""
        self._ripe, self._next = self._next, len(self._told)

    def drain(self) -> list[Episode]:
        """What there is to tell since the last call, in order."""
        unknown = (n for n, e in enumerate(self._told) if isinstance(e, Loss) and not e.who)
        ready = next((n for n in unknown if n >= self._ripe), len(self._told))
        told, self._told = self._told[:ready], self._told[ready:]
        self._ripe, self._next = max(0, self._ripe - ready), max(0, self._next - ready)
        return told
