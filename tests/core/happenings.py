"""What can happen to an interface: all kinds of readings, addresses, settings and refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hypothesis import strategies as st

from nicwatchd.core.backoff import Schedule
from nicwatchd.core.metadata import ABSENT, Unknown, Value
from nicwatchd.core.model import (
    MAIN_TABLE,
    AddAddress,
    AddRoute,
    AddRule,
    Family,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Rule,
    SetGroup,
    SetUp,
)
from nicwatchd.core.policy import AddressMode, Forwarded, Policy, RuleMode
from nicwatchd.core.port import Result
from tests.core.build import (
    ERROR,
    FULL4,
    FULL6,
    IPV4,
    IPV6,
    MAC,
    NET4,
    NET6,
    NONE,
    UNLISTED,
    UNREAD,
    eni,
    family,
    lease,
    nets,
    on_link,
    permanent,
    static,
)
from tests.core.scenes import FULL, MAC2

# Short times, so that a few steps of time lead past all of them.
QUICK: Final = Policy(
    schedule=Schedule(interval=1.0, fast_for=5.0, keep=10.0, patience=30.0, refresh=15.0),
    settling=5.0,
    doubt_span=30.0,
)
POLICIES: Final = (
    QUICK,
    replace(QUICK, rules=RuleMode.ADDRESS, kernel_proof=False),
    replace(QUICK, addresses=AddressMode.NONE),
    replace(QUICK, addresses=AddressMode.ALL, expect=frozenset(Family)),
    replace(QUICK, exclude=("eth1",)),
    replace(QUICK, exclude_subnets=nets("10.0.0.0/8")),
    replace(QUICK, drivers=frozenset({"vif"})),
    replace(QUICK, forwarded=Forwarded.CONNMARK),
    replace(QUICK, settling=8.0, schedule=replace(QUICK.schedule, patience=60.0)),
    replace(QUICK, address_wait=7.0),
)

V4S = {
    "addresses": st.sampled_from(
        [IPV4, f"{IPV4} 10.0.2.11", "10.0.2.11", "10.9.9.9", ABSENT, ERROR]
    ),
    "prefixes": st.sampled_from([ABSENT, ABSENT, "10.0.2.32/28", ERROR]),
    "cidrs": st.sampled_from([NET4, NET4, "10.7.0.0/20", ABSENT, ERROR]),
}  # fmt: skip
V6S = {
    "addresses": st.sampled_from(
        [IPV6, f"{IPV6} 2001:db8:0:2::11", ABSENT, Unknown("listed, but 404")]
    ),
    "prefixes": st.sampled_from([ABSENT, ABSENT, "2001:db8:0:2:1::/80", ERROR]),
    "cidrs": st.sampled_from([NET6, NET6, f"{NET6} 2001:db8:5::/64", ABSENT, ERROR]),
}  # fmt: skip
PARTIAL = st.builds(eni, st.builds(family, **V4S), st.builds(family, **V6S))
READINGS = st.one_of(
    PARTIAL,
    st.sampled_from([
        FULL, FULL, eni(FULL4), eni(v6=FULL6), eni(), eni(), UNREAD, UNLISTED,
        eni(NONE, NONE, mac=Value(MAC2)),  # about another interface
        eni(family(ERROR, ERROR, ERROR), family(ERROR, ERROR, ERROR)), eni(FULL4, family(ERROR)),
        eni(mac=ERROR), eni(FULL4, family(cidrs=NET6)),
        eni(FULL4, family(Unknown("ipv6s: garbage"), cidrs=NET6), refused=("ipv6s: garbage",)),
        replace(eni(FULL4, family(ERROR)), directory=Value(frozenset({"mac"}))),  # unread, unlisted
    ]),
)  # fmt: skip
SECOND = eni(family("10.0.2.20", cidrs=NET4), family(cidrs=NET6), mac=Value(MAC2))

UNLISTED_LEASE = lease("10.0.2.11/24")
BROUGHT = st.sampled_from([
    lease(f"{IPV4}/24"), lease(f"{IPV6}/128"), UNLISTED_LEASE, lease("169.254.7.7/16"),
    lease(f"{IPV6}/128", tentative=True), lease("2001:db8:0:2:7::1/64", from_ra=True),
    permanent("10.0.0.9/8"), permanent("10.0.2.11/24"),
])  # fmt: skip
ROUTES = st.sampled_from([on_link(NET4), on_link(NET6), static("172.16.0.0/12", "10.0.2.7")])
KINDS = st.sampled_from(
    [SetGroup, SetUp, AddAddress, RemoveAddress, AddRoute, RemoveRoute, AddRule, RemoveRule]
)
TROUBLES = st.sampled_from([Result.RETRY, Result.REFUSED, Result.BUG])
LINK_CHANGES = st.sampled_from([
    {"up": False}, {"up": True}, {"name": "ens6"}, {"name": "eth1"}, {"mac": MAC},
    {"mac": "02:00:00:00:00:09"}, {"group": 5}, {"group": 0}, {"master": 9}, {"master": 0},
    {"driver": None}, {"driver": "ena"}, {"ra_received": True, "ra_managed": True},
])  # fmt: skip
CNI = Rule(Family.V4, 1024, MAIN_TABLE, protocol=3, fwmark=0x80, fwmask=0x80)
