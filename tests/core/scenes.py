"""Situations that several tests begin with."""

from dataclasses import replace

from nicwatchd.core.backoff import Schedule
from nicwatchd.core.lifecycle import State
from nicwatchd.core.metadata import EniMetadata, Value
from nicwatchd.core.model import Address, AddRule, Link, Numbers
from nicwatchd.core.news import FightChanged
from nicwatchd.core.policy import Policy
from nicwatchd.core.rota import requests, rota
from tests.core.build import (
    ETH1,
    FULL4,
    FULL6,
    IPV4,
    IPV6,
    MAC,
    NET6,
    PRIMARY,
    eni,
    family,
    lease,
    on_link,
)
from tests.core.fast_motion import FastMotion

MAC2 = "02:00:00:00:00:03"
ETH2 = Link(4, MAC2, "eth2", up=True, driver="ena")
FULL = eni(FULL4, FULL6)
OF_PRIMARY = eni(family("10.0.1.10", cidrs="10.0.1.0/24"), mac=Value(PRIMARY))
APPLIED, AWAITING, IGNORED = State.APPLIED, State.AWAITING, State.IGNORED
# For what happens long after the race: fewer polls make faster tests.
CALM = Policy(schedule=Schedule(first_interval=1.0, interval=1.0, fast_for=5.0))
# Where a setting leaves the first address to a DHCP client for a while.
PATIENT = Policy(address_wait=5.0)
LEASE4, LEASE6 = lease(f"{IPV4}/24"), lease(f"{IPV6}/128")


def at_rest(reading: EniMetadata = FULL, interfaces: int = 2) -> float:
    """Seconds from one poll of such an ENI to the next, while nothing happens."""
    assert isinstance(reading.directory, Value)
    return Schedule().at_rest(requests(rota(reading.directory.value)), interfaces)


def dhcp4(motion: FastMotion, when: float, address: Address = LEASE4) -> None:
    """A DHCPv4 client brings an address, and the kernel the route to its subnet."""
    motion.at(when, lambda: motion.kernel.put(address))


def dhcp6(motion: FastMotion, when: float) -> None:
    """A router advertisement, then DHCPv6."""

    def bring() -> None:
        link = motion.kernel.links[LEASE6.index]
        motion.kernel.set_link(replace(link, ra_received=True, ra_managed=True))
        motion.kernel.put(LEASE6, on_link(NET6))

    motion.at(when, bring)


def hot_plugged(reading: EniMetadata = FULL, policy: Policy | None = None) -> FastMotion:
    """A host that runs, and at 10 s an ENI that IMDS knows at once."""
    motion = FastMotion(policy)
    motion.imds(PRIMARY, 0.0, OF_PRIMARY)
    motion.plug(10.0, ETH1)
    motion.imds(MAC, 10.0, reading)
    return motion


def applied(reading: EniMetadata = FULL, policy: Policy | None = None) -> FastMotion:
    """... 2 minutes later, DHCP leases and all."""
    motion = hot_plugged(reading, policy or CALM)
    dhcp4(motion, 10.5)
    dhcp6(motion, 10.6)
    motion.run(130.0)
    assert motion.state() is APPLIED
    return motion


def two_enis(reading: EniMetadata = FULL) -> FastMotion:
    """eth1 and, in another subnet, eth2, both applied long since; no question is under way."""
    motion = applied(reading)
    motion.plug(140.0, ETH2)
    motion.imds(MAC2, 140.0, eni(family("10.0.3.10", cidrs="10.0.3.0/24"), mac=Value(MAC2)))
    motion.run(500.0)
    assert (motion.state(), motion.state(ETH2.index)) == (APPLIED, APPLIED)
    assert not any(i.polling.in_flight for i in motion.host.interfaces.values())
    return motion


def programmed(motion: FastMotion, since: float = 0.0) -> dict[int, float]:
    """When the first rule of each family was added."""
    found: dict[int, float] = {}
    for at, operation in motion.written:
        if isinstance(operation, AddRule) and at >= since:
            found.setdefault(operation.rule.family, at)
    return found


def selectors(motion: FastMotion, index: int, which: int = 4) -> set[str]:
    rules = [r for r in motion.kernel.own_rules if r.table == Numbers().table_of(index)]
    return {str(r.oif or r.src) for r in rules if r.family == which}


def fights(motion: FastMotion) -> list[tuple[int, bool]]:
    """Whose fights began (True) or ceased (False) since this was last asked."""
    news, motion.news = motion.news, []
    return [(it.view.link.index, it.began) for it in news if isinstance(it, FightChanged)]


def quiet(motion: FastMotion, seconds: float = 300.0) -> bool:
    """Whether nothing is written and nothing told for so long."""
    before = len(motion.written), len(motion.told)
    motion.run(motion.now + seconds)
    return before == (len(motion.written), len(motion.told))
