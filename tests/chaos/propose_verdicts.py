"""What may happen next of which only the verdict can tell.

A foreign rule takes an ENI's packets from it: it selects its subnet, or one of its addresses, and
leads to main, or nowhere. Or the primary has one more address, which nobody puts on its link while
it is alone.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network
from random import Random
from typing import Final

from nicwatchd.core.model import MAIN_TABLE, Family, IPAddress, Rule
from tests.chaos.actions import Action, Assign, ForeignRule, PutForeign, TakeForeign, Unassign
from tests.chaos.propose import free_items
from tests.chaos.propose_foreign import one
from tests.chaos.truth import DIVERTS, PRIMARY, Truth, cidrs

AT_MOST: Final = 2
ADDRESSES: Final = (IPv4Address, IPv6Address)
UNREACHABLE: Final = 7  # FR_ACT_UNREACHABLE


def about_verdicts(truth: Truth, random: Random) -> Action | None:
    """Such a rule, or such an address, comes or goes."""
    if random.random() < 0.3:
        return _of_primary(truth, random)
    there = [f for f in truth.foreign if isinstance(f, ForeignRule) and f.rule.priority == DIVERTS]
    if len(there) >= AT_MOST or (there and random.random() < 0.5):
        thing = one(random, there)
        return None if thing is None else TakeForeign(thing)
    return _divert(truth, random)


def _divert(truth: Truth, random: Random) -> Action | None:
    mac = one(random, [PRIMARY, *truth.secondaries])
    eni = truth.enis[mac or PRIMARY]
    sources = [*cidrs(eni.subnet), *(ip_network(ip) for ip in eni.addresses())]
    source = one(random, sources)
    if source is None:
        return None
    table, action = random.choice([(MAIN_TABLE, 1), (MAIN_TABLE, 1), (0, UNREACHABLE)])
    rule = Rule(Family(source.version), DIVERTS, table, 4, src=source, action=action)
    return None if ForeignRule(rule) in truth.foreign else PutForeign(ForeignRule(rule))


def _of_primary(truth: Truth, random: Random) -> Action | None:
    eni = truth.enis[PRIMARY]
    others: list[IPAddress] = [*eni.ipv4[1:], *eni.ipv6[1:]]
    more = one(random, others)
    if more is not None:
        return None if more in truth.floats(PRIMARY) else Unassign(PRIMARY, more)
    free = [item for item in free_items(truth, eni.subnet) if isinstance(item, ADDRESSES)]
    item = one(random, free)
    return None if item is None else Assign(PRIMARY, item)
