"""Why an ENI does not work: the verdict on each of its families.

It comes from what the kernel answers, and not from what we did: packets from each address leave by
the ENI; its link is up; every address that IMDS lists is where it is to be; nothing of ours is
missing. What an operator or a container wants elsewhere is no cause.

Reads: a view of an interface, and what the look-ups showed. Gives: a `FamilyHealth`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from nicwatchd.core.evidence import Status
from nicwatchd.core.health import FamilyHealth, Health
from nicwatchd.core.kernel_proof import leased
from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import Family, IPAddress, Reason
from nicwatchd.core.reach import Reached
from nicwatchd.core.treatment import Managed, Primary
from nicwatchd.core.view import View, listed_elsewhere, taken_away

# Notes of a plan, or on facts, that say of something of an ENI that it does not answer.
TELLING_NOTES: Final = frozenset(
    {
        "nft-missing",
        "nft-refused",
        "mark-taken",
        "marks-used-up",
        "strict-filter",
        "same-address",
        "published-port",
    }
)
NO_ENI: Final = "no-eni"


def owned(view: View, family: Family) -> tuple[IPAddress, ...]:
    """The addresses that the ENI has, as far as is known, and that are to be on its link."""
    verdict = view.verdicts.get(family)
    if verdict is None:
        return ()
    known = verdict.usable.addresses
    if isinstance(view.treatment, Primary):  # its manager's leases need no proof
        known += tuple(ip for ip in leased(view.addresses) if ip.version == family)
    return tuple(dict.fromkeys(known))


def on_link(view: View, family: Family) -> tuple[IPAddress, ...]:
    """Those of them that are on the link, and can be used."""
    there = {address.ip for address in view.addresses if not address.tentative}
    return tuple(ip for ip in owned(view, family) if ip in there)


def is_judged(view: View, family: Family) -> bool:
    """Whether there is a verdict: an ENI that we serve, or the primary, has the family, or may."""
    verdict = view.verdicts.get(family)
    if verdict is None or verdict.status in (Status.ABSENT, Status.OFF):
        return False
    if any(note.code == NO_ENI for note in verdict.notes):
        return False
    match view.treatment:
        case Primary():
            return bool(owned(view, family)) or verdict.status is Status.READY
        case Managed():
            return view.state is not State.IGNORED
    return False


def judge(view: View, family: Family, reached: Reached, now: float) -> FamilyHealth | None:
    """The verdict on one family of one interface; None: it has none.

    `since` and `worked_after` are those of a verdict that is new now; see `follow`.
    """
    if not is_judged(view, family):
        return None
    silent, causes = _silent(view, family, reached)
    waits = tuple(dict.fromkeys(_waits(view, family)))
    causes = tuple(dict.fromkeys((*causes, *_of_interface(view, family), *reached.cut_off)))
    answering = tuple(ip for ip in owned(view, family) if ip not in silent)
    if not view.link.up or not view.link.running:
        answering = ()
    health = Health.WORKING
    if causes or waits:
        is_nothing = not answering and not view.verdicts[family].usable.by_device
        health = Health.NOT_WORKING if is_nothing else Health.DEGRADED
    return FamilyHealth(
        family,
        health,
        now,
        causes=(*causes, *waits),
        waits=bool(waits) and not causes and not view.overdue,
        answering=answering,
        silent=tuple(silent),
        worked_after=now - view.seen if health is Health.WORKING else None,
    )


def _silent(
    view: View, family: Family, reached: Reached
) -> tuple[Mapping[IPAddress, None], tuple[Reason, ...]]:
    """The ENI's addresses that do not answer, and what causes that, in order."""
    silent: dict[IPAddress, None] = {}
    causes: dict[Reason, None] = {}
    there = {address.ip: address for address in view.addresses}
    for ip in owned(view, family):
        if ip in reached.silent:
            silent[ip] = causes[reached.silent[ip]] = None
        elif ip in there and there[ip].tentative:
            silent[ip] = causes[_tentative(view, ip)] = None
        elif ip not in there and ip not in view.plan.away:
            silent[ip] = None
            if ip not in (*view.plan.awaited, *view.plan.addresses):
                causes[_missing(view, ip)] = None
    for item, reason in (*listed_elsewhere(view), *taken_away(view)):
        if item.version == family:
            causes[reason] = None
            if isinstance(item, IPv4Address | IPv6Address):
                silent[item] = None
    return silent, tuple(causes)


def _missing(view: View, ip: IPAddress) -> Reason:
    name = view.link.name
    add = f"ip addr add {ip}/{ip.max_prefixlen} dev {name}"
    return Reason("address-missing", f"IMDS lists {ip} here, but it is not on {name}", add)


def _tentative(view: View, ip: IPAddress) -> Reason:
    text = f"{ip} is tentative: the kernel still looks for duplicates, or has found one"
    return Reason("address-tentative", text, f"ip -6 addr show dev {view.link.name} tentative")


def _of_interface(view: View, family: Family) -> Iterator[Reason]:
    """What keeps the family from working, besides single addresses."""
    name = view.link.name
    if not view.link.up:
        remedy = f"ip link set dev {name} up"
        yield Reason("link-down", f"the link is down: {name} answers nobody", remedy)
    elif not view.link.running:
        text = f"{name} has no carrier: its device is stuck, or EC2 is detaching it"
        yield Reason("no-carrier", text, f"ip -s link show dev {name}")
    fight = (view.fight,) if view.fight else ()
    surprise = (view.surprise,) if view.surprise else ()
    telling = (note for note in view.notes if note.code in TELLING_NOTES)
    for reason in (*fight, *surprise, *view.failures, *telling):
        if reason.family in (None, family):
            yield reason


def _waits(view: View, family: Family) -> Iterator[Reason]:
    """What is expected to end by itself."""
    verdict = view.verdicts[family]
    if verdict.status is Status.WAITING:
        yield from verdict.reasons
    if isinstance(view.treatment, Managed) and verdict.usable:
        failures = frozenset(view.failures)
        for reason in view.unfinished:
            if reason.family in (None, family) and reason not in failures:
                yield reason
    if view.unequal & {None, family}:
        yield Reason("in-progress", "nicwatchd is changing something of it in the kernel")
