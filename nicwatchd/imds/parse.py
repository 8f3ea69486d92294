"""Parses the text of an IMDS key into a value. Pure; no text raises, bad lines are reported.

What is refused, and why: a value goes into the rules and routes of a live host. So a doubtful line
is left out and reported, and the good lines beside it are used. A CIDR with host bits is doubtful:
EC2 writes networks in canonical form, so such a CIDR is damaged, and masking it would be a guess.
Address keys are different: a `/64` after an address has been seen in the field, the address itself
is certain, so the suffix is dropped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from nicwatchd.core.addresses import known_address, known_network
from nicwatchd.core.bounds import (
    MOST_CIDRS,
    MOST_ITEMS,
    NO_ADDRESS,
    bounded,
    never,
    no_prefix,
    no_subnet,
)
from nicwatchd.core.metadata import ABSENT, ENI_KEYS, Answer, ImdsKey, Kind, Unknown, Value
from nicwatchd.core.model import Family, IPAddress, IPNetwork

MAC: Final = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
KEY_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")

SHOWN: Final = 48  # characters of a refused line; the longest CIDR, uncompressed, has 43


def _text(value: object) -> str:
    """Accept only strings: `ipaddress` would convert a number into the address with that value."""
    if not isinstance(value, str) or "%" in value:
        raise ValueError("not plain text")
    return value


def _bare(interface: IPv4Interface | IPv6Interface) -> IPAddress:
    if never(interface.ip):
        raise ValueError(NO_ADDRESS)
    return known_address(interface.ip)


def _with_length(value: object) -> str:
    text = _text(value)
    if "/" not in text:
        raise ValueError("no prefix length")
    return text


def _subnet(network: IPNetwork) -> IPNetwork:
    if reason := no_subnet(network):
        raise ValueError(reason)
    return known_network(network)


def _prefix(network: IPNetwork) -> IPNetwork:
    if reason := no_prefix(network):
        raise ValueError(reason)
    return known_network(network)


def _digits(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"[0-9]{1,5}", text):
        raise ValueError("not a small number")
    return text


def _mac(value: object) -> str:
    text = _text(value).lower()
    if not MAC.fullmatch(text):
        raise ValueError("not a MAC address")
    return text


def _id(prefix: str) -> TypeAdapter[str]:
    return TypeAdapter(
        Annotated[str, StringConstraints(pattern=rf"^{prefix}-[0-9a-zA-Z]{{1,64}}$")]
    )


_IPV4 = TypeAdapter(Annotated[IPv4Interface, BeforeValidator(_text), AfterValidator(_bare)])
_IPV6 = TypeAdapter(Annotated[IPv6Interface, BeforeValidator(_text), AfterValidator(_bare)])
_CIDR4 = TypeAdapter(Annotated[IPv4Network, BeforeValidator(_with_length), AfterValidator(_subnet)])
_CIDR6 = TypeAdapter(Annotated[IPv6Network, BeforeValidator(_with_length), AfterValidator(_subnet)])
_PREFIX4 = TypeAdapter(
    Annotated[IPv4Network, BeforeValidator(_with_length), AfterValidator(_prefix)]
)
_PREFIX6 = TypeAdapter(
    Annotated[IPv6Network, BeforeValidator(_with_length), AfterValidator(_prefix)]
)
_NUMBER = TypeAdapter(Annotated[int, BeforeValidator(_digits)])
_MAC = TypeAdapter(Annotated[str, BeforeValidator(_mac)])

_LINES: Final[dict[tuple[Kind, Family | None], TypeAdapter[Any]]] = {
    (Kind.MAC, None): _MAC,
    (Kind.ENI_ID, None): _id("eni"),
    (Kind.SUBNET_ID, None): _id("subnet"),
    (Kind.VPC_ID, None): _id("vpc"),
    (Kind.SECURITY_GROUP_IDS, None): _id("sg"),
    (Kind.NUMBER, None): _NUMBER,
    (Kind.ADDRESSES, Family.V4): _IPV4,
    (Kind.ADDRESSES, Family.V6): _IPV6,
    (Kind.PREFIXES, Family.V4): _PREFIX4,
    (Kind.PREFIXES, Family.V6): _PREFIX6,
    (Kind.CIDRS, Family.V4): _CIDR4,
    (Kind.CIDRS, Family.V6): _CIDR6,
}


@dataclass(frozen=True, slots=True)
class Leaf:
    """A key that we need, and the type of its lines."""

    key: ImdsKey
    line: TypeAdapter[Any]


LEAVES: Final = {key.name: Leaf(key, _LINES[key.kind, key.family]) for key in ENI_KEYS}


@dataclass(frozen=True, slots=True)
class Parsed:
    """An answer (a tuple if the key may have several lines), and the lines that were refused."""

    answer: Answer[Any]
    refused: tuple[str, ...] = ()


def parse_leaf(key: str, text: str) -> Parsed:
    """Parse the text of a needed key. Blank is ABSENT; without any good line it is Unknown.

    A list with a refused line is not whole: its good lines are in it, and nobody knows what else.
    """
    leaf = LEAVES[key]
    lines = list(dict.fromkeys(_lines(text)))
    if not lines:
        return Parsed(ABSENT)
    good: dict[Any, None] = {}  # an ordered set: the first IPv4 address is the primary one
    bad: list[str] = []
    most = MOST_CIDRS if leaf.key.kind is Kind.CIDRS else MOST_ITEMS
    for line in lines:
        if len(good) >= most:
            bad.append(f"{key}: {_quote(line)}: more than {most} lines")
            continue
        try:
            good[leaf.line.validate_python(line)] = None
        except ValidationError as error:
            bad.append(_refusal(key, line, error))
    refused = bounded(key, bad)
    if not good:
        return Parsed(Unknown(f"{key}: garbage"), refused)
    if leaf.key.has_lines:
        return Parsed(Value(tuple(good), whole=not bad), refused)
    if len(lines) > 1:
        return Parsed(Unknown(f"{key}: garbage ({len(lines)} lines)"), refused)
    return Parsed(Value(next(iter(good))), refused)


def parse_directory(text: str, before: frozenset[str] = frozenset()) -> Parsed:
    """The names in a MAC's directory, subdirectories without their slash; whole as a list is.

    `before` are its names so far. If it lacks one of them and has a new one that is nearly the
    same, that is damage, too.
    """
    lines = _lines(text)
    if not lines:
        return Parsed(ABSENT)
    names = {line.removesuffix("/") for line in lines}
    good = frozenset(name for name in names if KEY_NAME.fullmatch(name))
    lost = (before & LEAVES.keys()) - good
    # ipv6-prefix is a key of its own, and no damaged ipv4-prefix.
    new = good - before - LEAVES.keys()
    good -= {name for name in new if any(_is_damaged(name, key) for key in lost)}
    bad = [f"directory: {_quote(name)}: not a key's name" for name in sorted(names - good)]
    refused = bounded("directory", bad)
    answer = Value(good, whole=not bad) if good else Unknown("directory: garbage")
    return Parsed(answer, refused)


def _is_damaged(name: str, key: str) -> bool:
    """Whether a name is a key's, but cut, run together with the next, or with one wrong letter."""
    if len(name) == len(key):
        return sum(one != other for one, other in zip(name, key, strict=True)) == 1
    return key.startswith(name) or name.startswith(key)


def find_mac(listing: str, mac: str) -> Answer[str]:
    """`mac` as the list of MACs spells it (perhaps in upper case); ABSENT if it is not listed."""
    spellings = [line.removesuffix("/") for line in _lines(listing)]
    for spelling in spellings:
        if spelling.lower() == mac:
            return Value(spelling)
    bad = [each for each in spellings if not MAC.fullmatch(each.lower())]
    return Unknown(f"the list of MACs: garbage ({_quote(bad[0])})") if bad else ABSENT


def parse_macs(listing: str) -> Answer[frozenset[str]]:
    """All MACs of the list, in lower case. It is not whole where a line is none."""
    lines = [line.removesuffix("/").lower() for line in _lines(listing)]
    good = frozenset(line for line in lines if MAC.fullmatch(line))
    return Value(good, whole=len(good) == len({*lines}))


def _lines(text: str) -> list[str]:
    """The lines that are not blank. What else Unicode takes for the end of a line is damage."""
    return [line.strip() for line in text.split("\n") if line.strip()]


def _refusal(key: str, line: str, error: ValidationError) -> str:
    reason = error.errors(include_url=False, include_input=False)[0]["msg"]
    return f"{key}: {_quote(line)}: {reason.removeprefix('Value error, ')}"


def _quote(line: str) -> str:
    return ascii(line if len(line) <= SHOWN else line[:SHOWN] + "...")
