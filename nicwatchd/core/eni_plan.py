"""What there should be in the kernel for one interface, from what is certain about it.

Each interface has its own routing table T, and rules that send packets from its addresses there.
All have one priority, the last before `main`'s, so that the rules of other software win, and ours
fill the gaps. A SELECTOR is one of `oif NAME`, `from PREFIX`, `from ADDRESS` and
`iif lo from SUBNET`. For each there is a chain, in this order:

    SELECTOR lookup local                  where the kernel's own rule for that comes later
    SELECTOR to NETWORK lookup main suppress_prefixlength 0    see `Subject.kept`
    SELECTOR to SUBNET lookup T            see `Subject.detours`
    SELECTOR lookup main suppress_prefixlength 0 suppress_ifgroup 3778
    SELECTOR lookup T

The fourth is the guard. It uses main's routes to containers and VPNs, but neither main's default
route nor its routes through ENIs (all ENIs are in group 3778). Otherwise a reply to a host in the
primary's subnet would leave by the primary with this ENI's source address, and EC2 drops it. Where
main has too many routes through the ENI to copy them, the guard names no group, and the second
rules are there for the subnets of all other ENIs. Where an error route of main would end the
guard's look-up, there is one for each network that main has, instead: `SELECTOR to NETWORK ...`.

Reads: a `Subject`, one ENI with what is certain about it. Gives: its `Plan`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Final

from nicwatchd.core import eni_routes, mtu
from nicwatchd.core.addresses import as_network
from nicwatchd.core.closed_main import Closed
from nicwatchd.core.eni_routes import Main
from nicwatchd.core.evidence import Usable
from nicwatchd.core.model import (
    DEFAULT_GROUP,
    LAST_METRIC,
    LOCAL_TABLE,
    MAIN_TABLE,
    PROTOCOL,
    SCOPE_UNIVERSE,
    Address,
    Family,
    IPAddress,
    IPNetwork,
    Item,
    Link,
    Plan,
    Reason,
    Route,
    Rule,
    ours,
)
from nicwatchd.core.policy import AddressMode, Policy, RuleMode

# Up to so many addresses of a family have a rule each; beyond, rules grow with the ENIs.
FEW_ADDRESSES: Final = 4


@dataclass(frozen=True, slots=True)
class Subject:
    """One managed interface as its plan sees it.

    `addresses` are all that the link has, ours too; `routes` the main table's through the link.
    `first_due`: the first address waits for no DHCP client (any more). `dhcpcd_due`: dhcpcd may be
    about to replace the first IPv4 address by its own. `bring_up`: set the link
    up now; `waits_for_udev`: set it up later. `away` are the ENI's addresses that must not be on
    the link, and why: they live elsewhere on this host. `groups` are our link groups, former ones
    too. `alone` are the subnets in which no other link of the host has an address or can get one.
    `still_whole` are those that rules select as a whole now, of families whose addresses are not
    all known yet: after a restart, one lease may be all that there is at first.
    `detours` are subnets that are not reached as main says: main's route there leads through a link
    that no guard hides. `kept` are the networks of containers and VMs to which main leads by a link
    in the group. `taken` are items that an ENI of another VPC has, too, and has the rule for.
    `behind_local` are the families whose local table comes after our rules. `enis` are the links
    that the guards hide, by ifindex. `closed` are the families in which main's error routes would
    end a guard's look-up. `is_primary`: others configure the link and its first address. `mark` and
    its mask are of what containers answer to connections that came in by this ENI; None: nothing is
    marked.
    """

    link: Link
    usable: Mapping[Family, Usable] = field(default_factory=dict)
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    first_due: bool = False
    dhcpcd_due: bool = False
    bring_up: bool = False
    waits_for_udev: bool = False
    away: Mapping[IPAddress, Reason] = field(default_factory=dict)
    groups: frozenset[int] = frozenset()
    alone: frozenset[IPNetwork] = frozenset()
    still_whole: frozenset[IPNetwork] = frozenset()
    detours: tuple[IPNetwork, ...] = ()
    kept: tuple[IPNetwork, ...] = ()
    taken: frozenset[Item] = frozenset()
    behind_local: frozenset[Family] = frozenset()
    enis: frozenset[int] = frozenset()
    closed: Mapping[Family, Closed] = field(default_factory=dict)
    is_primary: bool = False
    mark: tuple[int, int] | None = None

    @property
    def main(self) -> Main:
        """The main table's routes through the link."""
        return Main(self.link.index, self.routes, is_mirrored=self.is_primary)

    @property
    def main_decides(self) -> frozenset[Family]:
        """The families of which main has more routes through the link than are copied."""
        return frozenset(family for family in Family if self.main.has_too_many(family))


def group_for(link: Link, wanted: int, groups: AbstractSet[int]) -> int | None:
    """The link group to set; None if others have put the link into a group that is not ours."""
    return wanted if link.group in {DEFAULT_GROUP, wanted, *groups} else None


def groups_of(rules: Iterable[Rule]) -> frozenset[int]:
    """The link groups that rules of ours name: only we can have put links into them."""
    own = (rule.suppress_ifgroup for rule in rules if rule.protocol == PROTOCOL)
    return frozenset(group for group in own if group is not None)


def nothing_for(link: Link, groups: AbstractSet[int]) -> Plan:
    """The plan of a link that is not ours: it has nothing of ours, and is in no group of ours."""
    return Plan(link.index, group=DEFAULT_GROUP if link.group in groups else None)


def plan(subject: Subject, policy: Policy) -> Plan:
    """The plan of one interface.

    While the link is down, the plan has only what survives this: no routes, no IPv6 addresses.
    """
    addresses: list[IPAddress] = []
    awaited: list[IPAddress] = []
    routes: list[Route] = []
    rules: list[Rule] = []
    unfinished: list[Reason] = []
    for family, usable in sorted(subject.usable.items()):
        if not (usable or usable.by_device):
            continue
        wanted, first = _addresses_to_add(family, usable, subject, policy)
        rules += _rules(family, usable, subject, policy)
        up = subject.link.up or subject.bring_up
        if up:
            made = _routes(family, usable, wanted, subject, policy)
            unfinished += eni_routes.unfinished(family, made)
            routes += made
        if up or family is Family.V4:
            addresses += wanted
            awaited += first
    return Plan(
        index=subject.link.index,
        # The group tells a later start that we set the link up, so both are set together.
        group=None if subject.waits_for_udev else _group(subject, policy),
        bring_up=subject.bring_up,
        mtu=_mtu(subject, policy),
        addresses=tuple(addresses),
        preferred=_preferred(subject, addresses, awaited),
        awaited=tuple(awaited),
        away=frozenset(subject.away),
        routes=tuple(routes),
        rules=tuple(rules),
        main_decides=bool(subject.main_decides),
        unfinished=tuple(unfinished),
        notes=tuple(_notes(subject)),
    )


def _notes(subject: Subject) -> Iterator[Reason]:
    """What is to be told of it, though nothing is wrong."""
    yield from mtu.notes(subject.link)
    yield from subject.away.values()
    yield from eni_routes.notes(subject.main, subject.enis)
    for family, closed in subject.closed.items():
        if subject.usable.get(family):
            yield from closed.notes(family)


def _group(subject: Subject, policy: Policy) -> int | None:
    return group_for(subject.link, policy.numbers.group, subject.groups)


# --- addresses -------------------------------------------------------------------------------


def _addresses_to_add(
    family: Family, usable: Usable, subject: Subject, policy: Policy
) -> tuple[tuple[IPAddress, ...], tuple[IPAddress, ...]]:
    """The listed addresses that we add, in IMDS's order, and the one that DHCP may still bring.

    IPv4 takes the first address on the link as the source of what is not bound to one, and an
    order once made cannot be mended without removing addresses. So where the first one waits for
    DHCP, the others wait for the first; where it does not, see `_that_holds_its_place`.
    """
    if policy.addresses is AddressMode.NONE:
        return (), ()
    mine = {address.ip for address in subject.addresses if ours(address)}
    others = {address.ip for address in subject.addresses if not ours(address)}
    listed = tuple(ip for ip in usable.listed if ip not in subject.away)
    if subject.is_primary:  # without its first one, no other is to become the source of the host
        may_add = any(ip in others for ip in usable.listed[:1])
        return tuple(ip for ip in listed[1:] if ip in mine or (may_add and ip not in others)), ()
    held = _that_holds_its_place(family, usable, subject)
    missing = tuple(ip for ip in listed if ip not in others or ip == held)
    first = next((ip for ip in listed[:1] if ip not in others), None)
    # DHCPv6 may have configured another listed address; then the first will not come.
    has_other = family is Family.V6 and any(ip in others for ip in listed)
    if policy.addresses is AddressMode.ALL or first is None or has_other:
        return missing, ()
    return _while_dhcp_may_bring(first, missing, mine, subject)


def _while_dhcp_may_bring(
    first: IPAddress, missing: tuple[IPAddress, ...], mine: set[IPAddress], subject: Subject
) -> tuple[tuple[IPAddress, ...], tuple[IPAddress, ...]]:
    """What to add of what is missing, and the first address, if something waits for it."""
    waits = not (subject.first_due or first in mine)
    if Family(first.version) is Family.V6:
        return (missing[1:], (first,)) if waits else (missing, ())
    if not (waits or subject.dhcpcd_due):
        return missing, ()
    # dhcpcd takes ours off the link before it adds its own, which then stands behind all others.
    now = tuple(ip for ip in missing if ip in mine or (ip == first and not waits))
    return now, ((first,) if now != missing else ())


def _that_holds_its_place(family: Family, usable: Usable, subject: Subject) -> IPAddress | None:
    """The first IPv4 address, where ours must stay on the link beside a DHCP client's.

    The client's has the subnet's prefix length, and stands behind all that were there before it.
    Where another one of them is next, that would become the first if ours went.
    """
    on_link = [address for address in subject.addresses if address.family is family]
    if family is not Family.V4 or not on_link or not ours(on_link[0]):
        return None
    first = on_link[0].ip
    another_is_next = any(address.ip != first for address in on_link[1:2])
    return first if first in usable.listed[:1] and another_is_next else None


def _preferred(
    subject: Subject, wanted: Sequence[IPAddress], awaited: Sequence[IPAddress]
) -> IPAddress | None:
    """The ENI's first IPv6 address, if we add it and no other one of the ENI's is preferred.

    With all of them deprecated the kernel would take another link's address for what leaves here
    unbound, and EC2 would drop it (RFC 6724 has rule 3 before rule 5). With the first one preferred
    what leaves by another link keeps that link's address.
    """
    usable = subject.usable.get(Family.V6, Usable())
    if subject.is_primary or any(ip in awaited for ip in usable.listed):
        return None
    others = {a.ip for a in subject.addresses if not (ours(a) or a.deprecated)}
    if any(ip in others for ip in usable.addresses):
        return None
    return next((ip for ip in usable.listed if ip in wanted), None)


# --- routes ----------------------------------------------------------------------------------


def _routes(
    family: Family, usable: Usable, wanted: Sequence[IPAddress], subject: Subject, policy: Policy
) -> list[Route]:
    """The routes of the interface's table, with the first address that the link has as source."""
    link = subject.link
    # The preferred source; the kernel accepts no tentative address as such. Without one, a socket
    # that is bound only to the device would get the primary's address, since ours are deprecated.
    staying = (a for a in subject.addresses if not (ours(a) and a.ip in subject.away))
    on_link = {a.ip for a in staying if not a.tentative} | set(wanted)
    first = next((ip for ip in (*usable.listed, *usable.addresses) if ip in on_link), None)
    table = policy.numbers.table_of(link.index)
    base = Route(eni_routes.ANY[family], table, link.index, prefsrc=first)
    made = eni_routes.routes(family, usable, base, subject.main, policy.ipv6_router)
    beyond = mtu.of_default(link, subject.addresses, policy.mtu, _mtu(subject, policy))
    return [replace(r, metrics=beyond) if r.metric == LAST_METRIC else r for r in made]


def _mtu(subject: Subject, policy: Policy) -> int | None:
    return mtu.to_set_up_with(subject.link, policy.mtu) if subject.bring_up else None


# --- rules -----------------------------------------------------------------------------------


def _rules(family: Family, usable: Usable, subject: Subject, policy: Policy) -> Iterator[Rule]:
    """The rules of one family, chain by chain."""
    numbers = policy.numbers
    own = numbers.table_of(subject.link.index)
    for selector in _selectors(family, usable, subject, policy):
        if family in subject.behind_local:
            yield replace(selector, table=LOCAL_TABLE)
        for network in subject.kept:
            if network.version == family:
                yield replace(selector, dst=network, table=MAIN_TABLE, suppress_prefixlength=0)
        for subnet in subject.detours:
            if subnet.version == family:
                yield replace(selector, dst=subnet, table=own)
        guard = replace(
            selector,
            table=MAIN_TABLE,
            suppress_prefixlength=0,
            suppress_ifgroup=None if family in subject.main_decides else numbers.group,
        )
        closed = subject.closed.get(family)
        if closed and closed.ends(guard):
            for network in closed.networks:
                yield replace(guard, dst=network)
        else:
            yield guard
        yield replace(selector, table=own)


def _selectors(family: Family, usable: Usable, subject: Subject, policy: Policy) -> Iterator[Rule]:
    """The rules that send packets to the interface's table, without a table.

    A subnet also selects sources that nobody on this host has: those that a proxy uses in the name
    of others. And where two ENIs share a subnet, only the address tells whose a source is.
    Addresses always do, but there are many.
    """
    base = Rule(family, policy.numbers.priority, 0)
    if subject.mark:
        mark, mask = subject.mark
        yield replace(base, fwmark=mark, fwmask=mask)
    yield replace(base, oif=subject.link.name)
    for prefix in (each for each in usable.prefixes if each not in subject.taken):
        yield replace(base, src=prefix)
    whole = [subnet for subnet in usable.subnets if subnet in subject.alone]
    few = len(usable.addresses) <= FEW_ADDRESSES
    if policy.rules is RuleMode.ADDRESS:
        whole = []
    elif policy.rules is RuleMode.AUTO and few:
        whole = [subnet for subnet in whole if subnet in subject.still_whole]
    for subnet in whole:
        yield replace(base, iif="lo", src=subnet)
    for ip in dict.fromkeys((*usable.addresses, *_of_others(family, subject))):
        # What lives elsewhere is forwarded: a subnet's rule selects only what this host sends.
        covered = ip not in subject.away and any(ip in subnet for subnet in whole)
        if not (covered or ip in subject.taken):
            yield replace(base, src=as_network(ip))


def _of_others(family: Family, subject: Subject) -> Iterator[IPAddress]:
    """Permanent addresses that others put on the link: an operator, or a cluster its overlay."""
    for address in subject.addresses:
        permanent = not (address.dynamic or address.from_ra or ours(address))
        usable = address.scope == SCOPE_UNIVERSE and not address.ip.is_link_local
        if address.family is family and permanent and usable:
            yield address.ip
