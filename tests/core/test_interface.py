"""One interface: what it is at first, when it is judged anew, and what it says of itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nicwatchd.core.backoff import Schedule
from nicwatchd.core.evidence import Status
from nicwatchd.core.interface import JUDGING, PLANNING, ROUNDING, Interface, progress
from nicwatchd.core.lifecycle import State
from nicwatchd.core.memory import Memory
from nicwatchd.core.metadata import EniMetadata, Value
from nicwatchd.core.model import Family, Numbers, Plan, Reason, SetGroup
from nicwatchd.core.moves import Elsewhere
from nicwatchd.core.policy import Policy
from nicwatchd.core.treatment import PRIMARY as ITS_PRIMARY
from nicwatchd.core.treatment import Managed, Primary, Released, Treatment, Unmanaged
from nicwatchd.core.view import View
from tests.core.build import (
    ETH1,
    FULL4,
    FULL6,
    IPV4,
    IPV6,
    MAC,
    NET6,
    PRIMARY,
    UNLISTED,
    UNREAD,
    V4,
    V6,
    added,
    eni,
    family,
    ip,
    ips,
    lease,
    on_link,
)

POLICY = Policy(address_wait=3.0, settling=40.0)
FULL = eni(FULL4, FULL6)
ROUTE = on_link("10.0.2.0/24")
# Both lists of addresses, the directory, the networks of IPv6 and of IPv4; 15 requests a minute.
AT_REST = 60.0 / 15 * (2 + 1 / 2 + 1 / 4 + 1 / 60)


def interface(**how: Any) -> Interface:
    """eth1, seen at 100 s."""
    return Interface(replace(ETH1, **how), 100.0, POLICY)


def concluded(reading: EniMetadata = FULL, now: float = 101.0) -> Interface:
    """... with this reading of IMDS at 100 s; judged."""
    eth1 = interface()
    eth1.facts.learn(reading, 100.0, POLICY)
    eth1.conclude(Value(PRIMARY), now, POLICY)
    return eth1


def test_what_it_is_at_first() -> None:
    eth1 = interface()
    assert eth1.view() == View(
        link=ETH1,
        treatment=Managed(),
        state=State.DETECTED,
        since=100.0,
        seen=100.0,
        reasons=(),
        overdue=False,
        memory=Memory(),
        addresses=(),
        witness=None,
        verdicts={},
        plan=Plan(3),
        elsewhere={},
        fight=None,
        shadows=(),
        failures=(),
        surprise=None,
        numbers=Numbers(),
        groups=frozenset({3778}),
    )
    assert eth1.key == (3, MAC)
    assert (eth1.is_polled, eth1.shadows) == (True, ())
    assert eth1.undecided == {V4, V6}
    assert (eth1.lifecycle.patience, eth1.polling.next_at) == (180.0, 100.0)
    assert [(view.state, told.state) for view, told in eth1.drain()] == [
        (State.DETECTED, State.DETECTED)
    ]


@pytest.mark.parametrize("came", [False, True])
def test_a_link_that_came_is_nobodys_to_set_down(*, came: bool) -> None:
    down = replace(ETH1, up=False, group=5)
    assert Interface(down, 0.0, POLICY, came=came).facts.to_bring_up is came
    assert Interface(down, 0.0, POLICY).facts.to_bring_up is False


def test_what_it_is_judged_from() -> None:
    eth1 = interface()
    eth1.facts.learn(FULL, 100.0, POLICY)
    eth1.facts.update((lease(f"{IPV4}/24"), added("10.0.2.11")), (ROUTE,))
    eth1.facts.leave({ip("10.0.2.11"): Elsewhere("eth2", ip("10.0.2.11"))})
    eth1.conclude(Value(PRIMARY), 107.0, POLICY)
    witness = eth1.view().witness
    assert witness
    assert (witness.link, witness.addresses) == (ETH1, (lease(f"{IPV4}/24"),))
    assert (witness.routes, witness.imds) == ((ROUTE,), FULL)
    assert witness.primary_mac == Value(PRIMARY)
    assert (witness.age, witness.listed_for, witness.confirmed) == (7.0, 7.0, frozenset())
    eth1.conclude(Value(PRIMARY), 108.0, POLICY)
    witness = eth1.view().witness
    assert witness
    assert witness.confirmed == {V4, V6}, "ready once is not doubted by age"


def test_what_was_ready_is_so_until_it_is_absent() -> None:
    """IPv6 goes, and IPv4 stays: only IPv6 has to prove itself again."""
    eth1 = concluded()
    for now in (102.0, 120.0, 140.0, 290.0):
        eth1.facts.learn(eni(FULL4, family(cidrs=NET6)), now, POLICY)
        eth1.conclude(Value(PRIMARY), now, POLICY)
    assert {family: verdict.status for family, verdict in eth1.verdicts.items()} == {
        V4: Status.READY,
        V6: Status.ABSENT,
    }
    eth1.conclude(Value(PRIMARY), 291.0, POLICY)
    assert eth1.witness
    assert eth1.witness.confirmed == {V4}


def test_of_what_another_eni_owns_nothing_is_usable() -> None:
    eth1 = interface()
    eth1.facts.learn(FULL, 100.0, POLICY)
    eth1.facts.leave({ip(IPV4): Elsewhere("eth2", ip(IPV4))})
    eth1.conclude(Value(PRIMARY), 101.0, POLICY)
    assert eth1.verdicts[V4].usable.addresses == ()
    assert eth1.verdicts[V6].usable.addresses == ips(IPV6)


def test_an_interface_without_addresses_is_ignored_until_it_has_some() -> None:
    eth1 = concluded(eni(), 290.0)
    assert (eth1.view().state, eth1.view().reasons) == (
        State.IGNORED,
        (Reason("no-ip", "the interface has no IP addresses (EFA-only, perhaps)"),),
    )
    assert eth1.undecided == frozenset()
    eth1.facts.learn(FULL, 300.0, POLICY)
    eth1.conclude(Value(PRIMARY), 300.0, POLICY)
    told = [(it.at, it.state, view.state) for view, it in eth1.drain()]
    assert told == [
        (100.0, State.DETECTED, State.DETECTED),
        (290.0, State.IGNORED, State.IGNORED),
        (300.0, State.DETECTED, State.DETECTED),
        (300.0, State.VALIDATED, State.VALIDATED),
    ]
    assert eth1.drain() == []


def test_nothing_is_concluded_before_imds_was_asked() -> None:
    eth1 = interface()
    eth1.conclude(Value(PRIMARY), 101.0, POLICY)
    assert eth1.lifecycle.state is State.DETECTED
    assert eth1.undecided == {V4, V6}


def test_what_both_families_wait_for_is_said_once() -> None:
    eth1 = concluded(UNLISTED)
    assert eth1.lifecycle.state is State.AWAITING
    assert [reason.code for reason in eth1.view().reasons] == ["mac-unlisted"]
    eth1 = concluded(UNREAD)
    assert [reason.code for reason in eth1.view().reasons] == ["imds-unread"]


def test_what_is_not_ours_is_not_judged() -> None:
    eth1, reason = concluded(), Reason("excluded", "x")
    eth1.treat(Unmanaged(reason), frozenset({77}))
    eth1.conclude(Value(PRIMARY), 102.0, POLICY)
    view = eth1.view()
    assert view.witness is None
    assert view.verdicts == {}
    assert view.groups == {77}
    assert (view.state, view.since, view.reasons) == (State.IGNORED, 102.0, (reason,))
    assert not eth1.is_polled
    eth1.treat(Managed(), frozenset({77}))
    eth1.conclude(Value(PRIMARY), 103.0, POLICY)
    assert eth1.witness
    assert eth1.witness.confirmed == frozenset(), "it proves itself anew"


REFUSED = Reason("kernel-refused", "no")
AWAITED = Reason(
    "address-awaited",
    f"waiting up to 3 s for a DHCP client to configure {IPV4}",
    family=Family.V4,
)
WAITS = Plan(3, awaited=ips(IPV4))


@pytest.mark.parametrize(
    ("plan", "equal", "state", "reasons"),
    [
        pytest.param(Plan(3), True, State.APPLIED, (), id="as planned"),
        pytest.param(Plan(3), False, State.VALIDATED, (REFUSED,), id="it was refused"),
        pytest.param(WAITS, True, State.VALIDATED, (AWAITED,), id="DHCP is waited for"),
        pytest.param(WAITS, False, State.VALIDATED, (REFUSED, AWAITED), id="both"),
    ],
)
def test_whether_it_is_done(
    *, plan: Plan, equal: bool, state: State, reasons: tuple[Reason, ...]
) -> None:
    eth1 = concluded()
    eth1.take_plan(plan)
    eth1.fail((REFUSED,))
    eth1.confirm(104.0, set() if equal else {None})
    view = eth1.view()
    assert (view.plan, view.state, view.reasons) == (plan, state, reasons)
    assert view.failures == (() if equal else (REFUSED,))
    eth1.conclude(Value(PRIMARY), 105.0, POLICY)
    assert eth1.view().reasons == reasons, "so it is until the next round"


def test_only_what_is_complete_is_confirmed() -> None:
    eth1 = concluded(eni(FULL4))
    eth1.confirm(102.0, set())
    assert eth1.lifecycle.state is State.AWAITING


def test_what_is_told_of_it() -> None:
    eth1 = interface()
    shadows = (Reason("shadowed", "x"),)
    eth1.shadow(shadows)
    eth1.surprise(PLANNING, "oops")
    view = eth1.view()
    assert (view.shadows, eth1.shadows) == (shadows, shadows)
    assert view.surprise == Reason(
        "internal-error", "internal error in planning: oops; what is configured stays"
    )
    eth1.surprise(JUDGING, None)
    assert eth1.view().surprise, "another place says nothing of this one"
    eth1.surprise(PLANNING, None)
    assert eth1.view().surprise is None
    eth1.follow(replace(POLICY, numbers=Numbers(group=77), schedule=Schedule(patience=9.0)))
    assert (eth1.view().numbers.group, eth1.lifecycle.patience) == (77, 9.0)
    for at in (101.0, 102.0, 103.0):
        eth1.fights.lose(SetGroup(3, 3778), None, at)
    assert eth1.view().fight == eth1.fights.reason is not None
    eth1.treat(Released(Reason("released", "x")), frozenset())
    assert eth1.view().fight is None, "nothing of a released one is put back"


def test_its_end() -> None:
    eth1 = interface()
    eth1.end(111.0)
    assert [(told.at, told.state) for _, told in eth1.drain()] == [
        (100.0, State.DETECTED),
        (111.0, State.GONE),
    ]


# --- when ----------------------------------------------------------------------------------------


def deadlines(eth1: Interface) -> list[float]:
    """Each time that runs out, if it is judged anew at just that time."""
    found, decided = [], 100.0
    while (due := eth1.next_deadline(decided, POLICY)) is not None:
        found.append(due)
        decided = due
    return found


@pytest.mark.parametrize(
    ("reading", "now", "expected"),
    [
        pytest.param(UNREAD, 100.0, [103.0, 105.0, 280.0, 460.0], id="DHCP, udev, patience"),
        pytest.param(FULL, 101.0, [103.0, 105.0, 140.0, 280.0, 460.0], id="... and settling"),
        pytest.param(
            UNLISTED, 101.0, [103.0, 105.0, 280.0, 281.0, 460.0], id="... and being overdue"
        ),
    ],
)
def test_when_times_run_out(reading: EniMetadata, now: float, expected: list[float]) -> None:
    assert deadlines(concluded(reading, now)) == [at + ROUNDING for at in expected]


def test_what_is_throttled_has_its_time() -> None:
    eth1 = concluded()
    for _ in range(11):
        eth1.fights.lose(SetGroup(3, 3778), None, 101.0)
    assert deadlines(eth1)[:3] == [at + ROUNDING for at in (103.0, 105.0, 106.0)]


def test_a_time_that_runs_out_at_this_very_moment_is_to_come() -> None:
    """Floats: what is due just now may have been judged a hair too early."""
    assert interface().next_deadline(103.0, POLICY) == 103.0 + ROUNDING
    assert 0 < ROUNDING < 0.001


@pytest.mark.parametrize(
    ("treatment", "readings", "now", "interval"),
    [
        pytest.param(Managed(), [UNLISTED], 101.0, 0.12, id="young"),
        pytest.param(Managed(), [UNLISTED], 165.0, 0.5, id="old, and incomplete"),
        pytest.param(Managed(), [FULL], 165.0, AT_REST, id="complete"),
        pytest.param(Managed(), [FULL, UNLISTED], 165.0, 60.0, id="IMDS forgot it"),
        pytest.param(Managed(), [FULL, UNREAD], 165.0, 60.0, id="IMDS does not answer"),
        pytest.param(Managed(), [eni(FULL4, UNREAD.v6)], 165.0, 0.5, id="one family is"),
        pytest.param(Managed(), [FULL, eni(FULL4, family(cidrs=NET6))], 165.0, 15.0, id="in doubt"),
        pytest.param(Primary(), [FULL], 101.0, AT_REST, id="the primary"),
        pytest.param(Primary(), [UNLISTED], 101.0, 0.12, id="... not listed yet"),
        pytest.param(Released(ITS_PRIMARY), [FULL], 101.0, 0.12, id="released"),
    ],
)
def test_when_imds_is_asked_again(
    treatment: Treatment, readings: list[EniMetadata], now: float, interval: float
) -> None:
    eth1 = interface()
    eth1.treat(treatment, frozenset())
    for reading in readings:
        eth1.facts.learn(reading, now, POLICY)
        eth1.conclude(Value(PRIMARY), now, POLICY)
    eth1.polling.send(now)
    primary = isinstance(treatment, Primary)
    known = progress(eth1, readings[-1], now, POLICY, is_primary=primary)
    eth1.polling.heard(now, known, POLICY, lambda: 0.0)
    assert eth1.polling.interval == pytest.approx(interval)
    assert now < eth1.polling.next_at <= now + interval


@pytest.mark.parametrize(
    ("reading", "now", "complete"),
    [
        pytest.param(FULL, 101.0, True, id="both"),
        pytest.param(eni(FULL4), 101.0, False, id="IPv6 is waited for"),
        pytest.param(eni(FULL4), 279.9, False, id="it has not shown, and may yet"),
        pytest.param(eni(FULL4), 280.0, True, id="after the patience nobody waits for it"),
        pytest.param(eni(FULL4, family(cidrs=NET6)), 279.9, False, id="its address may yet come"),
        pytest.param(eni(), 1000.0, False, id="nothing has come"),
    ],
)
def test_whether_it_waits_for_something(reading: EniMetadata, now: float, complete: bool) -> None:
    eth1 = concluded(reading, now)
    known = progress(eth1, reading, now, POLICY, is_primary=False)
    assert known.complete is complete


def test_a_hint_asks_only_where_imds_is_asked_at_all() -> None:
    eth1 = concluded()
    eth1.polling.send(101.0)
    known = progress(eth1, FULL, 101.0, POLICY, is_primary=False)
    eth1.polling.heard(101.0, known, POLICY, lambda: 0.5)
    assert eth1.polling.next_at == pytest.approx(101.0 + 0.12 * 0.95), "with jitter"
    eth1.hint(101.1)
    assert eth1.polling.next_at > 101.1, "it is asked about all the time"
    eth1.polling.interval = 5.0
    eth1.hint(101.1)
    assert eth1.polling.next_at == 101.1
    other = interface()
    other.treat(Unmanaged(Reason("x", "y")), frozenset())
    other.polling.next_at = 200.0
    other.hint(101.1)
    assert other.polling.next_at == 200.0
