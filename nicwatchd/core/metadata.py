"""The keys of IMDS that we use, and a reading of one ENI.

Each key has one of three answers: a `Value`, `ABSENT` or `Unknown`. Unknown proves nothing and
removes nothing.

`ENI_KEYS` is the only list of the keys. The parser, the prober, the reader and the memory are made
from it. To add a key, add a row and a field of the same name, then use it in `evidence`.

Reads: nothing. Gives: the table of keys, and a reading of one ENI as a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Generic, TypeAlias, TypeVar

from nicwatchd.core.model import Family, IPAddress, IPNetwork

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Value(Generic[T]):
    """IMDS gave a value. One that is not `whole` had parts that were refused: there may be more."""

    value: T
    whole: bool = field(default=True, repr=False)


@dataclass(frozen=True, slots=True)
class Absent:
    """IMDS says that there is none: the key is not listed, or listed and empty."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """IMDS gave no usable answer: an error, a time-out, garbage, or listed-but-404 (the lag)."""

    why: str
    # The 404 of what is listed: IMDS itself was there, and did not have it. It words no other way.
    listed: bool = field(default=False, compare=False)


ABSENT: Final = Absent()
NOT_ASKED: Final = Unknown("not asked yet")

Answer: TypeAlias = Value[T] | Absent | Unknown


class Kind(Enum):
    """What a key contains. This determines how it is parsed and remembered."""

    MAC = auto()
    ENI_ID = auto()
    SUBNET_ID = auto()
    VPC_ID = auto()
    SECURITY_GROUP_IDS = auto()
    """A list of ids, which can change while the ENI is attached."""
    NUMBER = auto()
    ADDRESSES = auto()
    """A list of addresses that the ENI has; each can move to another ENI."""
    PREFIXES = auto()
    """A list of networks that the ENI has (prefix delegation); each can move likewise."""
    CIDRS = auto()
    """A list of networks that the ENI is in. Other ENIs have the same, so none of them moves."""


class Role(Enum):
    """What a key is for. This determines when it is read."""

    WHOSE = auto()
    """Says which ENI the reading is about; read until it is the link's."""
    NAME = auto()
    """Names the ENI in the journal; read at once, and until known. It never changes."""
    ONCE = auto()
    """Read until known. It never changes while the ENI exists."""
    NAMED = auto()
    """Read only where the settings match interfaces by it, and then until known."""
    SELDOM = auto()
    """Wrong at first, and only shown to people; so read seldom."""
    ESSENTIAL = auto()
    """A list without which its family is not complete; we wait until it has a value."""
    OPTIONAL = auto()
    """A list that an ENI need not have; we wait for it only while it cannot be read."""


@dataclass(frozen=True, slots=True)
class ImdsKey:
    """A key of a MAC's directory. `field` is its name in `EniMetadata`, or in `FamilyMetadata`."""

    name: str  # as IMDS spells it
    field: str
    kind: Kind
    role: Role
    family: Family | None = None  # of a list; None for what an ENI has once

    @property
    def many(self) -> bool:
        """Whether it is a list of what a family has."""
        return self.family is not None

    @property
    def has_lines(self) -> bool:
        """Whether its text can have several lines."""
        return self.many or self.kind is Kind.SECURITY_GROUP_IDS

    @property
    def assigned(self) -> bool:
        """Whether it lists what is assigned to this ENI alone."""
        return self.kind in (Kind.ADDRESSES, Kind.PREFIXES)

    def __str__(self) -> str:
        return self.name


ENI_KEYS: Final = (
    ImdsKey("mac", "mac", Kind.MAC, Role.WHOSE),
    ImdsKey("interface-id", "interface_id", Kind.ENI_ID, Role.NAME),
    ImdsKey("subnet-id", "subnet_id", Kind.SUBNET_ID, Role.ONCE),
    ImdsKey("vpc-id", "vpc_id", Kind.VPC_ID, Role.NAMED),
    ImdsKey("security-group-ids", "security_groups", Kind.SECURITY_GROUP_IDS, Role.NAMED),
    ImdsKey("device-number", "device_number", Kind.NUMBER, Role.SELDOM),
    ImdsKey("network-card", "network_card", Kind.NUMBER, Role.SELDOM),
    ImdsKey("local-ipv4s", "addresses", Kind.ADDRESSES, Role.ESSENTIAL, Family.V4),
    ImdsKey("ipv4-prefix", "prefixes", Kind.PREFIXES, Role.OPTIONAL, Family.V4),
    ImdsKey("subnet-ipv4-cidr-block", "cidrs", Kind.CIDRS, Role.ESSENTIAL, Family.V4),
    ImdsKey("ipv6s", "addresses", Kind.ADDRESSES, Role.ESSENTIAL, Family.V6),
    ImdsKey("ipv6-prefix", "prefixes", Kind.PREFIXES, Role.OPTIONAL, Family.V6),
    ImdsKey("subnet-ipv6-cidr-blocks", "cidrs", Kind.CIDRS, Role.ESSENTIAL, Family.V6),
)

# The lists of each family, by the name of their field.
KEYS: Final = {
    family: {key.field: key for key in ENI_KEYS if key.family is family} for family in Family
}


@dataclass(frozen=True, slots=True)
class FamilyMetadata:
    """IMDS's answers on one family of one ENI, in its order (the first IPv4 is the primary)."""

    addresses: Answer[tuple[IPAddress, ...]] = NOT_ASKED
    prefixes: Answer[tuple[IPNetwork, ...]] = NOT_ASKED
    cidrs: Answer[tuple[IPNetwork, ...]] = NOT_ASKED

    @classmethod
    def from_lists(cls, lists: Mapping[ImdsKey, Answer[Any]]) -> FamilyMetadata:
        """From the answers for one family's keys; a list that has no key is ABSENT."""
        said = {key.field: answer for key, answer in lists.items()}
        return cls(**{name: said.get(name, ABSENT) for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class EniMetadata:
    """One reading of `network/interfaces/macs/<mac>/`; all of its keys are as of that reading.

    `directory` is the set of key names listed, ABSENT when IMDS answers 404 for the MAC. Nothing
    that is programmed depends on `device_number` or `network_card`: both are wrong at first.
    """

    directory: Answer[frozenset[str]] = NOT_ASKED
    mac: Answer[str] = NOT_ASKED  # the `mac` leaf, lower case; must equal the link's
    interface_id: Answer[str] = NOT_ASKED
    subnet_id: Answer[str] = NOT_ASKED
    vpc_id: Answer[str] = NOT_ASKED
    security_groups: Answer[tuple[str, ...]] = NOT_ASKED  # ids
    device_number: Answer[int] = NOT_ASKED
    network_card: Answer[int] = NOT_ASKED
    v4: FamilyMetadata = field(default_factory=FamilyMetadata)
    v6: FamilyMetadata = field(default_factory=FamilyMetadata)
    refused: tuple[str, ...] = ()  # refused parts of values, each with key and reason

    @classmethod
    def from_answers(
        cls,
        directory: Answer[frozenset[str]],
        answers: Mapping[str, Answer[Any]],
        refused: tuple[str, ...] = (),
    ) -> EniMetadata:
        """From an answer for each key of ENI_KEYS, by its name."""
        v4, v6 = (
            FamilyMetadata.from_lists({key: answers[key.name] for key in KEYS[family].values()})
            for family in (Family.V4, Family.V6)
        )
        scalars = {key.field: answers[key.name] for key in ENI_KEYS if not key.many}
        return cls(directory=directory, v4=v4, v6=v6, refused=refused, **scalars)

    def of(self, family: Family) -> FamilyMetadata:
        """The part of one family."""
        return self.v4 if family is Family.V4 else self.v6

    def answer(self, key: ImdsKey) -> Answer[Any]:
        """The answer for one key of ENI_KEYS."""
        answer: Answer[Any] = getattr(
            self if key.family is None else self.of(key.family), key.field
        )
        return answer

    def lists(self, family: Family) -> Iterator[tuple[ImdsKey, Answer[Any]]]:
        """Each list of one family with its answer."""
        return ((key, self.answer(key)) for key in KEYS[family].values())


def is_error(answer: Answer[Any]) -> bool:
    """Whether IMDS itself told nothing; what is listed but 404 it does not have, or not yet."""
    return isinstance(answer, Unknown) and not answer.listed


def contradicts(heard: EniMetadata, mac: str) -> bool:
    """Whether the reading says that it is about another interface than the one with this MAC."""
    return isinstance(heard.mac, Value) and heard.mac.value != mac
