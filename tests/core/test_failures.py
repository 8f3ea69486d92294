"""Why an operation was not carried out, in words."""

from __future__ import annotations

from dataclasses import replace
from errno import EBUSY, EEXIST

import pytest

from nicwatchd.core.failures import Failure, explain, failed
from nicwatchd.core.model import RTPROT_STATIC, AddRoute, AddRule, Route, Rule, SetUp
from nicwatchd.core.port import Outcome, Result
from tests.core.build import IPV4, NET4, TABLE, V4, ip, net

OURS = Route(net(NET4), TABLE, 3)
ADD = AddRoute(OURS)
THEIRS = replace(OURS, protocol=RTPROT_STATIC, gateway=ip(IPV4))
OTHER = replace(THEIRS, metric=7)
EXISTS = Outcome(ADD, Result.REFUSED, EEXIST, "File exists")
COMMAND = f"ip route add {NET4} dev eth1 table {TABLE} proto 236 scope global"
REFUSED = f"`{COMMAND}` failed: File exists"


def in_the_way(whose: str) -> str:
    return (
        f"somebody else's route to {NET4}{whose} in table {TABLE} stands in the place of "
        "nicwatchd's; nicwatchd does not replace it, and adds its own once that route is gone"
    )


@pytest.mark.parametrize(
    ("outcome", "table", "text"),
    [
        pytest.param(
            EXISTS, (OTHER, THEIRS), in_the_way(f" via {IPV4} (protocol 4)"), id="another's"
        ),
        pytest.param(
            EXISTS,
            (replace(THEIRS, gateway=None),),
            in_the_way(" (protocol 4)"),
            id="another's, on the link",
        ),
        pytest.param(EXISTS, (OTHER,), in_the_way(""), id="one that is not read: several hops"),
        pytest.param(EXISTS, (), in_the_way(""), id="... alone in its table"),
        pytest.param(EXISTS, None, REFUSED, id="the table was not read"),
        pytest.param(EXISTS, (OTHER, OURS), REFUSED, id="ours: it is there by now"),
        pytest.param(
            replace(EXISTS, errno=EBUSY, message="busy"),
            (THEIRS,),
            REFUSED.replace("File exists", "busy"),
            id="another error",
        ),
    ],
)
def test_a_route_that_is_not_accepted(
    outcome: Outcome, table: tuple[Route, ...] | None, text: str
) -> None:
    tables = {} if table is None else {TABLE: table}
    code = "route-in-the-way" if text.startswith("somebody") else "kernel-refused"
    assert list(explain([outcome], tables, {3: "eth1"}.get)) == [Failure(ADD, text, code)]


def test_each_failure_is_told() -> None:
    """A rule that exists is no route in the way; and what is in one's way hides no other."""
    rule = AddRule(Rule(V4, 9, TABLE))
    outcomes = [
        EXISTS,
        Outcome(rule, Result.REFUSED, EEXIST, "File exists"),
        Outcome(SetUp(7), Result.RETRY, EBUSY, "busy"),
    ]
    told = list(explain(outcomes, {TABLE: (THEIRS,)}, {3: "eth1"}.get))
    assert [(each.operation, each.code) for each in told] == [
        (ADD, "route-in-the-way"),
        (rule, "kernel-refused"),
        (SetUp(7), "kernel-refused"),
    ]
    assert (
        told[1].text
        == f"`ip rule add pref 9 from all lookup {TABLE} proto 236` failed: File exists"
    )
    assert told[2].text == "`ip link set dev if7 up` failed: busy"


@pytest.mark.parametrize(
    ("result", "expected"),
    [(Result.DONE, False), (Result.GONE, False), (Result.RETRY, True), (Result.REFUSED, True)],
)
def test_what_is_a_failure(*, result: Result, expected: bool) -> None:
    outcome = Outcome(ADD, result)
    assert failed([outcome]) == [outcome] * expected
