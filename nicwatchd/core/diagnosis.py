"""Why an ENI does not work: the verdict on each of its families.

It comes from what the kernel answers, and not from what we did: packets from each address leave by
the ENI; its link is up; every address that IMDS lists is where it is to be; nothing of ours is
missing. What an operator or a container wants elsewhere is no cause.

Reads: a view of an interface, and what the look-ups showed. Gives: a `FamilyHealth`.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from nicwatchd.core.evidence import Status
from nicwatchd.core.fights import INTERVAL
from nicwatchd.core.health import FamilyHealth, Health
from nicwatchd.core.kernel_proof import leased
from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import Address, Family, IPAddress, Reason, ours
from nicwatchd.core.reach import Reached
from nicwatchd.core.treatment import Managed, Primary
from nicwatchd.core.view import View, listed_elsewhere, taken_away, unconfigured

# Notes of a plan that say of something of an ENI that it does not answer.
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
# Why the kernel is not as planned that does not end by itself.
LASTING: Final = frozenset({"no-router"})
NO_ENI: Final = "no-eni"
# s after a removal for which a fight counts. It is told for longer, but then nothing is missing.
FOUGHT: Final = 3 * INTERVAL
IN_PROGRESS: Final = Reason("in-progress", "nicwatchd is changing something of it in the kernel")


def owned(view: View, family: Family) -> tuple[IPAddress, ...]:
    """The addresses that the ENI has, as far as is known, and that are to be on its link.

    With them, those that another link of this host has for it.
    While nothing is certain yet, and on the primary, what DHCP brought is the ENI's: EC2's server
    hands out no other.
    """
    verdict = view.verdicts.get(family)
    if verdict is None:
        return ()
    known = verdict.usable.addresses
    if isinstance(view.treatment, Primary) or verdict.status is Status.WAITING:
        brought = (ip for ip in leased(view.addresses) if ip.version == family)
        known += tuple(ip for ip in brought if ip not in view.elsewhere)
    there, housed = view.there, view.plan.housed
    theirs = {ip for ip, address in there.items() if not ours(address)}
    away = view.plan.away - theirs - housed
    wanted = (ip for ip in dict.fromkeys(known) if ip not in away)
    return tuple(ip for ip in wanted if ip in there or ip in housed or not view.leaves_addresses)


def in_use(view: View, family: Family) -> tuple[IPAddress, ...]:
    """Those of them that are where they are to be, and can be used."""
    there, housed = view.there, view.plan.housed
    here = (ip for ip in owned(view, family) if ip in there or ip in housed)
    return tuple(ip for ip in here if ip not in there or not there[ip].tentative)


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
    spared = unconfigured(view, family)
    addresses = tuple(ip for ip in owned(view, family) if ip not in spared)
    silent, causes = _amiss(view, family, addresses, reached, now)
    waits = tuple(dict.fromkeys(_waits(view, family, addresses)))
    if silent and not (causes or waits):
        waits = (IN_PROGRESS,)
    answering = tuple(ip for ip in addresses if ip not in silent)
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
        silent=silent,
        worked_after=now - view.seen if health is Health.WORKING else None,
    )


# --- what is amiss ---------------------------------------------------------------------------


def _amiss(
    view: View, family: Family, addresses: tuple[IPAddress, ...], reached: Reached, now: float
) -> tuple[tuple[IPAddress, ...], tuple[Reason, ...]]:
    """The ENI's addresses that do not answer, and what keeps the family from working, in order."""
    if down := _of_link(view):  # whatever else there is, nothing answers
        # What nicwatchd is to set up, once it knows that it may, is not down by anybody's hand.
        return addresses, () if view.to_bring_up and not view.link.up else (down,)
    is_fought = _is_fought(view, now)
    silent = _silent(view, addresses, reached, is_fought=is_fought)
    lost = (*listed_elsewhere(view), *taken_away(view))
    away = [each for each in lost if each[0].version == family]
    causes = [reason for reason in silent.values() if reason]
    causes += [reason for _, reason in away]
    causes += _of_interface(view, family, now)
    cut_off = () if _is_unprogrammed(view, family) else reached.cut_off
    causes += (each for each in cut_off if not (is_fought and _is_open(each)))
    others = (item for item, _ in away if isinstance(item, IPv4Address | IPv6Address))
    return tuple(dict.fromkeys((*silent, *others))), tuple(dict.fromkeys(causes))


def _of_link(view: View) -> Reason | None:
    """Why the link leads nowhere; None: it does."""
    name = view.link.name
    if not view.link.up:
        remedy = f"sudo ip link set dev {name} up"
        return Reason("link-down", f"the link is down: {name} answers nobody", remedy)
    if not view.link.running:
        text = f"{name} has no carrier: EC2 is detaching it, or has, or its device is stuck;"
        return Reason("no-carrier", f"{text} nothing on this host mends that")
    return None


def _silent(
    view: View, addresses: tuple[IPAddress, ...], reached: Reached, *, is_fought: bool
) -> dict[IPAddress, Reason | None]:
    """Those that do not answer, and the cause. None: `_waits` tells of it, or the fight does."""
    there = view.there
    coming = {*view.plan.awaited, *view.plan.addresses}
    found: dict[IPAddress, Reason | None] = {}
    for ip in addresses:
        if ip in reached.silent:
            reason = reached.silent[ip]
            follows = is_fought and _is_open(reason)
            waits = _is_unprogrammed(view, Family(ip.version))
            found[ip] = None if waits or follows else reason
        elif ip in there:
            if there[ip].tentative:
                found[ip] = None
        elif ip not in view.plan.housed:
            found[ip] = None if ip in coming else _missing(view, ip)
    return found


def _is_unprogrammed(view: View, family: Family) -> bool:
    """Whether nothing is programmed yet, since facts are missing: all else follows from that."""
    waits = view.verdicts[family].status is Status.WAITING
    is_ours = isinstance(view.treatment, Managed)
    return waits and is_ours and not any(rule.family is family for rule in view.plan.rules)


def _is_fought(view: View, now: float) -> bool:
    """Whether something of ours is or was missing a moment ago, since others remove it."""
    return view.fight is not None and now - view.fought_at < FOUGHT


def _is_open(reason: Reason) -> bool:
    """Whether nobody else's rule or route is to blame: something of ours is missing."""
    return reason.remedy.startswith("nicwatchd explain")


def _missing(view: View, ip: IPAddress) -> Reason:
    name = view.link.name
    text = f"IMDS lists {ip} here, but it is not on {name}"
    return Reason("address-missing", text, f"sudo {_add(view, ip)}", family=Family(ip.version))


def _add(view: View, ip: IPAddress) -> str:
    """The command that puts an address on the link."""
    v6 = "-6 " if Family(ip.version) is Family.V6 else ""
    return f"ip {v6}addr add {ip}/{ip.max_prefixlen} dev {view.link.name}"


def _of_interface(view: View, family: Family, now: float) -> Iterator[Reason]:
    """What keeps the family from working, besides single addresses."""
    fight = (view.fight,) if view.fight and _is_fought(view, now) else ()
    surprise = (view.surprise,) if view.surprise else ()
    lasting = (reason for reason in view.unfinished if reason.code in LASTING)
    telling = (note for note in view.notes if note.code in TELLING_NOTES)
    for reason in (*fight, *surprise, *view.failures, *lasting, *telling):
        if reason.family in (None, family):
            yield reason


# --- what is expected to end by itself -------------------------------------------------------


def _waits(view: View, family: Family, addresses: tuple[IPAddress, ...]) -> Iterator[Reason]:
    verdict = view.verdicts[family]
    if verdict.status is Status.WAITING:
        yield from verdict.reasons
    if isinstance(view.treatment, Managed) and verdict.usable:
        for reason in view.unfinished:
            told = reason in view.failures or reason.code in LASTING
            if reason.family in (None, family) and not told:
                yield reason
    there = view.there
    for ip in addresses:
        if ip in there and there[ip].tentative:
            yield _tentative(view, there[ip])
    if view.unequal & {None, family}:
        yield IN_PROGRESS


def _tentative(view: View, address: Address) -> Reason:
    name = view.link.name
    text = f"{address.ip} is tentative: the kernel still looks for duplicates, or has found one"
    remedy = f"sudo ip -6 addr del {address.ip}/{address.prefixlen} dev {name}; "
    remedy += f"sudo {_add(view, address.ip)} nodad"
    return Reason("address-tentative", text, remedy, family=Family.V6)
