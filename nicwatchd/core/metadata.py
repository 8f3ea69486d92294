"""What IMDS said of an ENI, as frozen values: each key has one of three answers.

A `Value`, `ABSENT`, or `Unknown`. Unknown proves nothing and removes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

from nicwatchd.core.model import Family, IPAddress, IPNetwork

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Value(Generic[T]):
    """IMDS gave a value."""

    value: T


@dataclass(frozen=True, slots=True)
class Absent:
    """IMDS says that there is none: the key is not listed, or listed and empty."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """IMDS did not say: an error, a time-out, garbage, or listed-but-404 (the lag)."""

    why: str


ABSENT: Final = Absent()
NOT_ASKED: Final = Unknown("not asked yet")

Answer: TypeAlias = Value[T] | Absent | Unknown


class FamilyKeys(NamedTuple):
    """The names of the three keys of one family in a MAC's directory."""

    addresses: str
    prefixes: str
    cidrs: str


KEYS: Final = {
    Family.V4: FamilyKeys("local-ipv4s", "ipv4-prefix", "subnet-ipv4-cidr-block"),
    Family.V6: FamilyKeys("ipv6s", "ipv6-prefix", "subnet-ipv6-cidr-blocks"),
}


@dataclass(frozen=True, slots=True)
class FamilyMetadata:
    """What IMDS says of one family of one ENI, in IMDS's order (the first IPv4 is the primary)."""

    addresses: Answer[tuple[IPAddress, ...]] = NOT_ASKED
    prefixes: Answer[tuple[IPNetwork, ...]] = NOT_ASKED
    cidrs: Answer[tuple[IPNetwork, ...]] = NOT_ASKED


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
    device_number: Answer[int] = NOT_ASKED
    network_card: Answer[int] = NOT_ASKED
    v4: FamilyMetadata = field(default_factory=FamilyMetadata)
    v6: FamilyMetadata = field(default_factory=FamilyMetadata)
    refused: tuple[str, ...] = ()  # parts of values that were refused, each with key and reason

    def of(self, family: Family) -> FamilyMetadata:
        """The part of one family."""
        return self.v4 if family is Family.V4 else self.v6


def contradicts(heard: EniMetadata, mac: str) -> bool:
    """Whether the reading says that it is about another interface than the one with this MAC."""
    return isinstance(heard.mac, Value) and heard.mac.value != mac
