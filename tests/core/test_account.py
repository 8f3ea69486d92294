"""The account of an interface: facts with their age, what the kernel proves, what is undone."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from nicwatchd.core.account import (
    ABSENT,
    MANAGED,
    UNKNOWN,
    VALUE,
    Account,
    KeyAccount,
    account,
    is_about,
)
from nicwatchd.core.decision import Decision, Throttled
from nicwatchd.core.interface import Interface
from nicwatchd.core.metadata import Unknown, Value
from nicwatchd.core.model import (
    PROTOCOL,
    AddAddress,
    AddRoute,
    AddRule,
    Family,
    Numbers,
    Operation,
    Plan,
    Reason,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
    SetRuleset,
    SetUp,
)
from nicwatchd.core.ownership import Snapshot
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import judge
from nicwatchd.core.releases import Releases
from nicwatchd.core.treatment import PRIMARY as ITS_PRIMARY
from nicwatchd.core.treatment import Primary, Treatment, Unmanaged
from tests.core.build import ETH1, FULL4, FULL6, PRIMARY, added, eni, ip, lease, on_link

POLICY = Policy()
TABLE = Numbers().table_of(ETH1.index)


def told(interface: Interface, decision: Decision | None = None) -> Account:
    return account(interface.view(), decision)


def keys(said: Account, family: Family) -> dict[str, KeyAccount]:
    return {each.key: each for each in said.families[family].keys}


def test_before_anything_is_known() -> None:
    said = told(Interface(ETH1, 100.0, POLICY))
    assert said.treatment == MANAGED
    assert {each.answer for each in keys(said, Family.V6).values()} == {UNKNOWN}
    assert {each.since for each in said.keys} == {None}
    assert [each.key for each in said.keys] == [
        "interface-id", "subnet-id", "device-number", "network-card",
    ]  # fmt: skip


def test_each_key_has_its_answer_and_its_age() -> None:
    interface = Interface(ETH1, 100.0, POLICY)
    interface.facts.learn(eni(FULL4), 101.0, POLICY)
    interface.facts.learn(eni(FULL4), 105.0, POLICY)
    interface.facts.learn(eni(FULL4, FULL6), 109.0, POLICY)
    interface.facts.learn(eni(FULL4, FULL6), 113.0, POLICY)
    said = told(interface)
    v4, v6 = keys(said, Family.V4), keys(said, Family.V6)
    assert (v4["local-ipv4s"].answer, v4["local-ipv4s"].since) == (VALUE, 101.0)
    assert v4["local-ipv4s"].values == tuple(map(str, FULL4.addresses.value))  # type: ignore[union-attr]
    assert (v6["ipv6s"].answer, v6["ipv6s"].since) == (VALUE, 109.0)
    assert (v6["ipv6-prefix"].answer, v6["ipv6-prefix"].since) == (ABSENT, 101.0)


def test_an_error_has_its_reason() -> None:
    interface = Interface(ETH1, 100.0, POLICY)
    lagging = replace(FULL6, addresses=Unknown("ipv6s: listed, but 404 (IMDS lags)", listed=True))
    interface.facts.learn(eni(FULL4, lagging), 101.0, POLICY)
    key = keys(told(interface), Family.V6)["ipv6s"]
    assert (key.answer, key.why) == (UNKNOWN, "ipv6s: listed, but 404 (IMDS lags)")


def test_what_the_last_reading_lacked_is_named() -> None:
    interface = Interface(ETH1, 100.0, POLICY)
    interface.facts.learn(eni(FULL4, FULL6), 101.0, POLICY)
    fewer = replace(FULL6, addresses=Value(FULL6.addresses.value[:-1]))  # type: ignore[union-attr]
    gone = str(FULL6.addresses.value[-1])  # type: ignore[union-attr]
    if not fewer.addresses.value:  # type: ignore[union-attr]
        fewer = replace(FULL6, addresses=Value((ip("2001:db8:0:2::99"),)))
    interface.facts.learn(eni(FULL4, fewer), 105.0, POLICY)
    key = keys(told(interface), Family.V6)["ipv6s"]
    assert key.unconfirmed == (gone,)
    assert gone in key.values


def test_what_the_kernel_proves() -> None:
    link = replace(ETH1, ra_received=True, ra_managed=True)
    interface = Interface(link, 100.0, POLICY)
    addresses = (lease("10.0.2.10"), added("10.0.2.11"))
    interface.facts.update(addresses, (on_link("10.0.2.0/24"),))
    interface.conclude(Value(PRIMARY), 101.0, POLICY)
    said = told(interface)
    v4 = {each.code: each.values for each in said.families[Family.V4].kernel}
    assert v4["lease"] == ("10.0.2.10",)
    assert v4["on-link"] == ("10.0.2.0/24",)
    v6 = {each.code: each.values for each in said.families[Family.V6].kernel}
    assert v6["router-advertisement"] == ("with the flag for DHCPv6",)


@pytest.mark.parametrize(
    ("link", "code"),
    [
        (replace(ETH1, up=False), "link-down"),
        (replace(ETH1, disable_ipv6=True), "no-ipv6"),
        (replace(ETH1, has_ipv6=False), "no-ipv6"),
    ],
)
def test_what_the_link_lacks(link: object, code: str) -> None:
    assert isinstance(link, type(ETH1))
    said = told(Interface(link, 100.0, POLICY))
    assert code in {each.code for each in said.families[Family.V6].kernel}


@pytest.mark.parametrize(
    ("treatment", "code", "why"),
    [
        (Primary(), "primary", "the primary: IMDS's top-level `mac` is its MAC"),
        (Unmanaged(Reason("cni", "Cilium owns it")), "cni", "Cilium owns it"),
        (
            Unmanaged(Reason("enslaved", "a port"), asked=True),
            "enslaved",
            "a port; IMDS is asked about it, since other ENIs need that",
        ),
    ],
)
def test_how_it_is_treated(treatment: Treatment, code: str, why: str) -> None:
    interface = Interface(ETH1, 100.0, POLICY)
    interface.treat(treatment, frozenset())
    said = told(interface)
    assert (said.treatment, said.why) == (code, why)
    assert ITS_PRIMARY.code == "primary"


RULE = Rule(Family.V4, 32765, TABLE, src=ip_network("10.0.2.0/24"))
GUARD = replace(RULE, table=254, suppress_prefixlength=0)
ELSEWHERE = replace(RULE, table=TABLE + 256)
ROUTE = Route(ip_network("0.0.0.0/0"), TABLE, ETH1.index, PROTOCOL)


@pytest.mark.parametrize(
    ("operation", "about"),
    [
        (AddRule(RULE), True),
        (AddRule(GUARD), True),
        (RemoveRule(ELSEWHERE), False),
        (AddRoute(ROUTE), True),
        (AddRoute(replace(ROUTE, table=TABLE + 256, oif=ETH1.index + 1)), False),
        (AddAddress(ETH1.index, ip("10.0.2.11")), True),
        (AddAddress(ETH1.index + 1, ip("10.0.2.11")), False),
        (SetGroup(ETH1.index, 3778), True),
        (SetUp(ETH1.index), True),
        (SetRuleset("table inet nicwatchd"), False),
    ],
)
def test_which_operations_are_its_own(operation: Operation, about: bool) -> None:
    interface = Interface(ETH1, 100.0, POLICY)
    interface.take_plan(Plan(ETH1.index, rules=(GUARD, RULE)))
    assert is_about(operation, interface.view()) is about


def test_what_is_undone() -> None:
    interface = Interface(ETH1, 100.0, POLICY)
    interface.take_plan(Plan(ETH1.index, rules=(GUARD, RULE)))
    operations = (AddRoute(ROUTE), AddRule(GUARD), AddRule(RULE), AddRule(ELSEWHERE))
    waits = Throttled(AddRule(RULE), 120.0)
    decision = Decision(
        revision=1, at=101.0, policy=POLICY, releases=Releases(), primary_mac=Value(PRIMARY),
        container_network=None, kernel=Snapshot({}), interfaces={}, operations=operations,
        throttled=(waits, Throttled(AddRule(ELSEWHERE), None)), protected=(),
    )  # fmt: skip
    assert told(interface, decision).undone == operations[:3]
    assert told(interface, decision).throttled == (waits,)
    outcomes = (judge(operations[0], 0), judge(operations[1], 0), judge(operations[2], 1))
    done = replace(decision, outcomes=outcomes)
    assert told(interface, done).undone == (AddRule(RULE),)
