"""What may happen next on a host of all kinds where others have tables of their own as well.

A foreign rule selects what an ENI sends and leads to a table that may be empty. Routes to networks,
no defaults, come and go there, and take from the ENI what they cover. `propose_all` keeps its
seeds.
"""

from __future__ import annotations

from ipaddress import ip_network
from random import Random
from typing import Final

from nicwatchd.core.model import Family, IPNetwork, Rule
from tests.chaos import propose_all
from tests.chaos.actions import Action, Foreign, ForeignRule, NarrowRoute, PutForeign, TakeForeign
from tests.chaos.propose_foreign import one
from tests.chaos.truth import NARROWS, PRIMARY, Truth, cidrs

SHARE: Final = 0.1
AT_MOST: Final = 6
TABLES: Final = 70  # and the number of the ENI: each has one of its own
MUCH: Final = ip_network("192.0.0.0/4")  # of the internet


def action(truth: Truth, random: Random) -> Action:
    """Something that is possible now."""
    proposed = _about_narrow_routes(truth, random) if random.random() < SHARE else None
    return proposed or propose_all.action(truth, random)


def _about_narrow_routes(truth: Truth, random: Random) -> Action | None:
    there = [f for f in truth.foreign if _is_of_these(f)]
    if len(there) >= AT_MOST or (there and random.random() < 0.4):
        thing = one(random, there)
        return None if thing is None else TakeForeign(thing)
    mac = one(random, [PRIMARY, *truth.secondaries]) or PRIMARY
    table = TABLES + int(mac.rpartition(":")[2], 16)
    sources = [*cidrs(truth.enis[mac].subnet), *map(ip_network, truth.enis[mac].addresses())]
    source = one(random, sources)
    new: list[Foreign] = [NarrowRoute(dst, table) for dst in _covering(truth, mac)]
    if source is not None:
        new.append(ForeignRule(Rule(Family(source.version), NARROWS, table, 4, src=source)))
    thing = one(random, set(new) - truth.foreign)
    return None if thing is None else PutForeign(thing)


def _covering(truth: Truth, mac: str) -> list[IPNetwork]:
    """Networks with hosts that call the ENI and must get an answer."""
    subnets = (truth.enis[each].subnet for each in (mac, PRIMARY))
    return [MUCH, *(cidr for subnet in subnets for cidr in cidrs(subnet))]


def _is_of_these(thing: Foreign) -> bool:
    if isinstance(thing, ForeignRule):
        return thing.rule.priority == NARROWS
    return isinstance(thing, NarrowRoute)
