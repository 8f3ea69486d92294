"""What may happen next on a host of all kinds where others have tables of their own as well.

A foreign rule selects what an ENI sends and leads to a table that may be empty. Routes to networks,
no defaults, come and go there, and take from the ENI what they cover. `propose_all` keeps its
seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from random import Random
from typing import Final

from nicwatchd.core.model import Family, IPNetwork, Rule
from tests.chaos import propose_all
from tests.chaos.actions import Action, Foreign, ForeignRule, NarrowRoute, PutForeign, TakeForeign
from tests.chaos.propose_foreign import one
from tests.chaos.truth import NARROWS, PRIMARY, Truth, cidrs

SHARE: Final = 0.15
AT_MOST: Final = 6
TABLES: Final = 70  # and the number of the ENI
TO_TABLES: Final = 0.7  # the share of what comes that is a route, where a rule leads to it
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
    led = {rule.table: rule.family for rule in truth.foreign_rules() if rule.priority == NARROWS}
    enis = {_table_of(each): each for each in (PRIMARY, *truth.secondaries)}
    table = one(random, led.keys() & enis.keys()) if random.random() < TO_TABLES else None
    if table is not None:
        new = _routes(truth, enis[table], led[table])
    else:
        new = [ForeignRule(rule) for rule in _rules(truth, mac)]
    thing = one(random, set(new) - truth.foreign)
    return None if thing is None else PutForeign(thing)


def _table_of(mac: str) -> int:
    """Each ENI has one of its own, so that its packets alone are led there."""
    return TABLES + int(mac.rpartition(":")[2], 16)


def _rules(truth: Truth, mac: str) -> Iterator[Rule]:
    """What leads there what an ENI sends. A rule of one address would say whose the address is."""
    for source in cidrs(truth.enis[mac].subnet):
        yield Rule(Family(source.version), NARROWS, _table_of(mac), 4, src=source)


def _routes(truth: Truth, mac: str, family: Family) -> list[Foreign]:
    every = _covering(truth, mac)
    return [NarrowRoute(dst, _table_of(mac)) for dst in every if dst.version == family]


def _covering(truth: Truth, mac: str) -> list[IPNetwork]:
    """Networks with hosts that call the ENI and must get an answer."""
    subnets = (truth.enis[each].subnet for each in (mac, PRIMARY))
    return [MUCH, *(cidr for subnet in subnets for cidr in cidrs(subnet))]


def _is_of_these(thing: Foreign) -> bool:
    if isinstance(thing, ForeignRule):
        return thing.rule.priority == NARROWS
    return isinstance(thing, NarrowRoute)
