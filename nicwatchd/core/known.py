"""What is known of one list of IMDS from all readings so far, and what of it is doubted.

One answer is not to be believed when it takes something away: a known item is kept until it was
seen absent several times over a while, and `Unknown` never takes anything back. An answer of which
a part was refused says what there is at least, and nothing of what there is not.

Reads: one answer after the other. Gives: what to believe of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from nicwatchd.core.bounds import MOST_ITEMS
from nicwatchd.core.metadata import ABSENT, NOT_ASKED, Answer, Unknown, Value
from nicwatchd.core.policy import Policy

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something known was not in so many readings, the first of them at `since`."""

    times: int
    since: float

    def once_more(self) -> Doubt:
        """After one more reading."""
        return replace(self, times=self.times + 1)

    def is_enough(self, now: float, policy: Policy) -> bool:
        """Whether it is taken for gone."""
        return self.times >= policy.doubts and now - self.since >= policy.doubt_span


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """What is known of one list: its items in IMDS's order, as it was before a doubt."""

    items: tuple[T, ...] = ()
    doubts: tuple[tuple[T, Doubt], ...] = ()
    definite: Answer[tuple[T, ...]] = NOT_ASKED  # the last answer that was not Unknown, if any
    listed: bool = False  # whether the directory had the key at that answer
    whole: bool = True  # whether nothing of that answer was refused
    firsts: frozenset[T] = frozenset()  # of this whole answer, and of earlier ones, if still in it
    forgotten: frozenset[T] = frozenset()  # not in that answer, and kept all the same
    unheard: Doubt | None = None  # readings since the last whole answer that left items open
    lapsed: frozenset[T] = frozenset()  # the items that were left open for as long as a doubt takes
    silent: bool = False  # not answered for in so many readings, after an earlier life

    def learn(
        self,
        answer: Answer[tuple[T, ...]],
        now: float,
        policy: Policy,
        *,
        listed: bool,
        had: tuple[T, ...] = (),
        earlier: bool = False,
        gives_up: bool = True,
    ) -> Known[T]:
        """What is known after one more answer. The first one is doubted where it lacks `had`.

        `earlier`: an earlier life had something of the ENI, in this list or in another.
        Nothing is doubted for an answer that is not whole, nor where nothing is to be given up.
        """
        never = isinstance(self.definite, Unknown)
        if isinstance(answer, Unknown):
            return self._unanswered(answer, now, policy, listed=listed, earlier=earlier)
        whole = not isinstance(answer, Value) or answer.whole
        before = dict.fromkeys((*self.items, *had) if never else self.items)
        said = self._added(answer, before, whole=whole)
        present = frozenset(said)
        missing = [item for item in before if item not in present]
        if whole and gives_up:
            doubts = tuple(self._doubted_still(missing, now, policy))
            missing = [item for item, _ in doubts]
        else:
            doubts = tuple((item, doubt) for item, doubt in self.doubts if item not in present)
        items = _in_order(said, missing, self.items)
        # A first answer that is not whole leaves it open what an earlier life had.
        definite = self.definite if never and not whole else answer
        if whole:
            forgotten = frozenset(() if gives_up else missing)
            firsts = (self.firsts & present) | {said[0]} if said and gives_up else self.firsts
            return Known(items, doubts, definite, listed, whole, firsts, forgotten)
        known = self._left_open(missing, now, policy)
        known = replace(known, items=items, doubts=doubts, definite=definite)
        return replace(known, listed=listed, whole=whole)

    def _unanswered(
        self, why: Unknown, now: float, policy: Policy, *, listed: bool, earlier: bool
    ) -> Known[T]:
        # A key that is listed for the first time, but cannot be read yet, is no longer absent.
        news = listed and not self.listed and not self.items
        known = replace(self, definite=why) if news or isinstance(self.definite, Unknown) else self
        return known.without_word(now, policy, earlier=earlier) if why.listed else known

    def _added(
        self, answer: Answer[tuple[T, ...]], before: dict[T, None], *, whole: bool
    ) -> tuple[T, ...]:
        """The items of an answer. Lists that are never whole must not add up without an end."""
        said = answer.value if isinstance(answer, Value) else ()
        if whole:
            return said
        room = max(0, MOST_ITEMS - len(before))
        new = frozenset([item for item in said if item not in before][:room])
        return tuple(item for item in said if item in before or item in new)

    def _doubted_still(
        self, missing: Iterable[T], now: float, policy: Policy
    ) -> Iterator[tuple[T, Doubt]]:
        """The missing items, each doubted once more, but for those that were doubted enough."""
        before = dict(self.doubts)
        for item in missing:
            doubt = before.get(item, Doubt(0, now)).once_more()
            if not doubt.is_enough(now, policy):
                yield item, doubt

    def without_word(self, now: float, policy: Policy, *, earlier: bool = False) -> Known[T]:
        """What is known after one more reading in which IMDS did not have the list."""
        if earlier and isinstance(self.definite, Unknown) and not self.silent:
            unheard = (self.unheard or Doubt(0, now)).once_more()
            return replace(self, unheard=unheard, silent=unheard.is_enough(now, policy))
        return self._left_open(self.items, now, policy)

    def _left_open(self, items: Iterable[T], now: float, policy: Policy) -> Known[T]:
        """... that did not tell of these items, neither that they are there nor that they are not.

        Nothing is given up for that. But after a while another ENI's list counts for more.
        """
        still = frozenset(items)
        left = replace(self, forgotten=self.forgotten & still, lapsed=self.lapsed & still)
        if still <= self.lapsed:
            return left if still else replace(left, unheard=None)
        unheard = (self.unheard or Doubt(0, now)).once_more()
        lapsed = still if unheard.is_enough(now, policy) else left.lapsed
        return replace(left, unheard=unheard, lapsed=lapsed)

    def without(self, given_up: AbstractSet[Hashable]) -> Known[T]:
        """What is known once items that IMDS does not confirm are given up before their time."""
        gone = self.unconfirmed & given_up
        if not gone:
            return self
        items = tuple(item for item in self.items if item not in gone)
        doubts = tuple((item, doubt) for item, doubt in self.doubts if item not in gone)
        definite = self.definite
        if isinstance(definite, Value):
            said = tuple(item for item in definite.value if item not in gone)
            definite = Value(said, definite.whole) if said else ABSENT
        return replace(
            self,
            items=items,
            doubts=doubts,
            definite=definite,
            forgotten=self.forgotten - gone,
            lapsed=self.lapsed - gone,
        )

    def unsure(self) -> Known[T]:
        """The same with all items unconfirmed: another ENI's list counts for more."""
        return replace(self, lapsed=frozenset(self.items), unheard=None)

    @property
    def first(self) -> T | None:
        """The first item, where all lists that had it began with it: else IMDS contradicts itself.

        A list that has not the first item of those before says that it was wrong.
        """
        return next(iter(self.firsts)) if len(self.firsts) == 1 else None

    @property
    def doubted(self) -> frozenset[T]:
        """The items that the last reading did not have."""
        return frozenset(item for item, _ in self.doubts)

    @property
    def unconfirmed(self) -> frozenset[T]:
        """The items that are only known from before."""
        return self.doubted | self.forgotten | self.lapsed

    @property
    def answer(self) -> Answer[tuple[T, ...]]:
        """The answer to believe: what is known, doubted or not, else the last one."""
        return Value(self.items, self.whole) if self.items else self.definite


def _in_order(said: tuple[T, ...], missing: Iterable[T], before: Iterable[T]) -> tuple[T, ...]:
    """The items of an answer, and the missing ones at their places of before.

    The first IPv4 address is the source of unbound traffic. Of an earlier life no order is known,
    so its items come last.
    """
    stay = {*said, *missing}
    kept = [item for item in before if item in stay] if missing else []
    return tuple(dict.fromkeys((*kept, *said, *missing)))
