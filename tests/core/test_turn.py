"""The turn, step by step: what follows what, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from errno import EBUSY, EEXIST, ENETUNREACH
from itertools import permutations

import pytest

from nicwatchd.core import asking
from nicwatchd.core.agenda import HEARTBEAT, KERNEL_PAUSE, RETRY_FIRST, Appointment, Why
from nicwatchd.core.decision import Throttled
from nicwatchd.core.fights import BURST, INTERVAL
from nicwatchd.core.kept import WHOLE
from nicwatchd.core.lifecycle import State
from nicwatchd.core.metadata import NOT_ASKED, Value
from nicwatchd.core.model import (
    MAIN_TABLE,
    RTPROT_STATIC,
    AddAddress,
    Address,
    AddRoute,
    AddRule,
    Operation,
    RemoveAddress,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
)
from nicwatchd.core.policy import Policy
from nicwatchd.core.polling import Depth
from nicwatchd.core.port import AddressEvent, LinkEvent, Outcome, Result, RuleEvent, judge
from nicwatchd.core.releases import Releases
from nicwatchd.core.steps import (
    Applied,
    Apply,
    LinksRead,
    LookedUp,
    LookUp,
    ObjectsRead,
    PrimaryReading,
    Reading,
    ReadObjects,
    StepAnswer,
)
from nicwatchd.core.treatment import Managed, Primary, Released
from nicwatchd.core.turn import ROUNDS, TURN, Move, Phase, Turn
from tests.core.build import (
    ETH0,
    ETH1,
    FULL4,
    FULL6,
    IPV4,
    MAC,
    NET4,
    PRIMARY,
    TABLE,
    UNREAD,
    V4,
    eni,
    family,
    ip,
    net,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import (
    APPLIED,
    CALM,
    FULL,
    MAC2,
    OF_PRIMARY,
    PATIENT,
    applied,
    dhcp6,
    hot_plugged,
    two_enis,
)

LINKS, OBJECTS, APPLYING = Phase.LINKS, Phase.OBJECTS, Phase.APPLYING
LOOKING_UP, RESTING = Phase.LOOKING_UP, Phase.RESTING
MORE = eni(family(f"{IPV4} 10.0.2.11", cidrs=NET4), FULL6)
VPN = Rule(V4, 100, 52, protocol=3, src=net(NET4))
VPNS_ROUTE = Route(net("0.0.0.0/0"), 52, 3, protocol=3)


def phases(motion: FastMotion, each: Callable[[], None] = lambda: None) -> list[Phase]:
    """Take a turn; the phases that it goes through. `each` is done before each step."""
    turn, found = motion.turn, []
    turn.start(motion.now)
    while turn.step:
        found.append(turn.phase)
        each()
        turn.answer(motion._carry_out(turn.step), motion.now)
    assert turn.phase is RESTING
    return found


def own_rules(motion: FastMotion) -> list[Rule]:
    """Those of eth1 that lead to its table."""
    return [rule for rule in motion.kernel.own_rules if rule.table == TABLE]


def drop_rule(motion: FastMotion, rule: Rule) -> None:
    """Others remove it, and there is an event of it."""
    motion.kernel.drop(rule)
    motion.turn.take_event(
        RuleEvent(rule.family, rule.priority, rule.protocol, True, 77), motion.now
    )


def up_to(motion: FastMotion, phase: Phase) -> Turn:
    """A turn that waits in this phase, after a rule of ours went and another's came."""
    motion.kernel.put(VPN, VPNS_ROUTE)
    drop_rule(motion, own_rules(motion)[0])
    motion.happened()
    turn = motion.turn
    turn.start(motion.now)
    while turn.phase is not phase:
        assert turn.step
        turn.answer(motion._carry_out(turn.step), motion.now)
    return turn


# --- the table -----------------------------------------------------------------------------------


def test_each_phase_is_left_and_leads_back_to_rest() -> None:
    assert TURN.keys() == {*Phase}
    assert {move for moves in TURN.values() for move in moves} == {*Move}
    ends = {RESTING}
    while more := {p for p in Phase if ends & {*TURN[p].values()}} - ends:
        ends |= more
    assert ends == {*Phase}
    assert all(TURN[phase][Move.FAILED] is RESTING for phase in Phase if phase is not RESTING)


def test_before_the_first_turn() -> None:
    turn = Turn(Policy(), lambda: 0.0, 7.0)
    assert (turn.phase, turn.step, turn.decision) == (RESTING, None, None)
    assert (turn.completed, turn.settled, turn.broken) == (0, True, "")
    assert turn.next_at() == Appointment(7.0, Why.START)
    assert not turn.host.strict, "a bug is caught"
    assert turn.host.primary_mac == NOT_ASKED


def test_nothing_new_decides_nothing() -> None:
    """But in the end all is decided anew."""
    motion = applied()
    motion.run(400.0)  # no deadline is left
    motion.decide()
    decided = motion.turn.decision
    assert decided
    for _ in range(3):
        motion.run(motion.now + HEARTBEAT)
        assert phases(motion) == [LINKS, OBJECTS]
    assert motion.turn.decision
    assert motion.turn.decision.revision == decided.revision == motion.turn.completed
    assert motion.turn.settled
    motion.run(decided.at + WHOLE)
    assert motion.turn.decision.revision == decided.revision + 1 == motion.turn.completed


def test_an_empty_host() -> None:
    turn = Turn(Policy(), lambda: 0.0, 0.0, strict=True)
    turn.start(0.0)
    turn.answer(LinksRead({}), 0.0)
    turn.answer(ObjectsRead(own=(), rules=()), 0.0)
    assert (turn.phase, turn.step, turn.completed) == (RESTING, None, 1)
    assert turn.next_at() == Appointment(HEARTBEAT, Why.HEARTBEAT)


def test_what_is_applied_is_read_back() -> None:
    motion = applied()
    rule = own_rules(motion)[0]
    drop_rule(motion, rule)
    assert phases(motion) == [LINKS, OBJECTS, APPLYING, LINKS, OBJECTS, LOOKING_UP]
    assert rule in motion.kernel.rules
    assert motion.turn.settled


def test_who_wins_is_asked_when_rules_changed_and_while_somebody_does() -> None:
    motion = applied()
    motion.kernel.put(VPN, VPNS_ROUTE)
    motion.turn.take_event(RuleEvent(V4, VPN.priority, 3), motion.now)
    assert phases(motion) == [LINKS, OBJECTS, LOOKING_UP]
    assert motion.turn.decision
    notes = {note.code for note in motion.turn.decision.interfaces[3].notes}
    assert notes == {"shadowed"}, "the decision has it"
    assert phases(motion) == [LINKS, OBJECTS, LOOKING_UP], "its route may go without a rule's event"
    motion.kernel.drop(VPN)
    motion.turn.take_event(RuleEvent(V4, VPN.priority, 3, True), motion.now)
    assert phases(motion) == [LINKS, OBJECTS, LOOKING_UP]
    assert phases(motion) == [LINKS, OBJECTS]
    assert motion.turn.decision.interfaces[3].notes == ()


def let_go(motion: FastMotion) -> None:
    motion.turn.release(None, motion.now)


def set_down(motion: FastMotion) -> None:
    motion.kernel.set_link(replace(motion.kernel.links[3], up=False))


@pytest.mark.parametrize("end", [let_go, set_down])
def test_nobody_wins_where_nothing_is_left_to_ask_about(end: Callable[[FastMotion], None]) -> None:
    motion = applied()
    motion.kernel.put(VPN, VPNS_ROUTE)
    motion.run(motion.now + 1.0)
    assert motion.host.interfaces[3].shadows
    end(motion)
    motion.run(motion.now + 1.0)
    assert not motion.host.interfaces[3].shadows
    assert motion.turn.decision
    assert motion.turn.decision.interfaces[3].shadows == ()


def test_enough_rounds() -> None:
    """Each finds something else missing: what still differs waits a moment."""
    motion = applied()
    victims = own_rules(motion)[:ROUNDS]
    drop_rule(motion, victims[0])
    before, round_ = motion.turn.completed, 0

    def another_goes() -> None:
        nonlocal round_
        if motion.turn.phase is APPLYING and (round_ := round_ + 1) < ROUNDS:
            drop_rule(motion, victims[round_])

    assert phases(motion, another_goes) == [LINKS, OBJECTS, APPLYING] * ROUNDS + [LOOKING_UP]
    assert motion.turn.completed == before + ROUNDS
    assert not motion.turn.settled, "the last round was not read back"
    assert motion.turn.next_at().at <= motion.now + RETRY_FIRST
    assert phases(motion) == [LINKS, OBJECTS, LOOKING_UP], "now it is known what it came to"
    assert motion.turn.settled


def test_a_round_that_changes_nothing_is_the_last() -> None:
    motion = applied()
    motion.turn.take_reading(Reading(3, MAC, MORE), motion.now)
    wanted = motion.decide()
    assert wanted[0] == AddAddress(3, ip("10.0.2.11"))
    assert {type(each) for each in wanted[1:]} == {AddRule}
    assert motion.apply({each: judge(each, EBUSY) for each in wanted}) == ()
    assert (motion.turn.phase, motion.turn.settled) == (RESTING, False)
    assert motion.turn.next_at() == Appointment(motion.now + RETRY_FIRST, Why.RETRY)
    assert motion.reasons() == {"kernel-refused"}
    assert phases(motion) == [LINKS, OBJECTS, APPLYING, LINKS, OBJECTS, LOOKING_UP], "once more"
    assert (motion.state(), motion.reasons()) == (APPLIED, set())


def test_a_second_turn_does_what_the_first_one_did_not_get_done() -> None:
    """That it is the same as in the turn before is no reason to leave it."""
    motion = applied()
    motion.turn.take_reading(Reading(3, MAC, MORE), motion.now)
    for wait in (0.1, 0.2, 0.4):
        wanted = motion.decide()
        motion.apply({each: judge(each, EBUSY) for each in wanted})
        assert motion.turn._agenda.next == Appointment(motion.now + wait, Why.RETRY)


@pytest.mark.parametrize("phase", [LINKS, OBJECTS, APPLYING, LOOKING_UP])
def test_a_kernel_that_does_not_answer(phase: Phase) -> None:
    motion = applied()
    completed = motion.turn.completed
    turn = up_to(motion, phase)
    turn.fail(motion.now + 0.5)
    assert (turn.phase, turn.step) == (RESTING, None)
    assert turn.completed == completed, "the turn is not over"
    assert turn._agenda.next == Appointment(motion.now + 0.5 + KERNEL_PAUSE, Why.KERNEL)
    assert turn.picture.stale.everything
    motion.now += 2.0
    expected = [LINKS, OBJECTS, APPLYING, LINKS, OBJECTS, LOOKING_UP]
    assert phases(motion) == (expected if phase is not LOOKING_UP else expected[:2] + expected[-1:])
    assert turn.settled
    assert turn.completed > completed
    notes = {note.code for note in motion.host.interfaces[3].view().notes}
    assert notes == {"shadowed"}, "who wins is asked again as well"


ANSWERS: dict[Phase, StepAnswer] = {
    LINKS: LinksRead({}),
    OBJECTS: ObjectsRead(),
    APPLYING: Applied(()),
    LOOKING_UP: LookedUp(()),
}


@pytest.mark.parametrize(("phase", "wrong"), list(permutations(ANSWERS, 2)))
def test_the_answer_to_another_question_is_a_bug(phase: Phase, wrong: Phase) -> None:
    turn = up_to(applied(), phase)
    with pytest.raises(TypeError, match=r"answers no"):
        turn.answer(ANSWERS[wrong], 0.0)


@pytest.mark.parametrize("more", [-1, 1])
def test_an_answer_to_more_or_less_than_was_asked_is_a_bug(more: int) -> None:
    turn = up_to(applied(), LOOKING_UP)
    assert isinstance(turn.step, LookUp)
    with pytest.raises(ValueError, match=r"zip"):
        turn.answer(LookedUp((ENETUNREACH,) * (len(turn.step.probes) + more)), 0.0)


def test_an_answer_without_a_question_is_a_bug() -> None:
    turn = applied().turn
    for answer in ANSWERS.values():
        with pytest.raises(TypeError, match=r"answers no"):
            turn.answer(answer, 0.0)


def test_one_turn_at_a_time() -> None:
    turn = up_to(applied(), OBJECTS)
    with pytest.raises(KeyError):
        turn.start(0.0)


def test_what_is_applied_comes_with_the_macs_that_it_is_for() -> None:
    motion = applied()
    drop_rule(motion, own_rules(motion)[0])
    motion.decide()
    assert isinstance(motion.turn.step, Apply)
    assert motion.turn.step.macs == {2: PRIMARY, 3: MAC}


def test_a_deadline_that_passes_while_a_step_is_carried_out_is_kept() -> None:
    """Decided just before the time ran out, looked up after: the next turn is due at once."""
    motion = hot_plugged(policy=PATIENT)
    dhcp6(motion, 10.5)
    motion.run(14.99)  # from 15 s on eth1 does not wait for DHCPv4 any more
    assert motion.reasons() == {"address-awaited"}
    motion.happened()
    turn = motion.turn
    turn.start(motion.now)
    while not isinstance(turn.step, LookUp):
        assert turn.step
        turn.answer(motion._carry_out(turn.step), motion.now)
    turn.answer(motion._carry_out(turn.step), 15.2)
    assert turn._agenda.next == Appointment(15.2, Why.DEADLINE)
    motion.now = 15.2
    phases(motion)
    assert motion.reasons() == set()


def test_news_waits_for_as_long_as_the_last_turn_took() -> None:
    motion = applied()
    turn, now = motion.turn, motion.now
    turn.start(now)
    for later in (0.125, 0.25):
        assert turn.step
        turn.answer(motion._carry_out(turn.step), now + later)
    turn.take_event(AddressEvent(3), now + 0.375)
    assert turn._agenda.next == Appointment(now + 0.5, Why.NEWS)


# --- requests ------------------------------------------------------------------------------------


def learn(motion: FastMotion, index: int) -> None:
    """IMDS says the same as before."""
    mac = motion.host.interfaces[index].link.mac
    motion.turn.take_reading(Reading(index, mac, UNREAD), motion.now)


def test_a_reconcile_is_reached_once_all_answers_are_used() -> None:
    motion = two_enis()
    turn = motion.turn
    request = turn.reconcile(None, motion.now)
    assert turn.is_due(motion.now)
    assert {question.depth for question in turn.questions(motion.now)} == {Depth.EVERYTHING}
    phases(motion)
    assert not turn.is_reached(request), "a turn alone is not what was asked for"
    for index in (2, 3):
        learn(motion, index)
        phases(motion)
        assert not turn.is_reached(request)
    learn(motion, 4)
    assert turn.is_due(motion.now)
    assert not turn.is_reached(request), "the last answer is not used yet"
    phases(motion)
    assert turn.is_reached(request)


def test_a_reconcile_needs_answers_to_questions_asked_since() -> None:
    motion = two_enis()
    turn, asked = motion.turn, motion.now
    asking.poll_all(motion.host, asked)
    assert len(turn.questions(asked)) == 3
    motion.now += 1.0
    request = turn.reconcile(None, motion.now)
    assert turn.questions(motion.now) == [], "all are under way"
    for index in (2, 3, 4):
        learn(motion, index)
    phases(motion)
    assert not turn.is_reached(request), "these may be of before"
    assert len(turn.questions(motion.now)) == 3, "so each is asked once more"
    for index in (2, 3, 4):
        learn(motion, index)
    phases(motion)
    assert turn.is_reached(request)


def leaves(motion: FastMotion) -> None:
    motion.kernel.unplug(5)
    motion.turn.take_event(LinkEvent(5, "eth3", gone=True), motion.now)


def is_excluded(motion: FastMotion) -> None:
    motion.turn.set_policy(replace(CALM, exclude=("eth3",)), motion.now)


@pytest.mark.parametrize("ends", [leaves, is_excluded])
def test_a_reconcile_does_not_wait_for_answers_that_nobody_needs(
    ends: Callable[[FastMotion], None],
) -> None:
    motion = two_enis()
    motion.kernel.set_link(replace(ETH1, index=5, mac="02:00:00:00:00:05", name="eth3"))
    motion.run(506.0)
    turn = motion.turn
    request = turn.reconcile(None, motion.now)
    turn.questions(motion.now)
    for index in (2, 3, 4):
        learn(motion, index)
    phases(motion)
    assert not turn.is_reached(request)
    ends(motion)
    goes = APPLYING in phases(motion)
    assert goes == (ends is is_excluded), "nothing was programmed but the link's group"
    assert turn.is_reached(request), "by the very turn that saw it"
    assert turn.next_at().why is not Why.NEWS, "and by no other"


def test_a_reconcile_does_not_wait_for_what_comes_after_all_answers() -> None:
    motion = two_enis()
    turn = motion.turn
    request = turn.reconcile(None, motion.now)
    turn.questions(motion.now)
    for index in (2, 3, 4):
        learn(motion, index)
    motion.kernel.set_link(replace(ETH1, index=5, mac="02:00:00:00:00:05", name="eth3"))
    turn.take_event(LinkEvent(5, "eth3"), motion.now)
    phases(motion)
    assert 5 in motion.host.interfaces
    assert turn.is_reached(request)


def test_a_reconcile_of_an_empty_host_is_a_turn() -> None:
    turn = Turn(Policy(), lambda: 0.0, 0.0, strict=True)
    request = turn.reconcile(None, 0.0)
    assert not turn.is_reached(request)
    turn.start(0.0)
    turn.answer(LinksRead({}), 0.0)
    turn.answer(ObjectsRead(own=(), rules=()), 0.0)
    assert turn.is_reached(request)


def test_reconcile_takes_back_what_was_released() -> None:
    motion = two_enis()
    turn = motion.turn
    turn.release(None, motion.now)
    turn.reconcile((3, MAC), motion.now)
    assert [key in motion.host.releases for key in [(2, PRIMARY), (3, MAC), (4, MAC2)]] == [
        True,
        False,
        True,
    ]
    turn.reconcile(None, motion.now)
    assert motion.host.releases == Releases()


def test_a_release_is_reached_after_its_turn_and_says_what_was_done() -> None:
    motion = two_enis()
    turn = motion.turn
    theirs = motion.kernel.foreign
    request = turn.release((3, MAC), motion.now)
    assert [key in motion.host.releases for key in [(3, MAC), (4, MAC2)]] == [True, False]
    assert (request.at, request.outcomes) == (motion.now, [])
    assert not turn.is_reached(request)
    assert turn.is_due(motion.now)
    reached = []
    found = phases(motion, lambda: reached.append(turn.is_reached(request)))
    # The other one's ways around it are added first.
    assert found[:6] == [LINKS, OBJECTS, APPLYING, APPLYING, LINKS, OBJECTS]
    assert not any(reached), "not before it was read back"
    assert turn.is_reached(request)
    assert {outcome.result for outcome in request.outcomes} == {Result.DONE}
    removed = [outcome.operation for outcome in request.outcomes]
    assert SetGroup(3, 0) in removed
    assert any(isinstance(operation, RemoveRule) for operation in removed)
    assert own_rules(motion) == []
    assert motion.kernel.foreign == theirs
    before = len(request.outcomes)
    turn.release((4, MAC2), motion.now)
    phases(motion)
    assert len(request.outcomes) == before, "what comes later is another's"


def test_a_release_of_what_has_nothing_of_ours_is_one_turn() -> None:
    motion = two_enis()
    request = motion.turn.release((9, "02:00:00:00:00:09"), motion.now)
    assert phases(motion) == [LINKS, OBJECTS, LOOKING_UP], "who wins is asked anew"
    assert motion.turn.is_reached(request)
    assert request.outcomes == []


def test_a_release_that_the_kernel_refuses_is_reached_and_says_so() -> None:
    motion = two_enis()
    turn = motion.turn
    request = turn.release((3, MAC), motion.now)
    wanted = motion.decide()
    while wanted:
        wanted = motion.apply({o: Outcome(o, Result.REFUSED, message="no") for o in wanted})
    assert turn.is_reached(request)
    assert not turn.settled
    assert {outcome.result for outcome in request.outcomes} == {Result.REFUSED}
    notes = {note.code for note in motion.host.interfaces[3].view().notes}
    assert "kernel-refused" in notes


def test_a_release_whose_turn_fails_is_reached_by_the_next() -> None:
    motion = two_enis()
    turn = motion.turn
    request = turn.release((3, MAC), motion.now)
    motion.decide()
    turn.fail(motion.now)
    assert not turn.is_reached(request)
    phases(motion)
    assert turn.is_reached(request)
    assert request.outcomes


# --- what a decision has -------------------------------------------------------------------------


def test_what_a_decision_was_made_from_and_came_to() -> None:
    motion = applied()
    before = motion.turn.decision
    drop_rule(motion, rule := own_rules(motion)[0])
    wanted = motion.decide()
    decision = motion.turn.decision
    assert before
    assert decision
    assert (decision.revision, decision.at) == (before.revision + 1, motion.now)
    assert decision.policy == CALM
    assert decision.releases == Releases()
    assert decision.primary_mac == Value(PRIMARY)
    assert decision.container_network is None
    assert decision.kernel.links.keys() == {2, 3}
    assert rule not in decision.kernel.rules
    assert set(decision.kernel.routes) == set(motion.kernel.own_routes)
    assert decision.operations == wanted == (AddRule(rule),)
    assert (decision.throttled, decision.protected, decision.outcomes) == ((), (), None)
    views = decision.interfaces
    assert isinstance(views[2].treatment, Primary)
    assert isinstance(views[3].treatment, Managed)
    assert views[3].state is State.VALIDATED
    assert rule in views[3].plan.rules
    assert views[3].witness
    assert views[3].verdicts.keys() == {4, 6}


def test_what_became_of_a_decision_is_in_it() -> None:
    motion = applied()
    drop_rule(motion, own_rules(motion)[0])
    (wanted,) = motion.decide()
    refused = judge(wanted, EBUSY)
    motion.turn.answer(Applied((refused,)), motion.now)
    assert motion.turn.decision
    assert motion.turn.decision.outcomes == (refused,)
    motion.go_on()
    assert motion.turn.decision.outcomes is None, "the one after it was not carried out"


def test_a_decision_is_frozen() -> None:
    """What comes later does not show in it."""
    motion = applied()
    decision = motion.turn.decision
    assert decision
    before = repr(decision)
    motion.imds(MAC, motion.now, eni(FULL4))
    motion.kernel.set_link(replace(motion.kernel.links[3], up=False))
    motion.run(motion.now + 300.0)
    motion.turn.release(None, motion.now)
    motion.run(motion.now + 1.0)
    assert motion.turn.decision is not decision
    assert repr(decision) == before
    with pytest.raises(AttributeError):
        decision.revision = 0  # type: ignore[misc]  # that is the test


def fight(motion: FastMotion, victim: Operation) -> None:
    """Others remove it until it is not put back at once any more."""
    for _ in range(BURST + 1):
        match victim:
            case AddRule(rule=rule):
                motion.kernel.drop(rule)
            case AddRoute(route=route):
                motion.kernel.drop(route)
        motion.happened()
        phases(motion)


def test_what_is_throttled_is_told_with_its_time() -> None:
    motion = applied()
    rule = own_rules(motion)[0]
    fight(motion, AddRule(rule))
    decision = motion.turn.decision
    assert decision
    assert rule not in motion.kernel.rules
    assert decision.operations == ()
    assert decision.throttled == (Throttled(AddRule(rule), motion.now + INTERVAL),)
    assert motion.turn.settled, "there is nothing to retry before"
    due = motion.turn._agenda.next
    assert due.why in (Why.DEADLINE, Why.HEARTBEAT)
    motion.run(motion.now + INTERVAL + 0.1)
    assert rule in motion.kernel.rules
    assert motion.turn.decision
    assert motion.turn.decision.throttled == ()


def test_what_waits_for_something_throttled_has_no_time_of_its_own() -> None:
    motion = applied()
    lookup = next(rule for rule in own_rules(motion) if rule.src == net(f"{IPV4}/32"))
    (guard,) = (
        rule
        for rule in motion.kernel.own_rules
        if rule.table == MAIN_TABLE and (rule.src, rule.iif) == (lookup.src, lookup.iif)
    )
    fight(motion, AddRule(guard))
    motion.kernel.drop(lookup)
    motion.happened()
    phases(motion)
    assert motion.turn.decision
    assert motion.turn.decision.throttled == (
        Throttled(AddRule(guard), motion.now + INTERVAL),
        Throttled(AddRule(lookup), None),
    )


def test_what_is_protected_is_told() -> None:
    """After a restart IMDS is silent: what is there is in no plan, and stays."""
    before = applied(MORE)
    motion = FastMotion(CALM, before.kernel, start=1000.0)
    motion.imds(PRIMARY, 0.0, OF_PRIMARY)
    motion.imds(MAC, 0.0, UNREAD)
    motion.run(1010.0)
    decision = motion.turn.decision
    assert decision
    assert motion.written == []
    kept = {thing.ip for thing in decision.protected if isinstance(thing, Address)}
    assert kept == {ip(IPV4), ip("10.0.2.11")}  # the first was there before DHCP's
    assert set(decision.protected) <= {
        *before.kernel.addresses,
        *before.kernel.own_routes,
        *before.kernel.own_rules,
    }
    motion.imds(MAC, motion.now, FULL)
    motion.run(1200.0)
    assert motion.turn.decision
    assert motion.turn.decision.protected == ()
    assert any(isinstance(o, RemoveAddress) for _, o in motion.written)


def test_a_decision_has_what_is_released_in_it() -> None:
    motion = applied()
    motion.turn.release((3, MAC), motion.now)
    motion.decide()
    decision = motion.turn.decision
    assert decision
    assert (3, MAC) in decision.releases
    assert isinstance(decision.interfaces[3].treatment, Released)


# --- IMDS ----------------------------------------------------------------------------------------


def test_only_what_is_new_makes_a_turn_due() -> None:
    motion = applied()
    turn, now = motion.turn, motion.now
    turn.take_reading(Reading(3, MAC, FULL), now)
    assert not turn.is_due(now)
    turn.take_reading(Reading(9, MAC, eni(FULL4)), now)
    turn.take_reading(Reading(3, MAC2, eni(FULL4)), now)
    assert not turn.is_due(now), "of no interface that there is"
    turn.take_reading(Reading(3, MAC, eni(FULL4)), now)
    assert turn.is_due(now)


def test_the_primarys_answer_makes_a_turn_due() -> None:
    turn = Turn(Policy(), lambda: 0.0, 0.0)
    turn.start(0.0)
    turn.answer(LinksRead({2: ETH0, 3: ETH1}), 0.0)
    turn.answer(ObjectsRead({2: (), 3: ()}, {2: (), 3: ()}, (), ()), 0.0)
    turn.take_reading(PrimaryReading(Value(PRIMARY)), 1.0)
    assert turn.is_due(1.0)


def test_a_kernel_that_fails_meanwhile_does_not_change_the_reason() -> None:
    """What is in a refused route's way is asked for again, and named as it would have been."""
    motion = applied()
    [route, *_] = [r for r in motion.kernel.own_routes if r.table == TABLE and r.prefsrc]
    theirs = replace(route, protocol=RTPROT_STATIC)
    motion.kernel.drop(route)
    motion.kernel.put(theirs)
    add = AddRoute(route)
    assert motion.decide() == (add,)
    turn = motion.turn
    turn.answer(Applied((Outcome(add, Result.RETRY, EEXIST, "File exists"),)), motion.now)
    while not isinstance(turn.step, ReadObjects):
        assert turn.step
        turn.answer(motion._carry_out(turn.step), motion.now)
    assert turn.step.tables == {TABLE}
    turn.fail(motion.now)
    motion.decide()
    assert motion.reasons() == {"route-in-the-way"}
