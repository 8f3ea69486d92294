"""Are the facts of one family complete? Each family is judged alone, from both witnesses.

IMDS's lists arrive late and in parts, so "not there" must be told from "not there yet": a family
is READY when its lists agree with each other and with what DHCP brought, WAITING while something
points to it that is not explained yet, and ABSENT when nothing ever pointed to it.

The kernel is the faster witness: EC2's DHCP server hands out only addresses that belong to the
ENI, so an address that it brought is proof enough for routes and rules, before IMDS knows of it.

Reads: a `Witness`, all that is known of one interface. Gives: a `Verdict` for each family.
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
    """

    addresses: tuple[IPAddress, ...] = ()
    prefixes: tuple[IPNetwork, ...] = ()
    subnets: tuple[IPNetwork, ...] = ()
    listed: tuple[IPAddress, ...] = ()

    def without(self, elsewhere: Container[IPAddress | IPNetwork]) -> Usable:
        """The same, but for what another ENI has."""
        return replace(
            self,
            addresses=tuple(ip for ip in self.addresses if ip not in elsewhere),
            prefixes=tuple(prefix for prefix in self.prefixes if prefix not in elsewhere),
            listed=tuple(ip for ip in self.listed if ip not in elsewhere),
        )

    def __bool__(self) -> bool:
        """Whether there is anything that traffic could come from."""
        return bool(self.addresses or self.prefixes)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of one family. `reasons` say what is waited for, or why it is absent."""

    family: Family
    status: Status
    reasons: tuple[Reason, ...]
    notes: tuple[Reason, ...] = ()
    usable: Usable = Usable()


@dataclass(frozen=True, slots=True)
class Witness:
    """All that is known of one interface when it is judged.

    `addresses` are the link's, `routes` the main table's through the link, `imds` what is believed
    of IMDS's answers. `age` is seconds since the link came, `listed_for` since IMDS first listed
    it (None: never). `confirmed` are the families that were READY before.
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
    if refusal:  # what was confirmed before stands: it is of other answers than this one
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
    """IMDS's three lists of one family, as far as it gave them; good is what lies in a subnet."""

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
    """The addresses and prefixes that cannot be right."""
    subnets = ", ".join(str(subnet) for subnet in said.subnets)
    code = f"outside-subnet-{family.label.lower()}"
    return tuple(
        Reason(code, f"{item} is in none of the subnet's CIDRs ({subnets}), so it is ignored")
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
    """What DHCP brought and IMDS does not know of: IMDS lags, or the lease is a leftover."""
    key = KEYS[family]["addresses"]
    code = f"lease-unlisted-{family.label.lower()}"
    return tuple(
        Reason(code, f"DHCP configured {ip}, but IMDS does not list it in {key}")
        for ip in leases
        if ip not in said.addresses
    )


def _refuse_all(witness: Witness, policy: Policy) -> Reason | None:
    """Why nothing that IMDS says of this interface can be used yet, if so."""
    imds = witness.imds
    if isinstance(imds.mac, Value) and contradicts(imds, witness.link.mac):
        text = f"IMDS was asked about {witness.link.mac} and answers about {imds.mac.value!r}"
        return Reason("wrong-mac", text)
    if not isinstance(witness.primary_mac, Value):
        why = getattr(witness.primary_mac, "why", "IMDS names none")
        return Reason("primary-unknown", f"the primary interface's MAC is not known: {why}")
    if witness.listed_for is not None:
        return None
    if isinstance(imds.directory, Unknown):
        return Reason("imds-unread", f"IMDS has not answered: {imds.directory.why}")
    overdue = witness.age >= policy.patience
    advice = "; is the interface attached by EC2?" if overdue else " yet"
    return Reason("mac-unlisted", f"IMDS does not list the MAC {witness.link.mac}{advice}")


def leased(addresses: tuple[Address, ...]) -> tuple[IPAddress, ...]:
    """The addresses that DHCP brought. A permanent one is the operator's and proves nothing."""
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
    """The prefixes that the kernel holds to be on this link, host routes and link-local aside."""
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
    # An operator's own address may be of a network that is far wider than the ENI's subnet.
    operators = {_network(address) for address in in_subnets if not address.dynamic} - leased
    subnets = tuple(
        prefix
        for prefix in on_link_prefixes(family, witness.addresses, witness.routes)
        if prefix not in operators and any(ip in prefix for ip in leases)
    )
    # The kernel notes the RA itself only if it had asked for one, but always what the RA said.
    advertised = family is Family.V6 and (witness.link.ra_received or witness.link.ra_managed)
    proven = tuple(ip for ip in leases if advertised or _within(ip, subnets))
    return Usable(addresses=proven, subnets=subnets)


def _has_evidence(
    family: Family, witness: Witness, leases: tuple[IPAddress, ...], policy: Policy
) -> bool:
    """Whether anything says that the interface has, or will have, this family."""
    imds = witness.imds.of(family)
    told = any(not isinstance(key, Absent) for key in (imds.addresses, imds.prefixes, imds.cidrs))
    managed = family is Family.V6 and witness.link.ra_managed
    return told or managed or bool(leases) or family in policy.expect


def _undecided(family: Family, witness: Witness, policy: Policy) -> Verdict:
    """The verdict when nothing points to a family: wait while it may still lag, then absent."""
    listed_for = witness.listed_for or 0.0
    name = family.label.lower()
    if listed_for >= policy.settling:
        text = f"IMDS listed the interface for {policy.settling:g} s without any {family.label}"
        return Verdict(family, Status.ABSENT, (Reason(f"no-sign-of-{name}", text),))
    left = f"{policy.settling - listed_for:.0f} s more"
    text = f"no {family.label} in IMDS yet ({KEYS[family]['addresses']}); waiting {left}"
    return Verdict(family, Status.WAITING, (Reason(f"undecided-{name}", text),))


def _told_none(family: Family, witness: Witness) -> bool:
    """Whether IMDS says that the interface has no address and no prefix of the family."""
    said = witness.imds.of(family)
    return isinstance(said.addresses, Absent) and isinstance(said.prefixes, Absent)


def _patience_over(family: Family, witness: Witness, policy: Policy) -> bool:
    """Whether evidence without an address is to be taken as a lasting state."""
    return witness.age >= policy.patience and family not in policy.expect


def _nothing_assigned(family: Family) -> Reason:
    code = f"no-{family.label.lower()}-assigned"
    return Reason(code, f"the subnet has {family.label}, but the interface has none")


def _missing(family: Family, imds: EniMetadata) -> tuple[Reason, ...]:
    """The lists that are not there, or could not be read, each as a reason."""
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
    """Those that say of a network that it is on the link; the many that we add say nothing."""
    return [address for address in addresses if address.prefixlen < address.ip.max_prefixlen]


def _network(address: Address) -> IPNetwork:
    return ip_interface((address.ip, address.prefixlen)).network


def _within(item: IPAddress | IPNetwork, networks: tuple[IPNetwork, ...]) -> bool:
    """Whether an address or a prefix lies in one of the networks."""
    if isinstance(item, IPv4Address | IPv6Address):
        return any(item in network for network in networks)
    return any(contains(network, item) for network in networks)


def _union(first: tuple[T, ...], second: tuple[T, ...]) -> tuple[T, ...]:
    """Both without repetition, in order."""
    return tuple(dict.fromkeys((*first, *second)))
