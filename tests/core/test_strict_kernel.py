"""The strict kernel fails on what no plan may lead to."""

from dataclasses import replace

import pytest

from nicwatchd.core.model import (
    MAIN_TABLE,
    RTPROT_STATIC,
    AddAddress,
    AddRoute,
    AddRule,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
    SetUp,
)
from tests.core.build import ETH1, IPV4, NET4, TABLE, V4, ip, lease, net, on_link
from tests.core.strict_kernel import StrictKernel

THEIRS = Route(net("10.9.0.0/16"), TABLE, 3, RTPROT_STATIC, scope=253)
OURS = Route(net(NET4), TABLE, 3, scope=253)
NARROW = Rule(V4, 32765, TABLE, src=net(NET4), iif="lo")
AWS = Rule(V4, 1024, MAIN_TABLE, protocol=RTPROT_STATIC, fwmark=0x80, fwmask=0x80)


def kernel() -> StrictKernel:
    made = StrictKernel(ETH1)
    made.put(lease("10.0.2.77/24"), THEIRS, AWS)
    made.run([AddAddress(3, ip(IPV4)), AddRoute(OURS), AddRule(NARROW)])
    return made


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        (SetUp(3), "changes nothing"),
        (SetGroup(3, 0), "changes nothing"),
        (SetGroup(9, 1), "ENODEV"),
        (AddAddress(3, ip(IPV4)), "EEXIST"),
        (RemoveAddress(3, ip("10.0.2.9"), 32), "EADDRNOTAVAIL"),
        (RemoveAddress(3, ip("10.0.2.77"), 24), "others'"),
        (AddRoute(OURS), "EEXIST"),
        (AddRoute(OURS, replace=True), "changes nothing"),
        (AddRoute(Route(net("10.8.0.0/16"), TABLE, 3), replace=True), "replaces nothing"),
        (AddRoute(Route(THEIRS.dst, TABLE, 3), replace=True), "others'"),
        (AddRoute(Route(net("10.8.0.0/16"), TABLE, 3, prefsrc=ip("10.0.2.9"))), "EINVAL"),
        (RemoveRoute(Route(net("10.8.0.0/16"), TABLE, 3)), "ESRCH"),
        (RemoveRoute(on_link(NET4)), "others'"),
        (RemoveRoute(THEIRS), "others'"),
        (RemoveRule(Rule(V4, 32765, TABLE)), "removes another"),
        (RemoveRule(replace(NARROW, dst=net("10.0.1.0/24"))), "ENOENT"),
        (RemoveRule(AWS), "others'"),
    ],
    ids=str,
)
def test_what_fails(operation: Operation, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        kernel().run([operation])


def test_a_rule_may_be_there_twice_and_its_first_copy_goes_first() -> None:
    made, later = kernel(), Rule(V4, 32765, TABLE, oif="eth1")
    made.run([AddRule(later), AddRule(NARROW)])
    assert [*made.own_rules] == [NARROW, later, NARROW]
    made.run([RemoveRule(NARROW)])
    assert [*made.own_rules] == [later, NARROW]


def test_a_removal_fits_a_rule_that_says_more() -> None:
    made = StrictKernel(ETH1)
    made.run([AddRule(replace(NARROW, dst=net("10.0.1.0/24"))), AddRule(NARROW)])
    with pytest.raises(AssertionError, match="removes another"):
        made.run([RemoveRule(NARROW)])
