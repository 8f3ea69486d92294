"""Which keys are read of an ENI that waits for nothing, and how often.

A poll then reads the keys whose turn it is. Addresses are assigned and taken away more often than
all else changes: they are read in each poll, so that few polls, and few wake-ups, find them soon.

Reads: the names that the ENI's directory lists, and the keys by which sections match. Gives: every
how many polls each key is read, and what a poll costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from nicwatchd.core.metadata import ENI_KEYS, ImdsKey, Kind, Role
from nicwatchd.core.model import Family

DIRECTORY: Final = "directory"

# Polls from one reading of a key to the next.
ALWAYS: Final = 1
OFTEN: Final = 2  # prefixes; the directory too, if it may yet list one
SOMETIMES: Final = 4  # below a minute: a subnet's IPv6 networks, security groups
SELDOM: Final = 60  # what never changes, or is only displayed

_LISTS: Final = frozenset(key.name for key in ENI_KEYS if key.many)
_ADDRESSES: Final = frozenset(key.name for key in ENI_KEYS if key.kind is Kind.ADDRESSES)


def rota(listed: AbstractSet[str], named: AbstractSet[str] = frozenset()) -> dict[str, int]:
    """Every how many polls each of these keys is read; what is not in it is not read at rest.

    `named`: the keys by which sections match.
    """
    found = {DIRECTORY: _every_directory(listed)}
    for key in ENI_KEYS:
        every = _every(key, named) if key.name in listed else None
        if every:
            found[key.name] = every
    return found


def _every_directory(listed: AbstractSet[str]) -> int:
    if not _ADDRESSES & listed:
        return ALWAYS
    return SOMETIMES if listed >= _LISTS else OFTEN


def _every(key: ImdsKey, named: AbstractSet[str]) -> int | None:
    if key.kind is Kind.ADDRESSES:
        return ALWAYS
    if key.kind is Kind.PREFIXES:
        return OFTEN
    if key.kind is Kind.CIDRS:  # an ENI's IPv4 network is its own for life
        return SOMETIMES if key.family is Family.V6 else SELDOM
    if key.role is Role.NAMED and key.has_lines and key.name in named:
        return SOMETIMES
    return SELDOM if key.role is Role.SELDOM else None


def requests(turns: Mapping[str, int]) -> float:
    """How many requests a poll costs on average."""
    return sum(1 / every for every in turns.values())
