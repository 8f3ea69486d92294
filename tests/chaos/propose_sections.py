"""What may happen next on a host whose settings have sections, and where a container network comes.

An ENI that is left to others is one of those that are alone in their subnet, and main has no route
through it: what the other ENIs have is then as ever. (Guards around links of others are for
scenarios.) A walk with sections is another walk: the seeds of the others stay good.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Final

from nicwatchd.core.model import Family
from nicwatchd.core.policy import AddressMode, RuleMode, Section
from tests.chaos import propose
from tests.chaos.actions import (
    Action,
    Attach,
    Die,
    ForeignAddress,
    ForeignRoute,
    ForeignRule,
    LeaseComes,
    PutForeign,
    Reload,
    SetDown,
    TakeForeign,
)
from tests.chaos.propose_foreign import one
from tests.chaos.truth import CNI, PRIMARY, Truth

LONELY: Final = ("02:00:00:00:00:06", "02:00:00:00:00:07")  # the only ones in their subnets
OFTEN: Final = 0.15  # the share of what happens that is about sections
FAMILIES: Final = (None, frozenset({Family.V4}), frozenset({Family.V6}), frozenset(Family))


def action(truth: Truth, random: Random) -> Action:
    """Something that is possible now."""
    while True:
        is_about_them = random.random() < OFTEN
        proposed = about_sections(truth, random) if is_about_them else other(truth, random)
        if proposed is not None:
            return proposed


def other(truth: Truth, random: Random) -> Action | None:
    """What happens on any host; not what makes an ENI of others matter to ours."""
    proposed = propose.action(truth, random)
    match proposed:
        case Attach(mac=mac) if truth.is_left(mac):
            return None  # nobody would set its link up
        case SetDown(mac=mac) if truth.is_left(mac):
            return None  # once it is ours again, nobody could tell who set it down
        case LeaseComes(lease) if truth.is_left(lease.mac):
            return None
        case PutForeign(ForeignAddress(mac=mac) | ForeignRoute(mac=mac)) if truth.is_left(mac):
            return None
        case Die(mac=mac) if truth.is_left(mac):
            return None
        case TakeForeign(thing) if thing == ForeignRule(CNI):
            return None
    return proposed


def about_sections(truth: Truth, random: Random) -> Action | None:
    """A section changes, or a container network comes or goes."""
    choices = [_reload, _reload, _leave, _cni_comes, _cni_comes, _cni_goes]
    return random.choice(choices)(truth, random)


def section_for(mac: str) -> Section:
    """A section that matches this ENI: some need IMDS."""
    if int(mac[-1], 16) % 2:
        return Section(mac=mac)
    return Section(eni=f"eni-{mac.replace(':', ''):0>17}")


def _reload(truth: Truth, random: Random) -> Action | None:
    """Another section for an ENI that stays ours. A container network leaves us only such."""
    has_cni = ForeignRule(CNI) in truth.foreign
    macs = [m for m in truth.enis if m != PRIMARY and not truth.is_left(m)]
    mac = one(random, macs)
    if mac is None:
        return None
    if not has_cni and random.random() < 0.2:
        return Reload(((mac, None),))
    section = replace(
        section_for(mac),
        manage=True if has_cni else random.choice([True, None]),
        addresses=random.choice([None, AddressMode.ALL]),
        rules=random.choice([None, RuleMode.ADDRESS]),
        families=random.choice(FAMILIES),
    )
    return Reload(((mac, section),))


def _can_be_left(truth: Truth, mac: str) -> bool:
    """Whether main has no route through it, and nobody is about to set its link up."""
    port = truth.ports.get(mac)
    leased = any(lease.mac == mac for lease in truth.leases)
    return port is None or (
        port.up and port.settled and not port.dead and not leased | bool(truth.foreign_on(mac))
    )


def _leave(truth: Truth, random: Random) -> Action | None:
    """An ENI is left alone, or is ours again."""
    mac = random.choice(LONELY)
    section = truth.sections.get(mac)
    if section is not None and section.manage is False:
        return None if ForeignRule(CNI) in truth.foreign else Reload(((mac, None),))
    section = replace(section_for(mac), manage=False)
    return Reload(((mac, section),)) if _can_be_left(truth, mac) else None


def _cni_comes(truth: Truth, random: Random) -> Action | None:
    """It has one ENI of all; the others are ours by their sections, which are there first."""
    if ForeignRule(CNI) in truth.foreign:
        return None
    kept = random.choice(LONELY)
    others = sorted(truth.enis.keys() - {PRIMARY, kept})
    missing = [mac for mac in others if truth.sections.get(mac, Section()).manage is None]
    if missing:
        return Reload(tuple((mac, replace(section_for(mac), manage=True)) for mac in missing))
    return PutForeign(ForeignRule(CNI)) if _can_be_left(truth, kept) else None


def _cni_goes(truth: Truth, random: Random) -> Action | None:
    del random
    return TakeForeign(ForeignRule(CNI)) if ForeignRule(CNI) in truth.foreign else None
