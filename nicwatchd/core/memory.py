"""What is known of one ENI from all readings of IMDS so far.

One reading is not to be believed when it takes something away: IMDS forgets and remembers again
while it catches up, and an error is not an absence. What an ENI has for its life, its first IPv4
address and its subnet's CIDRs, is never given up for a reading without it: that is amnesia. All
this holds across a restart: of the life before, the kernel shows what was programmed.

Reads: one reading after the other. Gives: what to believe of them, what is doubted, what it forgot.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeVar

from nicwatchd.core.bounds import bounded, distinct, no_item, within
from nicwatchd.core.known import Known
from nicwatchd.core.metadata import (
    ENI_KEYS,
    KEYS,
    Absent,
    Answer,
    EniMetadata,
    FamilyMetadata,
    ImdsKey,
    Kind,
    Role,
    Unknown,
    Value,
    contradicts,
    is_error,
)
from nicwatchd.core.model import Family, IPNetwork, Item, Reason
from nicwatchd.core.policy import Policy

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class KnownFamily:
    """What is known of each list of one family.

    `forgot` is what the last reading lacked though an ENI does not lose it: nothing is given up for
    such a reading. `refused` are the parts of it that cannot be in the ENI's subnets.
    """

    lists: Mapping[ImdsKey, Known[Any]]
    forgot: tuple[Reason, ...] = ()
    refused: tuple[str, ...] = ()

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
        forgot = tuple(self._forgotten(heard, had))
        lists, refused = dict(self.lists), list[str]()
        for key in sorted(lists, key=lambda key: key.assigned):  # the subnets first
            answer, texts = _within_bounds(key, heard.answer(key), _subnets(lists))
            refused += texts
            lists[key] = lists[key].learn(
                answer,
                now,
                policy,
                listed=key.name in listed,
                had=_had_of(key, had),
                earlier=bool(had),
                gives_up=not forgot,
            )
        return KnownFamily(lists, forgot, tuple(refused))

    def without_word(self, now: float, policy: Policy, had: tuple[Item, ...]) -> KnownFamily:
        """What is known after one more reading in which IMDS did not have the ENI."""
        lists = {
            key: known.without_word(now, policy, earlier=bool(had))
            for key, known in self.lists.items()
        }
        return replace(self, lists=lists)

    def unsure(self) -> KnownFamily:
        """The same with nothing of what is assigned confirmed."""
        lists = {
            key: known.unsure() if key.assigned else known for key, known in self.lists.items()
        }
        return replace(self, lists=lists)

    def without(self, given_up: AbstractSet[Hashable]) -> KnownFamily:
        """What is known once addresses or prefixes that are not confirmed are given up."""
        lists = {
            key: known.without(given_up) if key.assigned else known
            for key, known in self.lists.items()
        }
        return replace(self, lists=lists)

    def _forgotten(self, heard: EniMetadata, had: tuple[Item, ...]) -> Iterator[Reason]:
        """What this reading lacks though an ENI has it for its life.

        IPv6 has no such address: each can be unassigned, also the last, while the CIDRs are listed.
        """
        fields = {key.field: key for key in self.lists}
        addresses, cidrs = fields["addresses"], fields["cidrs"]
        before = {key: self._before(key, had) for key in self.lists}
        said, of = heard.answer(addresses), addresses.family
        assigned = [item for key, items in before.items() if key.assigned for item in items]
        # Of an earlier life no CIDRs are known, only what lies in them.
        had_cidrs = before[cidrs] or self.forgot or self.never(cidrs)
        no_cidrs = bool(isinstance(heard.answer(cidrs), Absent) and had_cidrs and assigned)
        has_first = of is Family.V4 and before[addresses]
        if isinstance(said, Absent) and (no_cidrs or has_first):
            yield Reason(f"no-{addresses}", _forgot(str(addresses)))
        elif of is Family.V4 and isinstance(said, Value) and said.whole:
            yield from self._first_forgotten(addresses, cidrs, said.value)
        if no_cidrs:
            yield Reason(f"no-{cidrs}", _forgot(str(cidrs)))
        yield from self._cidr_forgotten(cidrs, heard)

    def _cidr_forgotten(self, key: ImdsKey, heard: EniMetadata) -> Iterator[Reason]:
        """A known CIDR that a reading lacks, though it lists an item that lies in no other."""
        said, known = heard.answer(key), self.lists[key]
        if not isinstance(said, Value) or not said.whole:
            return
        missing = [cidr for cidr in known.items if cidr not in said.value]
        if not missing:
            return
        lists = (heard.answer(other) for other in self.lists if other.assigned)
        items = [i for answer in lists if isinstance(answer, Value) for i in answer.value]
        strays = [item for item in items if not within(item, said.value)]
        for cidr in missing:
            item = next((item for item in strays if within(item, (cidr,))), None)
            if item is not None:
                yield Reason(f"no-{key}", _forgot(f"{cidr}, the subnet of {item}"))

    def _first_forgotten(
        self, key: ImdsKey, cidrs: ImdsKey, said: tuple[Item, ...]
    ) -> Iterator[Reason]:
        """The ENI's first IPv4 address, if a list without it begins with one that is not in doubt.

        A list that begins with another one says that the first was wrong from the beginning; so do
        the subnet's CIDRs, where it lies in none of them. Of an earlier life nothing tells for sure
        which was the first.
        """
        known, subnets = self.lists[key], self.lists[cidrs].items
        sure = frozenset(known.items) - known.doubted
        if known.first is None or (subnets and not within(known.first, subnets)):
            return
        if known.first in sure and known.first not in said and said[0] in sure:
            yield Reason("no-first-ipv4", _forgot(f"{known.first}, its first IPv4 address"))

    def _before(self, key: ImdsKey, had: tuple[Item, ...]) -> tuple[Item, ...]:
        """What is known of a list; of one that was never read, what an earlier life had, too."""
        items = self.lists[key].items
        return (*items, *_had_of(key, had)) if self.never(key) else items

    def never(self, key: ImdsKey) -> bool:
        """Whether IMDS has not yet answered for a list."""
        return isinstance(self.lists[key].definite, Unknown)

    @property
    def assigned(self) -> tuple[Known[Item], ...]:
        """The lists of what is assigned to the ENI: its addresses and its prefixes."""
        return tuple(known for key, known in self.lists.items() if key.assigned)

    @property
    def unread(self) -> bool:
        """Whether IMDS never answered for the addresses, or for the prefixes."""
        return any(isinstance(known.definite, Unknown) for known in self.assigned)

    @property
    def awaited(self) -> bool:
        """... and whether what an earlier life had may still be in them, for all that IMDS says."""
        return any(isinstance(k.definite, Unknown) and not k.silent for k in self.assigned)

    @property
    def believed(self) -> FamilyMetadata:
        """The answers to believe: what is known, as far as it can be in the ENI's subnets."""
        subnets = _subnets(self.lists)
        return FamilyMetadata.from_lists(
            {
                key: known.answer if not known.items else _possible(key, known.answer, subnets)
                for key, known in self.lists.items()
            }
        )

    @property
    def doubted(self) -> bool:
        """Whether an item is known that the last reading did not have."""
        return any(known.doubts for known in self.lists.values())


@dataclass(frozen=True)
class Memory:
    """What is known of one ENI. `believed` is what to judge by; `first_listed` a time, or None.

    `since`: when each key's answer became what it is, by the key's name. Nothing depends on it.
    """

    believed: EniMetadata = field(default_factory=EniMetadata)
    v4: KnownFamily = field(default_factory=partial(KnownFamily.unread_of, Family.V4))
    v6: KnownFamily = field(default_factory=partial(KnownFamily.unread_of, Family.V6))
    first_listed: float | None = None
    since: Mapping[str, float] = field(default_factory=dict, compare=False)

    def without(self, given_up: AbstractSet[Hashable]) -> Memory:
        """What is known once addresses or prefixes that are doubted are given up."""
        if not given_up & self.unconfirmed:
            return self
        v4, v6 = self.v4.without(given_up), self.v6.without(given_up)
        believed = replace(self.believed, v4=v4.believed, v6=v6.believed)
        return replace(self, believed=believed, v4=v4, v6=v6)

    def unsure(self) -> Memory:
        """The same, from before: it is known, and what IMDS lists elsewhere counts for more."""
        return replace(self, v4=self.v4.unsure(), v6=self.v6.unsure())

    @cached_property
    def listed(self) -> frozenset[Item]:
        """The addresses and prefixes that the last reading had."""
        return self._items - self.unconfirmed

    @cached_property
    def missing(self) -> frozenset[Item]:
        """The addresses and prefixes that are known, but that IMDS does not confirm."""
        return self._items & self.unconfirmed

    @cached_property
    def unconfirmed(self) -> frozenset[Item]:
        """What the last reading did not have, and all of lists that IMDS does not have any more."""
        return frozenset(item for known in self._assigned for item in known.unconfirmed)

    @property
    def lapsed(self) -> frozenset[Item]:
        """... of these, what is of such lists."""
        return frozenset(item for known in self._assigned for item in known.lapsed)

    @cached_property
    def _items(self) -> frozenset[Item]:
        """The addresses and prefixes that are known and can be."""
        said = (self.believed.answer(key) for key in ENI_KEYS if key.assigned)
        lists = (answer.value for answer in said if isinstance(answer, Value))
        return frozenset(item for items in lists for item in items)

    def lacked(self, times: int) -> frozenset[Item]:
        """The known addresses and prefixes that so many readings in a row lacked."""
        doubts = (each for known in self._assigned for each in known.doubts)
        return frozenset(item for item, doubt in doubts if doubt.times >= times)

    @property
    def _assigned(self) -> tuple[Known[Item], ...]:
        return (*self.v4.assigned, *self.v6.assigned)

    @property
    def earlier(self) -> bool:
        """Whether an earlier life of the daemon had something that IMDS did not tell of yet."""
        return any(known.unheard is not None or known.silent for known in self._assigned)

    @property
    def unread(self) -> bool:
        """Whether there is a list of addresses or prefixes that IMDS never answered for."""
        return self.v4.unread or self.v6.unread

    @property
    def doubted(self) -> bool:
        """Whether something known was missing from the last reading."""
        return self.v4.doubted or self.v6.doubted

    @property
    def lapses(self) -> bool:
        """Whether IMDS did not have a known list of addresses or prefixes, and may yet."""
        return any(k.unheard and not (k.lapsed or k.silent) for k in self._assigned)

    @property
    def forgot(self) -> dict[Family, tuple[Reason, ...]]:
        """What the last reading lacked though an ENI does not lose it."""
        return {Family.V4: self.v4.forgot, Family.V6: self.v6.forgot}


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
    v4, v6, first = memory.v4, memory.v6, memory.first_listed
    directory, another = heard.directory, contradicts(heard, mac)
    if isinstance(directory, Value) and not another:
        listed = directory.value
        v4, v6 = (known.learn(heard, listed, now, policy, had) for known in (v4, v6))
        first = now if first is None else first
    elif not isinstance(directory, Value) and not is_error(directory):
        v4, v6 = (known.without_word(now, policy, had) for known in (v4, v6))
    newer: dict[str, Any] = {
        key.field: _newer(memory.believed.answer(key), heard.answer(key), another=another)
        for key in ENI_KEYS
        if not key.many and key.role is not Role.WHOSE  # that is about this reading alone
    }
    refused = (*heard.refused, *v4.refused, *v6.refused)
    believed = replace(heard, v4=v4.believed, v6=v6.believed, refused=refused, **newer)
    return Memory(believed, v4, v6, first, _since(memory, believed, now))


def _since(memory: Memory, believed: EniMetadata, now: float) -> dict[str, float]:
    """When each answer became what it is, after one more reading."""
    return {
        key.name: memory.since.get(key.name, now)
        if believed.answer(key) == memory.believed.answer(key)
        else now
        for key in ENI_KEYS
    }


def _subnets(lists: Mapping[ImdsKey, Known[Any]]) -> tuple[IPNetwork, ...]:
    """The CIDRs of one family that are known, as far as they can stand beside each other."""
    (cidrs,) = (known.items for key, known in lists.items() if key.kind is Kind.CIDRS)
    return tuple(cidr for cidr, reason in distinct(cidrs).items() if reason is None)


def _reasons(
    key: ImdsKey, items: tuple[Any, ...], subnets: tuple[IPNetwork, ...]
) -> dict[Any, str | None]:
    """Each item of a list, with why it cannot be; None if it can."""
    if key.kind is Kind.CIDRS:
        return distinct(items)
    return {item: no_item(item, subnets) for item in items}


def _within_bounds(
    key: ImdsKey, answer: Answer[Any], subnets: tuple[IPNetwork, ...]
) -> tuple[Answer[Any], tuple[str, ...]]:
    """The answer without what cannot be, and that in words."""
    if not isinstance(answer, Value):
        return answer, ()
    reasons = _reasons(key, answer.value, subnets)
    bad = [f"{key}: {str(item)!r}: {reason}" for item, reason in reasons.items() if reason]
    if not bad:
        return answer, ()
    return _possible(key, Value(answer.value, whole=False), subnets), bounded(key.name, bad)


def _possible(key: ImdsKey, answer: Answer[Any], subnets: tuple[IPNetwork, ...]) -> Answer[Any]:
    """The answer without what cannot be; Unknown if nothing is left."""
    if not isinstance(answer, Value):
        return answer
    reasons = _reasons(key, answer.value, subnets)
    good = tuple(item for item, reason in reasons.items() if reason is None)
    return Value(good, answer.whole) if good else Unknown(f"{key}: all of it is refused")


def _forgot(what: str) -> str:
    return f"IMDS forgot {what}, which an ENI cannot lose; what is known is kept"


def _had_of(key: ImdsKey, had: tuple[Item, ...]) -> tuple[Item, ...]:
    """The part of `had` that this list would have named. A subnet's CIDRs are never of it."""
    if not key.assigned:
        return ()
    of_addresses = key.kind is Kind.ADDRESSES
    return tuple(
        item
        for item in had
        if item.version == key.family
        and isinstance(item, IPv4Address | IPv6Address) is of_addresses
    )


def _newer(old: Answer[S], new: Answer[S], *, another: bool) -> Answer[S]:
    """The newer answer of a single value, unless it takes a known one away or is another ENI's."""
    if another:
        return old
    if isinstance(new, Value) or isinstance(old, Unknown):
        return new
    return old if isinstance(old, Value) or isinstance(new, Unknown) else new
