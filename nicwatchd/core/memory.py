"""What is known of one ENI from all readings of IMDS so far.

One reading is not to be believed when it takes something away: IMDS forgets and remembers again
while it catches up, and an error is not an absence. So a known item is kept until it was seen
absent several times over a while, and `Unknown` never takes anything back. That holds across a
restart: of the life before, the kernel shows what was programmed.
"""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Generic, TypeVar, cast

from nicwatchd.core.metadata import (
    KEYS,
    NOT_ASKED,
    Absent,
    Answer,
    EniMetadata,
    FamilyKeys,
    FamilyMetadata,
    Unknown,
    Value,
    contradicts,
)
from nicwatchd.core.model import Family, IPAddress, IPNetwork, Item
from nicwatchd.core.policy import Policy

T = TypeVar("T", bound=Hashable)
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Doubt:
    """A known item was not in so many readings, the first of them at `since`."""

    times: int
    since: float


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """What is known of one list: its items in IMDS's order, as it was before a doubt."""

    items: tuple[T, ...] = ()
    doubts: tuple[tuple[T, Doubt], ...] = ()
    definite: Answer[tuple[T, ...]] = NOT_ASKED  # the last answer that was not Unknown, if any
    listed: bool = False  # whether the directory had the key at that answer

    def hear(
        self,
        answer: Answer[tuple[T, ...]],
        now: float,
        policy: Policy,
        *,
        listed: bool,
        had: tuple[T, ...] = (),
    ) -> Known[T]:
        """What is known after one more answer. The first one is doubted where it lacks `had`."""
        never = isinstance(self.definite, Unknown)
        if isinstance(answer, Unknown):
            # A key that appears and cannot be read yet is news: absent no more.
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
        # Of an earlier life no order is known, so its items come last.
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
    """What is known of one family."""

    addresses: Known[IPAddress] = field(default_factory=Known)
    prefixes: Known[IPNetwork] = field(default_factory=Known)
    cidrs: Known[IPNetwork] = field(default_factory=Known)

    def hear(
        self,
        heard: FamilyMetadata,
        keys: FamilyKeys,
        listed: frozenset[str],
        now: float,
        policy: Policy,
        had: tuple[Item, ...] = (),
    ) -> KnownFamily:
        """What is known after one more reading; `listed` are the names in the directory."""
        ips = tuple(item for item in had if isinstance(item, IPv4Address | IPv6Address))
        nets = tuple(item for item in had if isinstance(item, IPv4Network | IPv6Network))
        return KnownFamily(
            self.addresses.hear(
                heard.addresses, now, policy, listed=keys.addresses in listed, had=ips
            ),
            self.prefixes.hear(
                heard.prefixes, now, policy, listed=keys.prefixes in listed, had=nets
            ),
            self.cidrs.hear(heard.cidrs, now, policy, listed=keys.cidrs in listed),
        )

    def without(self, given_up: AbstractSet[Hashable]) -> KnownFamily:
        """What is known once addresses or prefixes that are doubted are given up."""
        return KnownFamily(
            self.addresses.without(given_up), self.prefixes.without(given_up), self.cidrs
        )

    @property
    def unread(self) -> bool:
        """Whether IMDS never answered for the addresses, or for the prefixes."""
        return any(isinstance(known.definite, Unknown) for known in (self.addresses, self.prefixes))

    @property
    def believed(self) -> FamilyMetadata:
        """The answers to believe."""
        return FamilyMetadata(self.addresses.answer, self.prefixes.answer, self.cidrs.answer)

    @property
    def doubted(self) -> bool:
        """Whether an item is known that the last reading did not have."""
        return bool(self.addresses.doubts or self.prefixes.doubts or self.cidrs.doubts)


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of one ENI. `believed` is what to judge by; `first_listed` a time, or None."""

    believed: EniMetadata = field(default_factory=EniMetadata)
    v4: KnownFamily = field(default_factory=KnownFamily)
    v6: KnownFamily = field(default_factory=KnownFamily)
    first_listed: float | None = None

    def without(self, given_up: AbstractSet[Hashable]) -> Memory:
        """What is known once addresses or prefixes that are doubted are given up."""
        v4, v6 = self.v4.without(given_up), self.v6.without(given_up)
        believed = replace(self.believed, v4=v4.believed, v6=v6.believed)
        return replace(self, believed=believed, v4=v4, v6=v6)

    @property
    def listed(self) -> frozenset[Item]:
        """The addresses and prefixes that the last reading had."""
        return self._items - self.missing

    @property
    def missing(self) -> frozenset[Item]:
        """The addresses and prefixes that are known, but that the last reading did not have."""
        return frozenset(item for known in self._owned for item in known.doubted)

    @property
    def _items(self) -> frozenset[Item]:
        return frozenset(item for known in self._owned for item in known.items)

    @property
    def _owned(self) -> tuple[Known[Any], ...]:
        parts = ((of.addresses, of.prefixes) for of in (self.v4, self.v6))
        return tuple(known for part in parts for known in part)

    @property
    def unread(self) -> bool:
        """Whether there is a list of addresses or prefixes that IMDS never answered for."""
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

    `had` is what was programmed before this memory began; it counts where a list was never read.

    Only a reading that lists the MAC, and says that it is about it, says anything of the lists. An
    ENI whose link is there is attached: that IMDS does not list it is IMDS's delay, and takes
    nothing away.
    """
    old = memory.believed
    scalars = EniMetadata(
        directory=heard.directory,
        mac=heard.mac,
        interface_id=_newer(old.interface_id, heard.interface_id),
        subnet_id=_newer(old.subnet_id, heard.subnet_id),
        device_number=_newer(old.device_number, heard.device_number),
        network_card=_newer(old.network_card, heard.network_card),
        refused=heard.refused,
    )
    if not isinstance(heard.directory, Value) or contradicts(heard, mac):
        believed = replace(scalars, v4=memory.v4.believed, v6=memory.v6.believed)
        return replace(memory, believed=believed)
    listed = heard.directory.value
    had_of = {family: tuple(item for item in had if item.version == family) for family in Family}
    v4, v6 = (
        known.hear(heard.of(family), KEYS[family], listed, now, policy, had_of[family])
        for family, known in ((Family.V4, memory.v4), (Family.V6, memory.v6))
    )
    first = now if memory.first_listed is None else memory.first_listed
    return Memory(replace(scalars, v4=v4.believed, v6=v6.believed), v4, v6, first)


def _newer(old: Answer[S], new: Answer[S]) -> Answer[S]:
    """The newer answer of a single value, unless it takes a known one away."""
    if isinstance(new, Value):
        return new
    if isinstance(old, Value):
        return old
    return cast("Answer[S]", old if isinstance(new, Unknown) and isinstance(old, Absent) else new)
