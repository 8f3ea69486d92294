"""One value is told to all; whatever can be told has its entry in the journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args, get_type_hints
from uuid import UUID

import pytest

from nicwatchd.core.fights import WINDOW
from nicwatchd.core.health import FamilyHealth, Health
from nicwatchd.core.interface import Interface
from nicwatchd.core.lifecycle import State, Transition
from nicwatchd.core.model import AddRule, Reason, Rule
from nicwatchd.core.news import (
    Bypassed,
    EgressMoved,
    FamilyGivenUp,
    FightChanged,
    HealthChanged,
    LinkChanged,
    Lost,
    Restored,
    StateChanged,
    Surprised,
    Wrote,
)
from nicwatchd.core.policy import Policy
from nicwatchd.core.written import IMDS
from nicwatchd.imds.condition import Condition
from nicwatchd.service import journal
from nicwatchd.service.counts import Counters
from nicwatchd.service.telling import (
    ImdsChanged,
    KernelTrouble,
    Resumed,
    Started,
    Stopped,
    Teller,
    Told,
)
from tests.core.build import ETH1, V4, V6

VIEW = Interface(ETH1, 5.0, Policy()).view()
WAITS = Transition(
    State.DETECTED, State.AWAITING, (Reason("no-ipv6s", "..."),), overdue=False, at=9.0, elapsed=4.0
)
WORKS = FamilyHealth(V4, Health.WORKING, 9.0)
RULES = (AddRule(Rule(V4, 32765, 7, oif="eth1")),)
WHY = Reason("shadowed", "packets from 10.0.2.10 are routed by the rule at priority 100")
TOLD = {
    HealthChanged: (HealthChanged(VIEW, V4, None, WORKS, 9.0), journal.HEALTH_CHANGED),
    LinkChanged: (LinkChanged(VIEW, carries=False), journal.LINK_CHANGED),
    Lost: (Lost(VIEW, RULES, (), 9.0), journal.LOST),
    Restored: (Restored(VIEW, RULES, 0.11), journal.RESTORED),
    Wrote: (Wrote(VIEW, RULES, IMDS), journal.WROTE),
    Bypassed: (Bypassed(VIEW, (WHY,), ()), journal.BYPASS_BEGAN),
    FamilyGivenUp: (FamilyGivenUp(VIEW, V6, WHY, 180.0), journal.FAMILY_GIVEN_UP),
    EgressMoved: (EgressMoved(VIEW, V4, ("eth0",), ("eth1",), False), journal.EGRESS_MOVED),
    StateChanged: (StateChanged(VIEW, WAITS), journal.TRANSITION),
    FightChanged: (FightChanged(VIEW, began=False), journal.FIGHT_ENDED),
    Surprised: (Surprised(VIEW, "judging", "ValueError('x')", "Traceback ..."), journal.SURPRISE),
    Started: (Started("1.2"), journal.STARTED),
    Stopped: (Stopped(), journal.STOPPED),
    ImdsChanged: (ImdsChanged(Condition("disabled", "403 on the token")), journal.IMDS_CHANGED),
    KernelTrouble: (KernelTrouble("no answer in 5 s"), journal.KERNEL_TROUBLE),
    Resumed: (Resumed(7200.0), journal.RESUMED),
}
Entry = tuple[UUID, str, int, dict[str, str]]


def tell(news: object) -> list[Entry]:
    """What becomes of it in the journal."""
    entries: list[Entry] = []

    def send(message_id: UUID, message: str, priority: int, fields: Mapping[str, str]) -> None:
        entries.append((message_id, message, priority, dict(fields)))

    teller = Teller(lambda: 10.0)
    teller.subscribe(journal.Journal(send).observe)
    teller.tell(news)  # type: ignore[arg-type] # the table below has one of each
    return entries


def test_the_table_has_all_that_can_be_told() -> None:
    assert set(get_args(get_type_hints(Told)["news"])) == set(TOLD)


@pytest.mark.parametrize("kind", TOLD, ids=lambda kind: kind.__name__)
def test_each_is_one_entry(kind: type) -> None:
    news, message_id = TOLD[kind]
    ((got, message, _, fields),) = tell(news)
    assert got == message_id
    assert message
    assert ("INTERFACE" in fields) is hasattr(news, "view")


def test_a_surprise_has_its_traceback_and_is_an_error() -> None:
    ((_, message, priority, fields),) = tell(TOLD[Surprised][0])
    assert message == (
        "eth1 (02:00:00:00:00:02): internal error in judging: ValueError('x'); "
        "everything else continues"
    )
    assert (priority, fields["NICWATCHD_TRACEBACK"]) == (journal.ERROR, "Traceback ...")
    ((_, message, _, fields),) = tell(Surprised(None, "deciding", "KeyError(3)", "Traceback"))
    assert message == "internal error in deciding: KeyError(3); everything else continues"
    assert "INTERFACE" not in fields


def test_the_end_of_a_fight_is_no_claim_about_other_objects() -> None:
    ((_, message, _, _),) = tell(TOLD[FightChanged][0])
    assert message == (
        f"eth1 (02:00:00:00:00:02) is no longer fought over: no repeated removals for {WINDOW:g} s"
    )


def test_times_are_of_the_day() -> None:
    told: list[Told] = []
    teller = Teller(lambda: 10.0)
    end = teller.subscribe(told.append)
    teller.tell(TOLD[StateChanged][0])  # type: ignore[arg-type] # as above
    end()
    teller.tell(Stopped())
    (one,) = told
    assert one.status is not None
    assert one.status.seen == pytest.approx(teller.epoch + 5.0, abs=1.0)


def test_counters_count_transitions_only() -> None:
    counters = Counters()
    teller = Teller(lambda: 10.0)
    teller.subscribe(counters.observe)
    for news, _ in TOLD.values():
        teller.tell(news)  # type: ignore[arg-type] # as above
    assert dict(counters.transitions) == {State.AWAITING: 1}
