"""What may happen next to main's default routes, by which the host's own traffic leaves.

Another ENI's comes by DHCP or by a router advertisement, and is worse than the primary's, ties with
it or beats it; or an operator has one elsewhere on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from random import Random
from typing import Final

from nicwatchd.core.model import Family, IPAddress
from nicwatchd.sim.dhcp import PRIMARY_METRIC
from nicwatchd.sim.parts import ROUTER_V6
from tests.chaos.actions import Action, ForeignAddress, ForeignDefault, PutForeign, TakeForeign
from tests.chaos.propose_foreign import one, up
from tests.chaos.truth import Truth

METRICS: Final = (PRIMARY_METRIC // 2, PRIMARY_METRIC, 2 * PRIMARY_METRIC)
FIRST: Final = {Family.V4: 0, Family.V6: 1}  # nothing comes before a default route with this metric
VPN_METRIC: Final = 100
VPN: Final[Mapping[Family, IPAddress]] = {
    Family.V4: IPv4Address("198.18.255.7"),
    Family.V6: IPv6Address("fe80::77"),
}
AT_MOST: Final = 4


def about_egress(truth: Truth, random: Random) -> Action | None:
    """A default route comes or goes."""
    return random.choice([_comes, _comes, _comes, _goes, _goes, _chosen])(truth, random)


def _comes(truth: Truth, random: Random, *, chosen: bool = False) -> Action | None:
    """By a link that has what keeps the route there: an IPv4 route goes with the last address."""
    family = random.choice([*Family])
    mac = one(random, [m for m in up(truth) if truth.items(m) and not truth.is_left(m)])
    taken = {(each.mac, each.family) for each in truth.defaults}
    if mac is None or (mac, family) in taken or len(taken) >= AT_MOST:
        return None
    metric = FIRST[family] if chosen else random.choice(METRICS)
    if family is Family.V6:
        on = truth.ports[mac].ipv6
        return PutForeign(ForeignDefault(mac, ROUTER_V6, metric, chosen)) if on else None
    gateway = truth.enis[mac].subnet.gateway
    if gateway is None:
        return None
    number = int(mac.rpartition(":")[2], 16)
    address = ForeignAddress(mac, IPv4Interface(f"198.18.{number}.1/24"))
    if address not in truth.foreign:
        return PutForeign(address)
    return PutForeign(ForeignDefault(mac, gateway, metric, chosen))


def _chosen(truth: Truth, random: Random) -> Action | None:
    """An operator's: with the best metric, or by a link that is no ENI."""
    family = random.choice([*Family])
    if family in truth.chosen:
        return None
    if random.random() < 0.5:
        return PutForeign(ForeignDefault(None, VPN[family], VPN_METRIC, chosen=True))
    proposed = _comes(truth, random, chosen=True)
    match proposed:
        case PutForeign(ForeignDefault() as default) if default.family in truth.chosen:
            return None
    return proposed


def _goes(truth: Truth, random: Random) -> Action | None:
    default = one(random, truth.defaults)
    return None if default is None else TakeForeign(default)
