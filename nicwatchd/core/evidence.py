"""Are the facts of one family complete? Each family is judged alone, from kernel and IMDS.

IMDS's lists arrive late and in parts, so we must tell "not there" from "not there yet". A family is
READY when its lists agree with each other and with what DHCP configured. It is WAITING while
something is missing, or evidence for it may still come. It is ABSENT when no evidence came in
time, or when the subnet has the family and nothing of it is assigned to the interface. It is OFF
while the kernel has no such protocol on the link.

The kernel is often faster than IMDS. EC2's DHCP server hands out only addresses that belong to the
ENI, so a leased address is proof enough for routes and rules before IMDS lists it.

Reads: a `Witness`, everything known about one interface. Gives: a `Verdict` for each family.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, TypeVar

from nicwatchd.core.bounds import within
from nicwatchd.core.kernel_proof import leased, on_link_prefixes, proven
from nicwatchd.core.lists import Lists, damaged, missing, strange_leases, strays, unlisted_leases
from nicwatchd.core.metadata import (
    KEYS,
    NOT_ASKED,
    Absent,
    Answer,
    EniMetadata,
    Unknown,
    Value,
    contradicts,
)
from nicwatchd.core.model import (
    SCOPE_UNIVERSE,
    Address,
    Family,
    IPAddress,
    IPNetwork,
    Link,
    Reason,
    Route,
    ours,
)
from nicwatchd.core.policy import Policy
from nicwatchd.core.protocols import why_off
from nicwatchd.core.remedies import ASSIGNED, RELEASE
from nicwatchd.core.treatment import is_primary

T = TypeVar("T")
UNLISTED: Final = "mac-unlisted"


class Status(StrEnum):
    """The verdict on one family."""

    READY = "ready"
    WAITING = "waiting"
    ABSENT = "absent"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Usable:
    """The part of one family that is certain, and so may be programmed, whatever else is missing.

    `addresses` and `prefixes` belong to the ENI; `subnets` are on its link. `listed` are the
    addresses that IMDS itself names, in its order: only these may be added to the link.
    `by_device`: others have them all, so only sockets that are bound to the link can use it.
    """

    addresses: tuple[IPAddress, ...] = ()
    prefixes: tuple[IPNetwork, ...] = ()
    subnets: tuple[IPNetwork, ...] = ()
    listed: tuple[IPAddress, ...] = ()
    by_device: bool = False

    def without(self, elsewhere: Collection[IPAddress | IPNetwork]) -> Usable:
        """The same without the addresses and prefixes that another ENI owns."""
        if not elsewhere:
            return self  # nearly always
        return replace(
            self,
            by_device=self.by_device
            or (bool(self) and all(item in elsewhere for item in self.items)),
            addresses=tuple(ip for ip in self.addresses if ip not in elsewhere),
            prefixes=tuple(prefix for prefix in self.prefixes if prefix not in elsewhere),
            listed=tuple(ip for ip in self.listed if ip not in elsewhere),
        )

    @property
    def items(self) -> tuple[IPAddress | IPNetwork, ...]:
        """The addresses and prefixes."""
        return (*self.addresses, *self.prefixes)

    def __bool__(self) -> bool:
        """Whether there is an address or prefix that traffic can come from."""
        return bool(self.addresses or self.prefixes)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one family. `reasons`: what it waits for, or why it is absent or off."""

    family: Family
    status: Status
    reasons: tuple[Reason, ...]
    notes: tuple[Reason, ...] = ()
    usable: Usable = Usable()


@dataclass(frozen=True, slots=True)
class Witness:
    """Everything known about one interface when it is judged.

    `addresses` are those on the link, `routes` those of the main table through the link, `imds` the
    answers of IMDS that we believe. `age` is seconds since the link appeared, `listed_for` since
    IMDS first listed it (None: never). `confirmed` are the families that were READY before.
    `forgot` is what the last reading lacked although an ENI cannot lose it. `earlier`: an
    earlier life of the daemon had something of it that IMDS did not tell of yet.
    """

    link: Link
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    imds: EniMetadata = field(default_factory=EniMetadata)
    primary_mac: Answer[str] = NOT_ASKED
    age: float = 0.0
    listed_for: float | None = None
    confirmed: frozenset[Family] = frozenset()
    forgot: Mapping[Family, tuple[Reason, ...]] = field(default_factory=dict)
    earlier: bool = False


def judge(family: Family, witness: Witness, policy: Policy) -> Verdict:
    """The verdict on one family of one interface."""
    if off := _why_off(family, witness, policy):
        return Verdict(family, Status.OFF, (off,))
    leases = tuple(ip for ip in leased(witness.addresses) if ip.version == family)
    proof = _kernel_proof(family, witness, leases, policy)
    said = Lists.of(family, witness.imds)
    usable = Usable(
        addresses=_union(said.good_addresses, proof.addresses),
        prefixes=said.good_prefixes,
        subnets=_union(said.subnets, proof.subnets),
        listed=said.good_addresses,
    )
    confirmed = family in witness.confirmed
    refusal = _refuse_all(witness, policy)
    strangers, usable = _strangers(family, said, leases, usable)
    if _is_no_eni(family, witness, refusal, policy):
        return _beyond_imds(family, witness, proof)
    if refusal:  # what earlier answers confirmed stays usable
        usable = usable if confirmed else proof
        return Verdict(family, Status.WAITING, (refusal,), usable=usable)
    if not _has_evidence(family, witness, leases, policy):
        return _undecided(family, witness, policy)
    told_none = _told_none(family, witness)
    if told_none and not leases and _patience_over(family, witness, policy):
        return Verdict(family, Status.ABSENT, (_nothing_assigned(family),))
    reasons = missing(family, witness.imds) + strays(family, said)
    unlisted = unlisted_leases(family, said, tuple(ip for ip in leases if ip not in strangers))
    # What only delays a family that was never whole. Of one that was READY before nothing is taken
    # for it, so what works goes on: it is worth a note, and a damaged line has its own already.
    forgot = witness.forgot.get(family, ())
    if not confirmed:
        reasons += damaged(family, witness.imds) + forgot + unlisted
        forgot = unlisted = ()
    elif told_none and leases:
        reasons = ()  # a lease outlives an unassignment by minutes: nothing to wait for
    status = Status.WAITING if reasons else Status.READY
    notes = (*_due(forgot, witness, policy), *unlisted, *strange_leases(family, said, strangers))
    return Verdict(family, status, reasons, notes=notes, usable=usable)


def _due(forgot: tuple[Reason, ...], witness: Witness, policy: Policy) -> tuple[Reason, ...]:
    """What IMDS forgot. Of an ENI that is back it tells late, as of every new one: nothing yet."""
    return () if witness.age < policy.patience else forgot


def _why_off(family: Family, witness: Witness, policy: Policy) -> Reason | None:
    """Why the family is off, by the settings or in the kernel; None: it is not."""
    if family not in policy.families:
        text = f"{family.label} is off by the settings (`families`); nicwatchd leaves it alone"
        return Reason("off-by-settings", text)
    return why_off(family, witness.link)


def _strangers(
    family: Family, said: Lists, leases: tuple[IPAddress, ...], usable: Usable
) -> tuple[tuple[IPAddress, ...], Usable]:
    """The leases of another network than IMDS names, and what is usable without them.

    An ENI's IPv4 subnet never changes, and its table has one router, which would not take them.
    IPv6 has one router for all subnets.
    """
    if family is Family.V6 or not said.subnets:
        return (), usable
    strangers = tuple(
        ip for ip in leases if ip not in said.addresses and not within(ip, said.subnets)
    )
    if not strangers:
        return (), usable
    left = tuple(ip for ip in usable.addresses if ip not in strangers)
    subnets = tuple(
        subnet
        for subnet in usable.subnets
        if subnet in said.subnets or any(ip in subnet for ip in left)
    )
    return strangers, replace(usable, addresses=left, subnets=subnets)


def _refuse_all(witness: Witness, policy: Policy) -> Reason | None:
    """Why no answer of IMDS about this interface can be used yet; None: they can be used."""
    imds = witness.imds
    if isinstance(imds.mac, Value) and contradicts(imds, witness.link.mac):
        text = f"IMDS was asked about {witness.link.mac} but answered about {imds.mac.value!r}"
        return Reason("wrong-mac", text)
    if not isinstance(witness.primary_mac, Value):
        why = getattr(witness.primary_mac, "why", "IMDS does not list it")
        return Reason("primary-unknown", f"the primary interface's MAC is not known: {why}")
    if witness.listed_for is not None:
        return None
    if isinstance(imds.directory, Unknown):
        return Reason("imds-unread", f"no usable answer from IMDS: {imds.directory.why}")
    overdue = witness.age >= policy.patience
    advice = "; did EC2 attach this interface?" if overdue else " yet"
    name, mac = witness.link.name, witness.link.mac
    remedy = RELEASE.format(name=name, assigned=ASSIGNED.format(mac=mac)) if overdue else ""
    return Reason(UNLISTED, f"IMDS does not list the MAC {mac}{advice}", remedy)


def _is_no_eni(family: Family, witness: Witness, refusal: Reason | None, policy: Policy) -> bool:
    """Whether IMDS has had twice the patience to tell of an ENI, and knows none with this MAC.

    That is so of the interfaces of a secondary network, which are no part of the VPC.
    """
    imds = witness.imds
    if witness.age < 2 * policy.patience or family in policy.expect:
        return False
    had = witness.earlier and not witness.confirmed
    if had or is_primary(witness.link, witness.primary_mac):
        return False
    if refusal:
        return refusal.code == UNLISTED and isinstance(imds.directory, Absent)
    untold = all(isinstance(answer, Absent) for _, answer in imds.lists(family))
    return isinstance(imds.interface_id, Absent) and untold


def _beyond_imds(family: Family, witness: Witness, proof: Usable) -> Verdict:
    """The verdict on what IMDS does not know: what is on the link can be used, and no more."""
    text = f"IMDS knows no ENI with the MAC {witness.link.mac}: an interface of a secondary network"
    note = Reason("no-eni", f"{text}, perhaps. What is on its link is used, and nothing is added")
    own = [a for a in witness.addresses if a.family is family and not ours(a)]
    if not any(a.scope == SCOPE_UNIVERSE and not a.ip.is_link_local for a in own):
        return Verdict(family, Status.ABSENT, (note,))
    subnets = on_link_prefixes(family, tuple(own), witness.routes)
    usable = replace(proof, subnets=_union(proof.subnets, subnets), by_device=True)
    return Verdict(family, Status.READY, (), notes=(note,), usable=usable)


def _kernel_proof(
    family: Family, witness: Witness, leases: tuple[IPAddress, ...], policy: Policy
) -> Usable:
    """What the kernel proves about a secondary ENI, where the settings permit its use."""
    primary = witness.primary_mac
    is_other = isinstance(primary, Value) and primary.value != witness.link.mac
    if not policy.kernel_proof or not is_other or witness.link.master:
        return Usable()
    addresses, subnets = proven(family, witness.link, witness.addresses, witness.routes, leases)
    return Usable(addresses=addresses, subnets=subnets)


def _has_evidence(
    family: Family, witness: Witness, leases: tuple[IPAddress, ...], policy: Policy
) -> bool:
    """Whether there is evidence that the interface has, or will have, this family."""
    imds = witness.imds.of(family)
    told = any(not isinstance(key, Absent) for key in (imds.addresses, imds.prefixes, imds.cidrs))
    managed = family is Family.V6 and witness.link.ra_managed
    return told or managed or bool(leases) or family in policy.expect


def _undecided(family: Family, witness: Witness, policy: Policy) -> Verdict:
    """The verdict without evidence: WAITING for the settling time, then ABSENT."""
    listed_for = witness.listed_for or 0.0
    name = family.label.lower()
    if listed_for >= policy.settling:
        text = f"IMDS has listed the interface for at least {policy.settling:g} s, without "
        text += family.label
        return Verdict(family, Status.ABSENT, (Reason(f"no-sign-of-{name}", text),))
    left = f"{policy.settling - listed_for:.0f} s more"
    text = f"no {family.label} in IMDS yet ({KEYS[family]['addresses']}); waiting {left}"
    return Verdict(family, Status.WAITING, (Reason(f"undecided-{name}", text),))


def _told_none(family: Family, witness: Witness) -> bool:
    """Whether IMDS says that the interface has no address and no prefix of the family."""
    said = witness.imds.of(family)
    return isinstance(said.addresses, Absent) and isinstance(said.prefixes, Absent)


def _patience_over(family: Family, witness: Witness, policy: Policy) -> bool:
    """Whether to stop waiting for an address of a family that the subnet seems to have."""
    return witness.age >= policy.patience and family not in policy.expect


def _nothing_assigned(family: Family) -> Reason:
    code = f"no-{family.label.lower()}-assigned"
    text = f"the subnet has {family.label}, but the interface has no address or prefix of it"
    return Reason(code, text)


def _union(first: tuple[T, ...], second: tuple[T, ...]) -> tuple[T, ...]:
    """The items of both, without duplicates, in order."""
    return tuple(dict.fromkeys((*first, *second)))
