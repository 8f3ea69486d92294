"""Are the facts of one family complete? Each family is judged alone, from kernel and IMDS.

IMDS's lists arrive late and in parts, so we must tell "not there" from "not there yet". A family is
READY when its lists agree with each other and with what DHCP configured. It is WAITING while
something is missing, or evidence for it may still come. It is ABSENT when no evidence came in
time, or when the subnet has the family and nothing of it is assigned to the interface.

The kernel is often faster than IMDS. EC2's DHCP server hands out only addresses that belong to the
ENI, so a leased address is proof enough for routes and rules before IMDS lists it.

Reads: a `Witness`, everything known about one interface. Gives: a `Verdict` for each family.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_interface
from typing import Final, TypeVar

from nicwatchd.core.metadata import (
    KEYS,
    NOT_ASKED,
    Absent,
    Answer,
    EniMetadata,
    ImdsKey,
    Unknown,
    Value,
    contradicts,
)
from nicwatchd.core.model import (
    RTPROT_KERNEL,
    RTPROT_RA,
    SCOPE_UNIVERSE,
    Address,
    Family,
    IPAddress,
    IPNetwork,
    Link,
    Reason,
    Route,
    contains,
)
from nicwatchd.core.policy import Policy

T = TypeVar("T")

# DHCPv4 hands these out in IPv6-only subnets; they are not routed.
IPV4_LINK_LOCAL: Final = IPv4Network("169.254.0.0/16")


class Status(StrEnum):
    """The verdict on one family."""

    READY = "ready"
    WAITING = "waiting"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Usable:
    """The part of one family that is certain, and so may be programmed, whatever else is missing.

    `addresses` and `prefixes` belong to the ENI; `subnets` are on its link. `listed` are the
    addresses that IMDS itself names, in its order: only these may be added to the link.
    `by_device`: another ENI owns them all, so only sockets that are bound to the link can use it.
    """

    addresses: tuple[IPAddress, ...] = ()
    prefixes: tuple[IPNetwork, ...] = ()
    subnets: tuple[IPNetwork, ...] = ()
    listed: tuple[IPAddress, ...] = ()
    by_device: bool = False

    def without(self, elsewhere: Container[IPAddress | IPNetwork]) -> Usable:
        """The same without the addresses and prefixes that another ENI owns."""
        return replace(
            self,
            by_device=bool(self) and all(item in elsewhere for item in self.items),
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
    """The judgement of one family. `reasons` say what it waits for, or why it is absent."""

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
    """

    link: Link
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    imds: EniMetadata = field(default_factory=EniMetadata)
    primary_mac: Answer[str] = NOT_ASKED
    age: float = 0.0
    listed_for: float | None = None
    confirmed: frozenset[Family] = frozenset()


def judge(family: Family, witness: Witness, policy: Policy) -> Verdict:
    """The verdict on one family of one interface."""
    leases = tuple(ip for ip in leased(witness.addresses) if ip.version == family)
    proof = _kernel_proof(family, witness, leases, policy)
    said = _Lists.of(family, witness.imds)
    usable = Usable(
        addresses=_union(said.good_addresses, proof.addresses),
        prefixes=said.good_prefixes,
        subnets=_union(said.subnets, proof.subnets),
        listed=said.good_addresses,
    )
    confirmed = family in witness.confirmed
    refusal = _refuse_all(witness, policy)
    strangers, usable = _strangers(family, said, leases, usable)
    if refusal:  # what earlier answers confirmed stays usable
        usable = usable if confirmed else proof
        return Verdict(family, Status.WAITING, (refusal,), usable=usable)
    if not _has_evidence(family, witness, leases, policy):
        return _undecided(family, witness, policy)
    told_none = _told_none(family, witness)
    if told_none and not leases and _patience_over(family, witness, policy):
        return Verdict(family, Status.ABSENT, (_nothing_assigned(family),))
    reasons = _missing(family, witness.imds) + _strays(family, said)
    unlisted = _unlisted_leases(family, said, tuple(ip for ip in leases if ip not in strangers))
    if not confirmed:
        reasons += unlisted
        unlisted = ()
    elif told_none and leases:
        reasons = ()  # a lease outlives an unassignment by minutes: nothing to wait for
    status = Status.WAITING if reasons else Status.READY
    notes = (*unlisted, *_strange_leases(family, said, strangers))
    return Verdict(family, status, reasons, notes=notes, usable=usable)


@dataclass(frozen=True, slots=True)
class _Lists:
    """IMDS's three lists of one family, empty where unknown; the good items lie in a subnet."""

    addresses: tuple[IPAddress, ...]
    prefixes: tuple[IPNetwork, ...]
    subnets: tuple[IPNetwork, ...]
    good_addresses: tuple[IPAddress, ...]
    good_prefixes: tuple[IPNetwork, ...]

    @classmethod
    def of(cls, family: Family, imds: EniMetadata) -> _Lists:
        said = imds.of(family)
        addresses = said.addresses.value if isinstance(said.addresses, Value) else ()
        prefixes = said.prefixes.value if isinstance(said.prefixes, Value) else ()
        subnets = said.cidrs.value if isinstance(said.cidrs, Value) else ()
        return cls(
            addresses,
            prefixes,
            subnets,
            good_addresses=tuple(ip for ip in addresses if _within(ip, subnets)),
            good_prefixes=tuple(prefix for prefix in prefixes if _within(prefix, subnets)),
        )


def _strays(family: Family, said: _Lists) -> tuple[Reason, ...]:
    """A reason for each address and prefix that lies in none of the subnets."""
    subnets = ", ".join(str(subnet) for subnet in said.subnets)
    code = f"outside-subnet-{family.label.lower()}"
    return tuple(
        Reason(code, f"{item} is outside the subnet's CIDRs ({subnets}); nicwatchd does not use it")
        for item in (*said.addresses, *said.prefixes)
        if said.subnets and not _within(item, said.subnets)
    )


def _strangers(
    family: Family, said: _Lists, leases: tuple[IPAddress, ...], usable: Usable
) -> tuple[tuple[IPAddress, ...], Usable]:
    """The leases of another network than IMDS names, and what is usable without them.

    An ENI's IPv4 subnet never changes, and its table has one router, which would not take them.
    IPv6 has one router for all subnets.
    """
    if family is Family.V6 or not said.subnets:
        return (), usable
    strangers = tuple(
        ip for ip in leases if ip not in said.addresses and not _within(ip, said.subnets)
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


def _strange_leases(
    family: Family, said: _Lists, strangers: tuple[IPAddress, ...]
) -> tuple[Reason, ...]:
    subnets = ", ".join(str(subnet) for subnet in said.subnets)
    return tuple(
        Reason(
            f"lease-outside-subnet-{family.label.lower()}",
            f"DHCP configured {ip}, which is in none of the subnet's CIDRs ({subnets}): its"
            " traffic is left to main",
        )
        for ip in strangers
    )


def _unlisted_leases(
    family: Family, said: _Lists, leases: tuple[IPAddress, ...]
) -> tuple[Reason, ...]:
    """A reason for each leased address that IMDS does not list: it lags, or the lease is old."""
    key = KEYS[family]["addresses"]
    code = f"lease-unlisted-{family.label.lower()}"
    return tuple(
        Reason(code, f"DHCP configured {ip}, but IMDS does not list it in {key}")
        for ip in leases
        if ip not in said.addresses
    )


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
    return Reason("mac-unlisted", f"IMDS does not list the MAC {witness.link.mac}{advice}")


def leased(addresses: tuple[Address, ...]) -> tuple[IPAddress, ...]:
    """The addresses from DHCP. A permanent address is the operator's and proves nothing."""
    return tuple(
        address.ip
        for address in addresses
        if address.dynamic
        and not address.from_ra
        and not address.tentative
        and address.scope == SCOPE_UNIVERSE
        and not (isinstance(address.ip, IPv4Address) and address.ip in IPV4_LINK_LOCAL)
    )


def on_link_prefixes(
    family: Family, addresses: tuple[Address, ...], routes: tuple[Route, ...]
) -> tuple[IPNetwork, ...]:
    """The on-link prefixes according to the kernel, without host routes and link-local ones."""
    said = [_network(address) for address in _in_subnets(addresses) if address.family is family]
    said += [
        route.dst
        for route in routes
        if route.family is family
        and route.is_on_link
        and route.protocol in (RTPROT_KERNEL, RTPROT_RA)
    ]
    usable = (
        p for p in said if p.prefixlen < p.max_prefixlen and not p.is_link_local and p.prefixlen
    )
    return tuple(dict.fromkeys(usable))


def _kernel_proof(
    family: Family, witness: Witness, leases: tuple[IPAddress, ...], policy: Policy
) -> Usable:
    """What the kernel alone proves: leased addresses, with an on-link prefix or an RA."""
    primary = witness.primary_mac
    is_other = isinstance(primary, Value) and primary.value != witness.link.mac
    if not policy.kernel_proof or not is_other or witness.link.master:
        return Usable()
    in_subnets = _in_subnets(witness.addresses)
    leased = {_network(address) for address in in_subnets if address.ip in leases}
    # The network of an operator's own address may be far larger than the ENI's subnet.
    operators = {_network(address) for address in in_subnets if not address.dynamic} - leased
    subnets = tuple(
        prefix
        for prefix in on_link_prefixes(family, witness.addresses, witness.routes)
        if prefix not in operators and any(ip in prefix for ip in leases)
    )
    # The kernel sets ra_received only if it had solicited the RA, but ra_managed in any case.
    advertised = family is Family.V6 and (witness.link.ra_received or witness.link.ra_managed)
    proven = tuple(ip for ip in leases if advertised or _within(ip, subnets))
    return Usable(addresses=proven, subnets=subnets)


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


def _missing(family: Family, imds: EniMetadata) -> tuple[Reason, ...]:
    """A reason for each list that is missing or could not be read."""
    said = imds.of(family)
    reasons = [
        Reason(f"unread-{key}", _unread(key, answer))
        for key, answer in imds.lists(family)
        if isinstance(answer, Unknown)
    ]
    if isinstance(said.addresses, Absent) and not isinstance(said.prefixes, Value):
        key = KEYS[family]["addresses"]
        reasons.append(Reason(f"no-{key}", f"IMDS lists no {key} yet"))
    if isinstance(said.cidrs, Absent):
        key = KEYS[family]["cidrs"]
        reasons.append(Reason(f"no-{key}", f"IMDS lists no {key} yet"))
    return tuple(reasons)


def _unread(key: ImdsKey, answer: Unknown) -> str:
    return answer.why if answer.why.startswith(key.name) else f"{key}: {answer.why}"


def _in_subnets(addresses: tuple[Address, ...]) -> list[Address]:
    """The addresses that prove an on-link network; those that we add (/32, /128) do not."""
    return [address for address in addresses if address.prefixlen < address.ip.max_prefixlen]


def _network(address: Address) -> IPNetwork:
    return ip_interface((address.ip, address.prefixlen)).network


def _within(item: IPAddress | IPNetwork, networks: tuple[IPNetwork, ...]) -> bool:
    """Whether an address or a prefix lies in one of the networks."""
    if isinstance(item, IPv4Address | IPv6Address):
        return any(item in network for network in networks)
    return any(contains(network, item) for network in networks)


def _union(first: tuple[T, ...], second: tuple[T, ...]) -> tuple[T, ...]:
    """The items of both, without duplicates, in order."""
    return tuple(dict.fromkeys((*first, *second)))
