"""What may happen next that takes an ENI's packets from it: a foreign rule that selects its subnet,
or one of its addresses, and leads to main, or nowhere."""

from __future__ import annotations

from ipaddress import ip_network
from random import Random
from typing import Final

from nicwatchd.core.model import MAIN_TABLE, Family, Rule
from tests.chaos.actions import Action, ForeignRule, PutForeign, TakeForeign
from tests.chaos.propose_foreign import one
from tests.chaos.truth import DIVERTS, PRIMARY, Truth, cidrs

AT_MOST: Final = 2
UNREACHABLE: Final = 7  # FR_ACT_UNREACHABLE


def about_verdicts(truth: Truth, random: Random) -> Action | None:
    """Such a rule comes, or goes."""
    there = [f for f in truth.foreign if isinstance(f, ForeignRule) and f.rule.priority == DIVERTS]
    if len(there) >= AT_MOST or (there and random.random() < 0.5):
        thing = one(random, there)
        return None if thing is None else TakeForeign(thing)
    mac = one(random, [PRIMARY, *truth.secondaries])
    eni = truth.enis[mac or PRIMARY]
    sources = [*cidrs(eni.subnet), *(ip_network(ip) for ip in eni.addresses())]
    source = one(random, sources)
    if source is None:
        return None
    table, action = random.choice([(MAIN_TABLE, 1), (MAIN_TABLE, 1), (0, UNREACHABLE)])
    rule = Rule(Family(source.version), DIVERTS, table, 4, src=source, action=action)
    return None if ForeignRule(rule) in truth.foreign else PutForeign(ForeignRule(rule))
