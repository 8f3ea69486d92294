"""What we wrote into the kernel, for each interface and turn, and why: to be told once.

What others removed and we put back is left out: the losses tell that. So is what cancels out, such
as a rule that is added once more to stand behind its guard and then removed where it was.

Reads: the outcomes of a turn's operations, and the interfaces at its end. Gives: what is to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, TypeAlias

from nicwatchd.core.fights import Thing, thing
from nicwatchd.core.interface import Interface
from nicwatchd.core.metadata import FamilyMetadata
from nicwatchd.core.model import (
    AddAddress,
    AddRoute,
    AddRule,
    Family,
    Key,
    Operation,
    Reason,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    SetGroup,
    SetUp,
)
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import Outcome, Result
from nicwatchd.core.treatment import Treatment, reason_of

TAKEN_UP: Final = Reason("taken-up", "nicwatchd takes the interface up")
SETTINGS: Final = Reason("settings-changed", "the settings changed")
MANAGED: Final = Reason("managed", "nicwatchd manages the interface now")
IMDS: Final = Reason("imds-news", "IMDS lists other values for the interface")
HOST: Final = Reason("host-changed", "links, addresses, routes or rules of the host changed")
NOBODY: Final = Reason("no-interface", "it is for no interface that is there, or for all of them")

_Object: TypeAlias = tuple[object, ...]  # what an operation is about, whatever it does to it


class Written:
    """What was written for each interface and not told yet; None: for no interface in particular.

    Why it was written comes from what is different since the last time.
    """

    def __init__(self) -> None:
        self._untold: dict[Key | None, dict[_Object, Operation]] = {}
        self._grounds: dict[Key, _Grounds] = {}

    @property
    def untold(self) -> Iterable[Key | None]:
        """For whom something is to be told."""
        return tuple(self._untold)

    def take(
        self,
        outcomes: Iterable[Outcome],
        owner_of: Callable[[Operation], int | None],
        interfaces: Mapping[int, Interface],
        lost: AbstractSet[Thing],
    ) -> None:
        """Operations were carried out. `lost`: what others took and is being put back."""
        for outcome in outcomes:
            operation = outcome.operation
            is_ours = outcome.result is Result.DONE and not outcome.errno
            if not is_ours or thing(operation) in lost:
                continue
            index = owner_of(operation)
            interface = None if index is None else interfaces.get(index)
            key = interface.key if interface else None
            net = self._untold.setdefault(key, {})
            _put(net, operation)
            if not net:
                del self._untold[key]

    def among(self, keys: AbstractSet[Key]) -> None:
        """Only these interfaces are there: what was written for others belongs to none."""
        self._grounds = {key: its for key, its in self._grounds.items() if key in keys}
        for key in self._untold.keys() - keys - {None}:
            net = self._untold.setdefault(None, {})
            for operation in self._untold.pop(key).values():
                _put(net, operation)

    def drain(
        self, interface: Interface | None, policy: Policy
    ) -> tuple[tuple[Operation, ...], Reason]:
        """What was written for it since the last call, and why."""
        key = interface.key if interface else None
        operations = tuple(self._untold.pop(key).values())
        if interface is None:
            return operations, NOBODY
        before, after = self._grounds.get(interface.key), _grounds(interface, policy)
        self._grounds[interface.key] = after
        return operations, _why(before, after)


def _put(net: dict[_Object, Operation], operation: Operation) -> None:
    """Note one more operation; it undoes the opposite one on the same object."""
    about = _about(operation)
    before = net.pop(about, None)
    if before is None or not _undoes(before, operation):
        net[about] = operation


def _about(operation: Operation) -> _Object:
    match operation:
        case AddAddress(index=index, ip=ip) | RemoveAddress(index=index, ip=ip):
            return ("address", index, ip)
        case AddRoute(route=route) | RemoveRoute(route=route):
            return ("route", route)
        case AddRule(rule=rule) | RemoveRule(rule=rule):
            return ("rule", rule)
        case SetGroup(index=index):
            return ("group", index)
        case SetUp(index=index):
            return ("up", index)
    return ("ruleset",)


def _undoes(before: Operation, after: Operation) -> bool:
    """Whether one of them adds what the other removes."""
    added = (AddAddress, AddRoute, AddRule)
    removed = (RemoveAddress, RemoveRoute, RemoveRule)
    is_new = isinstance(before, added) and not getattr(before, "replace", False)
    return (is_new and isinstance(after, removed)) or (
        isinstance(before, removed) and isinstance(after, added)
    )


@dataclass(frozen=True, slots=True)
class _Grounds:
    """What a plan is made from, as far as it can be named as a cause."""

    policy: Policy
    treatment: Treatment
    listed: tuple[FamilyMetadata, ...]  # by IMDS


def _grounds(interface: Interface, policy: Policy) -> _Grounds:
    believed = interface.facts.memory.believed
    return _Grounds(policy, interface.treatment, tuple(believed.of(each) for each in Family))


def _why(before: _Grounds | None, after: _Grounds) -> Reason:
    if before is None:
        return TAKEN_UP
    if before.policy != after.policy:
        return SETTINGS
    if before.treatment != after.treatment:
        return reason_of(after.treatment) or MANAGED
    return IMDS if before.listed != after.listed else HOST
