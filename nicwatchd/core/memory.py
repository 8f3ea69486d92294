"""What is known about one ENI from all readings of IMDS so far.

A single reading that lacks a known item is not believed: while IMDS catches up, it may leave out an
item and list it again later. So an item is kept until several readings in a row, over some time,
have lacked it. `Unknown` never removes anything. All this also holds across a restart, because the
kernel shows what the previous run programmed.

Reads: one reading after the other. Gives: what to believe, and what is in doubt.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Generic, TypeVar

from nicwatchd.core.metadata import (
    ENI_KEYS,
    KEYS,
    NOT_ASKED,
    Answer,
    EniMetadata,
    FamilyMetadata,
    ImdsKey,
    Kind,
    Role,
    Unknown,
    Value,
    contradicts,
)
from nicwatchd.core.model import Family, Item
from nicwatchd.core.policy import Policy

T = TypeVar("T", bound=Hashable)
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Doubt:
    """The last `times` readings lacked a known item; the first of them was at `since`."""

    times: int
    since: float


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """What is known about one list: its items in IMDS's order; doubted ones keep their place."""

    items: tuple[T, ...] = ()
    doubts: tuple[tuple[T, Doubt], ...] = ()
    definite: Answer[tuple[T, ...]] = NOT_ASKED  # the last answer that was not Unknown, if any
    listed: bool = False  # whether the directory had the key at that answer

    def learn(
        self,
        answer: Answer[tuple[T, ...]],
        now: float,
        policy: Policy,
        *,
        listed: bool,
        had: tuple[T, ...] = (),
    ) -> Known[T]:
        """What is known after one more answer. What the first lacks of `had` is doubted."""
        never = isinstance(self.definite, Unknown)
        if isinstance(answer, Unknown):
            # A key that is listed for the first time, but cannot be read yet, is no longer absent.
            news = listed and not self.listed and not self.items
            return replace(self, definite=answer) if news or never else self
        said = answer.value if isinstance(answer, Value) else ()
        present = frozenset(said)
        doubts = []
        for item in had if never else self.items:
            if item in present:
                continue
            doubt = dict(self.doubts).get(item, Doubt(0, now))
            doubt = replace(doubt, times=doubt.times + 1)
            if doubt.times < policy.doubts or now - doubt.since < policy.doubt_span:
                doubts.append((item, doubt))
        # A doubted item keeps its place: the first IPv4 address is the source of unbound traffic.
        # The order in the previous run is not known, so its items come last.
        kept = tuple(item for item, _ in doubts)
        items = tuple(i for i in self.items if i in present or i in kept) if kept else ()
        return Known(tuple(dict.fromkeys((*items, *said, *kept))), tuple(doubts), answer, listed)

    def without(self, given_up: AbstractSet[Hashable]) -> Known[T]:
        """What is known once doubted items are given up before their time."""
        doubts = tuple((item, doubt) for item, doubt in self.doubts if item not in given_up)
        gone = self.doubted & given_up
        return replace(self, items=tuple(i for i in self.items if i not in gone), doubts=doubts)

    @property
    def doubted(self) -> frozenset[T]:
        """The items that the last reading did not have."""
        return frozenset(item for item, _ in self.doubts)

    @property
    def answer(self) -> Answer[tuple[T, ...]]:
        """The answer to believe: what is known, doubted or not, else the last one."""
        return Value(self.items) if self.items else self.definite


@dataclass(frozen=True, slots=True)
class KnownFamily:
    """What is known about each list of one family."""

    lists: Mapping[ImdsKey, Known[Any]]

    @classmethod
    def unread_of(cls, family: Family) -> KnownFamily:
        """What is known before the first reading."""
        return cls({key: Known() for key in KEYS[family].values()})

    def learn(
        self,
        heard: EniMetadata,
        listed: AbstractSet[str],
        now: float,
        policy: Policy,
        had: tuple[Item, ...],
    ) -> KnownFamily:
        """What is known after one more reading; `listed` are the keys that its directory has."""
        return KnownFamily(
            {
                key: known.learn(
                    heard.answer(key),
                    now,
                    policy,
                    listed=key.name in listed,
                    had=_had_of(key, had),
                )
                for key, known in self.lists.items()
            }
        )

    def without(self, given_up: AbstractSet[Hashable]) -> KnownFamily:
        """What is known once addresses or prefixes that are doubted are given up."""
        return KnownFamily(
            {
                key: known.without(given_up) if key.assigned else known
                for key, known in self.lists.items()
            }
        )

    @property
    def assigned(self) -> tuple[Known[Item], ...]:
        """The lists of what is assigned to the ENI: its addresses and its prefixes."""
        return tuple(known for key, known in self.lists.items() if key.assigned)

    @property
    def unread(self) -> bool:
        """Whether IMDS has not yet answered for the addresses, or not for the prefixes."""
        return any(isinstance(known.definite, Unknown) for known in self.assigned)

    @property
    def believed(self) -> FamilyMetadata:
        """The answers to believe."""
        return FamilyMetadata.from_lists({of: known.answer for of, known in self.lists.items()})

    @property
    def doubted(self) -> bool:
        """Whether the last reading lacked a known item."""
        return any(known.doubts for known in self.lists.values())


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known about one ENI. Verdicts use `believed`. `first_listed` is a time, or None."""

    believed: EniMetadata = field(default_factory=EniMetadata)
    v4: KnownFamily = field(default_factory=partial(KnownFamily.unread_of, Family.V4))
    v6: KnownFamily = field(default_factory=partial(KnownFamily.unread_of, Family.V6))
    first_listed: float | None = None

    def without(self, given_up: AbstractSet[Hashable]) -> Memory:
        """What is known once addresses or prefixes that are doubted are given up."""
        v4, v6 = self.v4.without(given_up), self.v6.without(given_up)
        believed = replace(self.believed, v4=v4.believed, v6=v6.believed)
        return replace(self, believed=believed, v4=v4, v6=v6)

    @property
    def listed(self) -> frozenset[Item]:
        """The addresses and prefixes that the last reading had."""
        items = frozenset(item for known in self._assigned for item in known.items)
        return items - self.missing

    @property
    def missing(self) -> frozenset[Item]:
        """The known addresses and prefixes that the last reading lacked."""
        return frozenset(item for known in self._assigned for item in known.doubted)

    def lacked(self, times: int) -> frozenset[Item]:
        """The known addresses and prefixes that so many readings in a row lacked."""
        doubts = (each for known in self._assigned for each in known.doubts)
        return frozenset(item for item, doubt in doubts if doubt.times >= times)

    @property
    def _assigned(self) -> tuple[Known[Item], ...]:
        return (*self.v4.assigned, *self.v6.assigned)

    @property
    def unread(self) -> bool:
        """Whether there is a list of addresses or prefixes that IMDS has not answered for yet."""
        return self.v4.unread or self.v6.unread

    @property
    def doubted(self) -> bool:
        """Whether something known was missing from the last reading."""
        return self.v4.doubted or self.v6.doubted


def remember(
    memory: Memory,
    heard: EniMetadata,
    mac: str,
    now: float,
    policy: Policy,
    had: tuple[Item, ...] = (),
) -> Memory:
    """What is known after one more reading of the ENI with this (the link's) MAC.

    `had` is what was programmed before this memory began; it counts for lists not read so far.

    Only a reading that lists the MAC, and is not about another one, can change the lists. An ENI
    that has a link is attached: if IMDS does not list it, IMDS lags, and nothing is removed.
    """
    v4, v6, first = memory.v4, memory.v6, memory.first_listed
    if isinstance(heard.directory, Value) and not contradicts(heard, mac):
        listed = heard.directory.value
        v4, v6 = (known.learn(heard, listed, now, policy, had) for known in (v4, v6))
        first = now if first is None else first
    newer: dict[str, Any] = {
        key.field: _newer(memory.believed.answer(key), heard.answer(key))
        for key in ENI_KEYS
        if not key.many and key.role is not Role.WHOSE  # that says only what this reading is about
    }
    return Memory(replace(heard, v4=v4.believed, v6=v6.believed, **newer), v4, v6, first)


def _had_of(key: ImdsKey, had: tuple[Item, ...]) -> tuple[Item, ...]:
    """The part of `had` that belongs in this list; nothing for a subnet's CIDRs."""
    if not key.assigned:
        return ()
    of_addresses = key.kind is Kind.ADDRESSES
    return tuple(
        item
        for item in had
        if item.version == key.family
        and isinstance(item, IPv4Address | IPv6Address) is of_addresses
    )


def _newer(old: Answer[S], new: Answer[S]) -> Answer[S]:
    """The newer answer of a single value, unless it takes a known one away."""
    if isinstance(new, Value) or isinstance(old, Unknown):
        return new
    return old if isinstance(old, Value) or isinstance(new, Unknown) else new
