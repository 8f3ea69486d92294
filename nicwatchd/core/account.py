"""Why an interface is in its state: an account of the facts, and of what follows from them.

Reads: a decision, and the view of one interface in it. Gives: what IMDS says of each key and since
when, what the kernel proves, how the interface is treated, and what is not done yet. Nothing is
concluded here: the verdicts are those of the view.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from nicwatchd.core.decision import Decision, Throttled
from nicwatchd.core.kernel_proof import leased, on_link_prefixes
from nicwatchd.core.metadata import ENI_KEYS, Absent, Answer, ImdsKey, Role, Unknown, Value
from nicwatchd.core.model import (
    AddAddress,
    AddRoute,
    AddRule,
    Family,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    SetGroup,
    SetUp,
    ours,
)
from nicwatchd.core.port import Result
from nicwatchd.core.treatment import Primary, Treatment, Unmanaged, reason_of
from nicwatchd.core.view import View

VALUE, ABSENT, UNKNOWN = "value", "absent", "unknown"
MANAGED: Final = "managed"
# Those are read only where the settings name them, and tell nothing to people where they do not.
SKIPPED: Final = (Role.WHOSE, Role.NAMED)


@dataclass(frozen=True, slots=True)
class KeyAccount:
    """What IMDS says of one key: a value, that there is none, or nothing that counts, and why.

    `since`: when that answer became what it is (monotonic seconds). `unconfirmed` are the values
    that the last reading lacked; they are kept for now.
    """

    key: str
    answer: str
    values: tuple[str, ...] = ()
    why: str = ""
    since: float | None = None
    unconfirmed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KernelFact:
    """Something that the kernel says of a family: a stable code, values, and what it proves."""

    code: str
    values: tuple[str, ...]
    proves: str


@dataclass(frozen=True, slots=True)
class FamilyAccount:
    """The facts of one family."""

    keys: tuple[KeyAccount, ...]
    kernel: tuple[KernelFact, ...]


@dataclass(frozen=True, slots=True)
class Account:
    """One interface: how it is treated and why, the facts, and what is not done yet."""

    view: View
    treatment: str
    why: str
    keys: tuple[KeyAccount, ...]  # of the ENI itself
    families: dict[Family, FamilyAccount]
    undone: tuple[Operation, ...]
    throttled: tuple[Throttled, ...]


def account(view: View, decision: Decision | None) -> Account:
    """The account of one interface. `decision`: the last one, if there was any."""
    treatment, why = _treatment(view.treatment)
    own = (key for key in ENI_KEYS if not key.many and key.role not in SKIPPED)
    undone: tuple[Operation, ...] = ()
    throttled: tuple[Throttled, ...] = ()
    if decision:
        undone = tuple(o for o in _undone(decision) if is_about(o, view))
        throttled = tuple(t for t in decision.throttled if is_about(t.operation, view))
    return Account(
        view=view,
        treatment=treatment,
        why=why,
        keys=tuple(_key(view, key) for key in own),
        families={family: _family(view, family) for family in Family},
        undone=undone,
        throttled=throttled,
    )


def _treatment(treatment: Treatment) -> tuple[str, str]:
    reason = reason_of(treatment)
    if reason is None:
        return MANAGED, "an ENI that nicwatchd configures"
    if isinstance(treatment, Primary):
        return reason.code, "the primary: IMDS's top-level `mac` is its MAC"
    if isinstance(treatment, Unmanaged) and treatment.asked:
        return reason.code, f"{reason.text}; IMDS is asked about it, since other ENIs need that"
    return reason.code, reason.text


def _family(view: View, family: Family) -> FamilyAccount:
    keys = tuple(_key(view, key) for key in ENI_KEYS if key.family is family)
    return FamilyAccount(keys, tuple(_kernel(view, family)))


def _key(view: View, key: ImdsKey) -> KeyAccount:
    memory = view.memory
    answer: Answer[Any] = memory.believed.answer(key)
    since = memory.since.get(key.name)
    match answer:
        case Absent():
            return KeyAccount(key.name, ABSENT, since=since)
        case Unknown(why=why):
            return KeyAccount(key.name, UNKNOWN, why=why, since=since)
        case Value(value=value):
            items = value if isinstance(value, tuple) else (value,)
            missing = memory.unconfirmed if key.assigned else frozenset()
            unconfirmed = tuple(str(item) for item in items if item in missing)
            values = tuple(map(str, items))
            return KeyAccount(key.name, VALUE, values, since=since, unconfirmed=unconfirmed)


def _kernel(view: View, family: Family) -> Iterator[KernelFact]:
    """What the kernel says, and what that proves without IMDS."""
    link, addresses = view.link, view.addresses
    if leases := [ip for ip in leased(addresses) if ip.version == family]:
        proves = "EC2's DHCP hands out only what the ENI has"
        yield KernelFact("lease", tuple(map(str, leases)), proves)
    routes = view.witness.routes if view.witness else ()
    if subnets := on_link_prefixes(family, addresses, routes):
        yield KernelFact("on-link", tuple(map(str, subnets)), "the subnet, if a lease lies in it")
    if family is Family.V6 and (link.ra_received or link.ra_managed):
        flag = "with the flag for DHCPv6" if link.ra_managed else "without the flag for DHCPv6"
        yield KernelFact("router-advertisement", (flag,), "the subnet has IPv6")
    others = [a for a in addresses if a.family is family and not a.dynamic and not ours(a)]
    if permanent := [str(a.ip) for a in others if not a.ip.is_link_local]:
        yield KernelFact("permanent", tuple(permanent), "nothing: an operator can add anything")
    if family is Family.V6 and (link.disable_ipv6 or not link.has_ipv6):
        yield KernelFact("no-ipv6", (), "IPv6 is off on this link")
    if tentative := [str(a.ip) for a in addresses if a.family is family and a.tentative]:
        yield KernelFact("tentative", tuple(tentative), "it cannot be used yet")
    if not link.up:
        yield KernelFact("link-down", (), "no address answers")
    elif not link.running:
        yield KernelFact("no-carrier", (), "no address answers")


def _undone(decision: Decision) -> Iterator[Operation]:
    """The operations that are still to be carried out, or that the kernel did not accept."""
    if decision.outcomes is None:
        yield from decision.operations
        return
    done = (Result.DONE, Result.GONE)
    yield from (each.operation for each in decision.outcomes if each.result not in done)


def is_about(operation: Operation, view: View) -> bool:
    """Whether an operation is about this interface."""
    index, table = view.link.index, view.numbers.table_of(view.link.index)
    match operation:
        case SetGroup() | SetUp() | AddAddress() | RemoveAddress():
            return operation.index == index
        case AddRoute(route=route) | RemoveRoute(route=route):
            return route.table == table or index in route.links
        case AddRule(rule=rule) | RemoveRule(rule=rule):
            return rule.table == table or rule in view.plan.rules
    return False
