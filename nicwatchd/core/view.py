"""One interface as it was at one moment: status and journal entries are made from this.

Reads: nothing; `nicwatchd.core.interface` fills it in. Gives: the facts, the conclusions from them,
and the notes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from math import inf

from nicwatchd.core.evidence import Status, Verdict, Witness
from nicwatchd.core.floating import Taken
from nicwatchd.core.health import FamilyHealth
from nicwatchd.core.kernel_proof import leased
from nicwatchd.core.lifecycle import State
from nicwatchd.core.memory import Memory
from nicwatchd.core.metadata import Answer, Value
from nicwatchd.core.model import (
    Address,
    Family,
    IPAddress,
    Item,
    Key,
    Link,
    Numbers,
    Plan,
    Reason,
)
from nicwatchd.core.moves import Elsewhere
from nicwatchd.core.policy import Section
from nicwatchd.core.treatment import Primary, Treatment


@dataclass(frozen=True)
class View:
    """One interface, frozen. Times are monotonic seconds."""

    link: Link
    treatment: Treatment
    state: State
    since: float  # when the state began
    seen: float  # when the link was first seen
    reasons: tuple[Reason, ...]  # what it waits for, or why it is ignored
    overdue: bool  # it has waited for longer than the patience
    memory: Memory  # what is known from IMDS
    addresses: tuple[Address, ...]  # on the link
    witness: Witness | None  # what it was judged from; None: not judged
    verdicts: Mapping[Family, Verdict]
    plan: Plan
    elsewhere: Mapping[Item, Elsewhere]  # what others have instead
    fight: Reason | None  # what is fought over, and with whom
    shadows: tuple[Reason, ...]  # foreign rules that win over ours
    failures: tuple[Reason, ...]  # what the kernel did not accept
    surprise: Reason | None  # the exception that kept it from being judged or planned
    numbers: Numbers
    groups: frozenset[int]  # our link groups, present and former
    section: Section | None = None  # of the settings, that applies to it
    # Why the kernel is not as planned yet, and in which families (None: in what has no family).
    unfinished: tuple[Reason, ...] = ()
    unequal: frozenset[Family | None] = frozenset()
    fought_at: float = -inf  # when something that is fought over was removed last
    leaves_addresses: bool = False  # listed ones that are not on the link may be for others

    is_young: bool = False  # less old than the patience: IMDS may lag behind its attachment

    is_protected: bool = False  # it is the primary, and has a table and rules of its own

    to_bring_up: bool = False  # it is down, and has not been set up yet

    # Whether each family that it has works; empty: it is left alone, or nothing is known yet.
    health: Mapping[Family, FamilyHealth] = field(default_factory=dict)

    # What others put on the link and took away.
    taken: Mapping[IPAddress, Taken] = field(default_factory=dict)

    # What went to another ENI, of that name, when IMDS did not confirm it here any more.
    moved: Mapping[Item, str] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """What identifies the interface: ifindex and MAC."""
        return (self.link.index, self.link.mac)

    @cached_property
    def there(self) -> dict[IPAddress, Address]:
        """What is on the link, by address."""
        return {address.ip: address for address in self.addresses}

    @property
    def notes(self) -> tuple[Reason, ...]:
        """What is worth knowing, but nothing to wait for."""
        return tuple(_notes(self))


def _notes(view: View) -> Iterator[Reason]:
    if view.surprise:
        yield view.surprise
    # What the primary's families lack is for its own manager to know.
    verdicts = () if isinstance(view.treatment, Primary) else tuple(view.verdicts.values())
    yield from (note for verdict in verdicts for note in verdict.notes)
    for verdict in verdicts:
        if verdict.status in (Status.ABSENT, Status.OFF):
            yield from verdict.reasons
    yield from _owned_elsewhere(view)
    yield from (reason for _, reason in taken_away(view))
    yield from view.plan.notes
    yield from view.shadows
    if view.fight:
        yield view.fight
    yield from (Reason("refused", text) for text in view.memory.believed.refused)
    yield from view.plan.remarks
    yield from unconfigured_notes(view)
    if view.state is State.IGNORED:
        yield from view.failures  # what could not be removed
        if isinstance(view.treatment, Primary):
            yield from _group_notes(view)
    else:
        yield from _link_notes(view)


def listed_elsewhere(view: View) -> Iterator[tuple[Item, Reason]]:
    """Each item that IMDS lists here, but others have, and why."""
    for item, where in sorted(view.elsewhere.items(), key=lambda known: str(known[0])):
        if item in view.memory.listed:
            text = _why_elsewhere(item, where, view.link.name)
            remedy = _unassign(item, view.memory.believed.interface_id)
            yield item, Reason("held-elsewhere", text, remedy, Family(item.version))


def _owned_elsewhere(view: View) -> Iterator[Reason]:
    """A note for each item that IMDS or DHCP assigns to this link, but others have."""
    yield from (reason for _, reason in listed_elsewhere(view))
    listed, brought = view.memory.listed, frozenset(leased(view.addresses))
    for item, where in sorted(view.elsewhere.items(), key=lambda known: str(known[0])):
        if item in brought and item not in listed:
            text = f"DHCP configured {item} here, but IMDS lists it on {where.name}"
            yield Reason("held-elsewhere", text, family=Family(item.version))
    for item, name in sorted(view.moved.items(), key=lambda known: str(known[0])):
        text = (
            f"IMDS listed {item} here before, does not confirm it any more, and lists it on {name}"
        )
        yield Reason("held-elsewhere", text, family=Family(item.version))


def _why_elsewhere(item: Item, where: Elsewhere, here: str) -> str:
    if where.by != item:
        return f"IMDS lists {item} here, but {where.name} has {where.by}, so it is left out"
    if where.its_own:
        return f"IMDS lists {item} here, but it is configured on {where.name}"
    if where.because:
        return f"IMDS lists {item} here too, but {here} {where.because}: it is on {where.name}"
    text = f"IMDS lists {item} here too, but it is kept on {where.name}"
    return f"{text} until IMDS no longer lists it there"


def _unassign(item: Item, eni: Answer[str]) -> str:
    """The command that takes an item from the ENI where it is not used."""
    is_v4 = Family(item.version) is Family.V4
    verb = "unassign-private-ip-addresses" if is_v4 else "unassign-ipv6-addresses"
    if isinstance(item, IPv4Network | IPv6Network):
        flag = "--ipv4-prefixes" if is_v4 else "--ipv6-prefixes"
    else:
        flag = "--private-ip-addresses" if is_v4 else "--ipv6-addresses"
    known = eni.value if isinstance(eni, Value) else "eni-..."
    return f"aws ec2 {verb} {flag} {item} --network-interface-id {known}"


def taken_away(view: View) -> Iterator[tuple[IPAddress, Reason]]:
    """Each address that IMDS lists, but that its manager took off the link, and what is known.

    What lives elsewhere on the host is taken off the link for that, and is used there.
    """
    name, listed = view.link.name, view.memory.listed | view.memory.missing
    for ip, each in sorted(view.taken.items(), key=lambda known: str(known[0])):
        if ip in listed and ip not in view.plan.away:
            by = f"by {each.who}" if each.who else "by others (the kernel does not say by whom)"
            text = f"{ip} was on {name} and was taken away {by}. nicwatchd did not put it there, so"
            text += " it leaves it to whoever did until IMDS no longer lists it. To have it back,"
            text += f" add it: ip addr add {ip}/{ip.max_prefixlen} dev {name}"
            remedy = f"sudo ip addr add {ip}/{ip.max_prefixlen} dev {name}"
            yield ip, Reason("taken-away", text, remedy, family=Family(ip.version))


def unconfigured(view: View, family: Family) -> tuple[IPAddress, ...]:
    """The addresses that IMDS lists for a primary that we do not protect, and that are not there.

    EC2's images configure its first address alone. We add the others only while we protect it,
    which is while there is a secondary ENI. Before that it is no failure that they do not answer,
    unless no address of the family is there: then this is empty. So it is for a port, whose
    addresses its bridge has.
    """
    is_alone = isinstance(view.treatment, Primary) and not view.is_protected
    if not is_alone or view.leaves_addresses or view.link.master:
        return ()
    verdict = view.verdicts.get(family)
    listed = verdict.usable.addresses if verdict else ()
    there = {address.ip for address in view.addresses}
    if there.isdisjoint(listed):
        return ()
    return tuple(ip for ip in listed if ip not in there and ip not in view.plan.away)


def unconfigured_notes(view: View) -> Iterator[Reason]:
    """One for each family with such addresses, with the command that configures them."""
    name = view.link.name
    for family in Family:
        found = unconfigured(view, family)
        if not found:
            continue
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        are = "are" if more else "is"
        text = (
            f"IMDS lists {found[0]}{more} here, which {are} not on {name}: nobody configured that, "
            "and nicwatchd does so for the primary only while there is another ENI"
        )
        v6 = "-6 " if family is Family.V6 else ""
        add = f"sudo ip {v6}addr add {{}}/{found[0].max_prefixlen} dev {name}"
        remedy = add.format(found[0])
        if more:
            remedy = f"for ip in {' '.join(map(str, found))}; do {add.format('$ip')}; done"
        yield Reason("address-unconfigured", text, remedy, family)


def _link_notes(view: View) -> Iterator[Reason]:
    if not view.link.up and not view.to_bring_up:
        yield Reason("link-down", "the link is down; its routes return when it is up")
    yield from _group_notes(view)


def _group_notes(view: View) -> Iterator[Reason]:
    link, group = view.link, view.numbers.group
    if link.group not in {0, *view.groups}:
        text = f"somebody else put the link into group {link.group}, so nicwatchd does not put it "
        text += f"into {group}; packets from other interfaces' addresses may take the main table's "
        yield Reason("foreign-group", f"{text}routes through this link")
