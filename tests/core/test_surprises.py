"""Exceptions of ours, planted: what they cost, and what is told of them."""

from __future__ import annotations

import traceback
from dataclasses import replace
from itertools import count
from typing import Any, Final

import pytest

from nicwatchd.core import asking, decide, diff, facts, host_plan, interface, memory, turn
from nicwatchd.core.agenda import KERNEL_PAUSE, Appointment, Why
from nicwatchd.core.host import SURPRISES_TOLD, Host
from nicwatchd.core.interface import ASKING, JUDGING, PLANNING
from nicwatchd.core.metadata import NOT_ASKED, Value
from nicwatchd.core.model import Family, Object, ours
from nicwatchd.core.news import Surprised
from nicwatchd.core.port import Outcome, Overrun, Result
from nicwatchd.core.steps import PrimaryReading, Reading
from nicwatchd.core.turn import Phase
from tests.core.build import ETH1, FULL6, IPV4, MAC, NET4, TABLE, UNREAD, eni, family, ip, net
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, CALM, ETH2, FULL, IGNORED, MAC2, two_enis

MORE = eni(family(f"{IPV4} 10.0.2.11", cidrs=NET4), FULL6)
# What is judged or planned already is not done anew, but looked at each time.
PLACES: Final = {
    JUDGING: (interface.Interface, "_judge"),
    PLANNING: (host_plan.HostPlan, "_basis"),
}
ERROR: Final = "RuntimeError('planted')"


def plant(patch: pytest.MonkeyPatch, where: str, index: int = 3, text: str = "planted") -> None:
    """Have the work on one interface raise there. `patch.undo` mends it."""
    module, name = PLACES[where]
    real, times = getattr(module, name), count(1)

    def raises(*args: Any, **more: Any) -> Any:
        if any(arg.link.index == index for arg in args if hasattr(arg, "link")):
            raise RuntimeError(text.format(next(times)))
        return real(*args, **more)

    patch.setattr(module, name, raises)


def plant_everywhere(patch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    """Have a function raise, if there is anything for it to do."""

    def raises(first: Any, *_rest: Any) -> Any:
        if first:
            raise RuntimeError("planted")
        return first

    patch.setattr(module, name, raises)


def lenient(motion: FastMotion) -> FastMotion:
    """As the service has it."""
    motion.host.strict = False
    return motion


def of_eth1(motion: FastMotion) -> set[Object]:
    """All that is ours of eth1 in the kernel, but for the rules that are guards."""
    kernel = motion.kernel
    found: set[Object] = {address for address in kernel.addresses_of(3) if ours(address)}
    found |= {route for route in kernel.own_routes if route.oif == 3}
    return found | {rule for rule in kernel.own_rules if rule.table == TABLE}


def surprises(motion: FastMotion) -> list[Surprised]:
    return [news for news in motion.news if isinstance(news, Surprised)]


def notes(motion: FastMotion, index: int = 3) -> list[str]:
    view = motion.host.interfaces[index].view()
    return [note.text for note in view.notes if note.code == "internal-error"]


# --- of one interface ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", PLACES)
def test_a_bug_costs_one_interface_and_nothing_of_what_that_has(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    motion = lenient(two_enis(MORE))
    plan, before = motion.host.interfaces[3].plan, of_eth1(motion)
    guards = {rule for rule in motion.kernel.own_rules if rule.table == 254}
    plant(monkeypatch, where)
    motion.imds(MAC, 500.0, FULL)  # it lost an address
    motion.imds(MAC2, 500.0, eni(family("10.0.3.10 10.0.3.11", cidrs="10.0.3.0/24"),
                                 mac=Value(MAC2)))  # fmt: skip
    motion.run(700.0)
    assert ip("10.0.3.11") in {a.ip for a in motion.kernel.addresses_of(4)}, "the other is served"
    assert motion.state(ETH2.index) is APPLIED
    assert motion.host.interfaces[3].plan == plan
    assert of_eth1(motion) == before
    assert guards <= {*motion.kernel.own_rules}
    assert motion.host.interfaces[3].undecided == {*Family}
    # Mended, by facts that do not trigger it any more.
    monkeypatch.undo()
    motion.run(800.0)
    assert notes(motion) == []
    assert ip("10.0.2.11") not in {a.ip for a in motion.kernel.addresses_of(3)}
    assert (motion.state(), motion.reasons()) == (APPLIED, set())


@pytest.mark.parametrize("where", PLACES)
def test_what_others_remove_is_put_back_all_the_same(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    motion = lenient(two_enis())
    before = of_eth1(motion)
    plant(monkeypatch, where)
    motion.kernel.flush_rules()
    motion.run(510.0)
    assert of_eth1(motion) == before


@pytest.mark.parametrize("where", PLACES)
def test_a_bug_from_the_start_removes_nothing(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update brought it, say: nothing is known of what was planned before."""
    motion = two_enis(MORE)
    before = of_eth1(motion)
    plant(monkeypatch, where)
    again = lenient(FastMotion(CALM, motion.kernel, start=600.0))
    again._readings = motion._readings
    again.run(1000.0)
    assert of_eth1(again) == before
    assert again.written == []
    assert again.state(ETH2.index) is APPLIED
    assert again.turn.decision
    assert {*again.turn.decision.protected} >= before
    assert notes(again)


def test_what_was_done_is_said_in_words() -> None:
    assert (JUDGING, PLANNING, ASKING) == ("judging", "planning", "asking IMDS")


def raises() -> None:
    raise RuntimeError("planted")


def test_what_is_told_of_a_bug() -> None:
    host = Host(CALM, lambda: 0.0)
    assert not host.strict, "only tests are"
    host.update_links({3: ETH1, 4: ETH2}, 0.0)
    host.news()
    told = []
    for index, where in ((3, JUDGING), (3, JUDGING), (3, PLANNING), (4, JUDGING)):
        try:
            raises()
        except RuntimeError as error:
            host.caught(host.interfaces[index], where, error)
            trace = traceback.format_exc()
        told += [news for news in host.news() if isinstance(news, Surprised)]
    assert host.surprises == 4
    assert [(it.view and it.view.key, it.where, it.error) for it in told] == [
        ((3, MAC), JUDGING, ERROR),
        ((3, MAC), PLANNING, ERROR),
        ((4, MAC2), JUDGING, ERROR),
    ]
    assert told[-1].trace == trace
    view = host.interfaces[4].view()
    assert view.surprise
    assert view.surprise.text == f"internal error in {JUDGING}: {ERROR}; what is configured stays"


def test_no_bug_of_one_thing_fills_the_journal() -> None:
    host = Host(CALM, lambda: 0.0)
    host.update_links({3: ETH1, 4: ETH2}, 0.0)
    for number in range(SURPRISES_TOLD + 5):
        host.caught(host.interfaces[3], JUDGING, RuntimeError(f"planted, {number}"))
    host.caught(host.interfaces[4], JUDGING, RuntimeError("planted"))
    for _ in range(2):
        host.surprise(None, "deciding", ERROR, "its trace")
    told = [news for news in host.news() if isinstance(news, Surprised)]
    assert [it.view and it.view.link.index for it in told] == [3] * SURPRISES_TOLD + [4, None]
    assert (told[-1].where, told[-1].error, told[-1].trace) == ("deciding", ERROR, "its trace")
    assert SURPRISES_TOLD == 8


def test_what_was_told_is_forgotten_with_its_interface() -> None:
    host = Host(CALM, lambda: 0.0)

    def bug(index: int) -> list[Surprised]:
        host.caught(host.interfaces[index], JUDGING, RuntimeError("planted"))
        return [news for news in host.news() if isinstance(news, Surprised)]

    host.update_links({3: ETH1, 4: ETH2}, 0.0)
    assert (len(bug(3)), len(bug(4))) == (1, 1)
    host.update_links({4: ETH2}, 1.0)
    host.update_links({3: ETH1, 4: ETH2}, 2.0)
    assert (len(bug(3)), len(bug(4))) == (1, 0)


def test_a_reading_that_raises_makes_a_turn_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which tells it; and the next question is arranged."""
    host = Host(CALM, lambda: 0.0)
    host.update_links({3: ETH1}, 0.0)
    eth1 = host.interfaces[3]
    assert asking.questions(host, 0.0)
    monkeypatch.setattr(facts, "remember", lambda *_: raises())
    assert host.learn(eth1, FULL, 0.1) is True
    assert (host.surprises, eth1.polling.in_flight) == (1, False)
    host.strict = True
    with pytest.raises(RuntimeError, match="planted"):
        host.learn(eth1, FULL, 0.2)


@pytest.mark.parametrize("where", PLACES)
def test_a_bug_is_counted_each_time_and_told_once(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    motion = lenient(two_enis())
    plant(monkeypatch, where)
    for turns in (1, 2, 3):
        motion.happened()
        motion._take_turn()
        assert motion.host.surprises == turns
    (surprise,) = surprises(motion)
    assert surprise.view
    assert (surprise.view.link.index, surprise.where, surprise.error) == (3, where, ERROR)
    assert surprise.trace.startswith("Traceback")
    assert "in raises" in surprise.trace
    text = f"internal error in {where}: {ERROR}; what is configured stays"
    assert notes(motion) == [text]
    assert notes(motion, 4) == []
    assert motion.turn.decision
    view = motion.turn.decision.interfaces[3]
    assert view.surprise
    assert (view.surprise.code, view.surprise.text) == ("internal-error", text)
    assert motion.turn.broken == "", "the turn itself is not"
    monkeypatch.undo()
    motion.happened()
    motion._take_turn()
    assert (notes(motion), motion.host.surprises) == ([], 3)
    assert motion.turn.decision.interfaces[3].surprise is None
    assert not motion.host.interfaces[3].undecided


def test_a_bug_that_is_worded_anew_each_time_does_not_fill_the_journal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    motion = lenient(two_enis())
    plant(monkeypatch, PLANNING, text="planted, {}")
    for _ in range(SURPRISES_TOLD + 5):
        motion.happened()
        motion._take_turn()
    assert motion.host.surprises == SURPRISES_TOLD + 5
    assert len(surprises(motion)) == SURPRISES_TOLD
    monkeypatch.undo()
    plant(monkeypatch, PLANNING, index=4)
    motion.happened()
    motion._take_turn()
    assert surprises(motion)[SURPRISES_TOLD].view
    assert len(surprises(motion)) == SURPRISES_TOLD + 1, "another interface has its own"


def test_an_interface_that_comes_again_has_its_bug_told_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    motion = lenient(two_enis())
    plant(monkeypatch, PLANNING)
    motion.run(501.0)
    link = motion.kernel.links[3]
    motion.at(502.0, lambda: motion.kernel.unplug(3))
    motion.plug(503.0, link)
    motion.run(510.0)
    assert [each.error for each in surprises(motion)] == [ERROR, ERROR]


@pytest.mark.parametrize("where", PLACES)
def test_tests_are_strict(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    motion = two_enis()
    plant(monkeypatch, where)
    motion.happened()
    with pytest.raises(RuntimeError, match="planted"):
        motion._take_turn()


# --- of a question to IMDS -----------------------------------------------------------------------


def test_a_bug_in_asking() -> None:
    motion = lenient(two_enis())
    before = of_eth1(motion)
    turn, bad = motion.turn, Reading(3, MAC, UNREAD, error=ERROR, trace="Traceback: ...")
    for times in (1, 2):
        turn.take_reading(bad, motion.now)
        assert turn.is_due(motion.now)
        motion._take_turn()
        assert motion.host.surprises == times
    (surprise,) = surprises(motion)
    assert surprise.view
    assert surprise.view.link.index == 3
    assert (surprise.where, surprise.error, surprise.trace) == (ASKING, ERROR, bad.trace)
    assert notes(motion) == [f"internal error in {ASKING}: {ERROR}; what is configured stays"]
    assert of_eth1(motion) == before
    assert not motion.host.interfaces[3].undecided, "it is known what is there"
    turn.take_reading(Reading(3, MAC, FULL), motion.now)
    assert notes(motion) == []


def test_a_late_answer_is_about_the_link_that_was_asked_about() -> None:
    """Another one has its index by now."""
    motion = lenient(two_enis())
    turn, late = motion.turn, "02:00:00:00:00:33"
    turn.take_reading(Reading(3, late, UNREAD, error=ERROR, trace="..."), motion.now)
    motion._take_turn()
    assert notes(motion) == []
    assert [each.view for each in surprises(motion)] == [None]
    turn.take_reading(Reading(3, MAC, UNREAD, error="its own", trace="..."), motion.now)
    turn.take_reading(Reading(3, late, FULL), motion.now)
    assert len(notes(motion)) == 1


def test_a_bug_in_asking_for_the_primary() -> None:
    motion = lenient(two_enis())
    motion.turn.take_reading(PrimaryReading(NOT_ASKED, error=ERROR, trace="..."), motion.now)
    motion._take_turn()
    assert [(each.view, each.where) for each in surprises(motion)] == [(None, ASKING)]
    assert not any(notes(motion, index) for index in motion.host.interfaces)


# --- of the host ---------------------------------------------------------------------------------


def test_a_bug_in_what_is_for_all_breaks_the_turn_off(monkeypatch: pytest.MonkeyPatch) -> None:
    motion = lenient(two_enis())
    turn_, before = motion.turn, (motion.turn.completed, motion.turn.decision)
    rule = next(rule for rule in motion.kernel.own_rules if rule.table == TABLE)
    motion.kernel.drop(rule)
    plant_everywhere(monkeypatch, diff, "_elsewhere")
    written = len(motion.written)
    for times in (1, 2, 3):
        motion.happened()
        motion._take_turn()
        assert (turn_.phase, turn_.step) == (Phase.RESTING, None)
        assert turn_.broken == ERROR
        assert motion.host.surprises == times
        assert turn_._agenda.next == Appointment(motion.now + KERNEL_PAUSE, Why.KERNEL)
        assert turn_.picture.stale.everything
        motion.now += KERNEL_PAUSE
        assert turn_.is_due(motion.now)
    assert (turn_.completed, turn_.decision) == before
    assert len(motion.written) == written
    (surprise,) = surprises(motion)
    assert (surprise.view, surprise.where, surprise.error) == (None, "deciding", ERROR)
    first, *_, last = surprise.trace.splitlines()
    assert (first, last) == ("Traceback (most recent call last):", "RuntimeError: planted")
    assert 'in raises\n    raise RuntimeError("planted")\n' in surprise.trace
    monkeypatch.undo()
    motion._take_turn()
    assert turn_.broken == ""
    assert turn_.settled
    assert rule in motion.kernel.rules


def test_a_request_outlives_turns_that_are_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    motion = lenient(two_enis())
    plant_everywhere(monkeypatch, diff, "_elsewhere")
    request = motion.turn.release((3, MAC), motion.now)
    motion._take_turn()
    assert not motion.turn.is_reached(request)
    monkeypatch.undo()
    motion.run(motion.now + 2.0)
    assert motion.turn.is_reached(request)
    assert of_eth1(motion) == set()


def test_a_bug_in_words_for_a_failure_bars_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be explained is tried again, unexplained."""
    motion = lenient(two_enis())
    motion.turn.take_reading(Reading(3, MAC, MORE), motion.now)
    wanted = motion.decide()
    plant_everywhere(monkeypatch, turn, "explain")
    assert motion.apply({o: Outcome(o, Result.RETRY, message="busy") for o in wanted}) == ()
    assert motion.turn.broken == ERROR
    motion.run(motion.now + 2.0)
    assert motion.turn.broken == ""
    assert ip("10.0.2.11") in {a.ip for a in motion.kernel.addresses_of(3)}
    assert motion.state() is APPLIED


@pytest.mark.parametrize("name", ["links_wanted", "take_links", "objects_wanted", "take_objects"])
def test_what_is_read_and_raises_ends_the_turn_only(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    motion = lenient(two_enis())

    def raises(*_: Any) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(type(motion.turn.picture), name, raises)
    motion.run(motion.now + KERNEL_PAUSE / 2)
    assert motion.turn.broken == ERROR
    assert motion.turn.next_at().why is Why.KERNEL
    monkeypatch.undo()
    motion.run(motion.now + 2 * KERNEL_PAUSE)
    assert motion.turn.broken == ""
    assert [news.view for news in surprises(motion)] == [None]


def test_a_reading_that_raises_is_that_interfaces_and_it_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    motion = lenient(two_enis())
    motion.imds(MAC, motion.now, MORE)
    real = memory.remember

    def raises(known: Any, heard: Any, mac: str, *rest: Any) -> Any:
        if mac == MAC:
            raise RuntimeError("planted")
        return real(known, heard, mac, *rest)

    monkeypatch.setattr(facts, "remember", raises)
    motion.run(motion.now + 200.0)
    (told,) = surprises(motion)
    assert told.view
    assert (told.view.link.mac, told.where, told.error) == (MAC, ASKING, ERROR)
    assert motion.state(4) is APPLIED
    before = motion.host.surprises
    motion.run(motion.now + 200.0)
    assert motion.host.surprises > before, "it is asked again all the same"
    monkeypatch.undo()
    motion.run(motion.now + 200.0)
    assert ip("10.0.2.11") in {a.ip for a in motion.kernel.addresses_of(3)}
    assert motion.host.interfaces[3].view().surprise is None


# --- of what must not be held back ---------------------------------------------------------------


def test_a_release_needs_no_facts_that_might_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    motion = lenient(two_enis())
    motion.turn.set_policy(replace(CALM, exclude_subnets=(net("192.0.2.0/24"),)), motion.now)
    motion.run(motion.now + 1.0)

    def raises(*_args: Any) -> Any:
        raise RuntimeError("planted")

    monkeypatch.setattr(decide, "places_of", raises)
    assert of_eth1(motion)
    motion.turn.release((3, MAC), motion.now)
    motion.run(motion.now + 1.0)
    assert of_eth1(motion) == set()
    assert (motion.state(), motion.reasons()) == (IGNORED, {"released"})


def test_a_bug_in_confirming_one_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    motion = lenient(two_enis())
    real = interface.Interface.confirm

    def raises(self: interface.Interface, *args: Any, **more: Any) -> None:
        if self.link.index == 3:
            raise RuntimeError("planted")
        real(self, *args, **more)

    monkeypatch.setattr(interface.Interface, "confirm", raises)
    rules = [rule for rule in motion.kernel.own_rules if rule.table == TABLE + 1]
    motion.kernel.drop(*rules)
    motion.run(motion.now + 1.0)
    assert set(rules) <= set(motion.kernel.own_rules)
    assert motion.state(ETH2.index) is APPLIED
    assert motion.turn.broken == ""
    assert notes(motion)


def test_a_notification_that_cannot_be_read_is_counted_told_once_and_made_up_for() -> None:
    motion = lenient(two_enis())
    for seconds in range(3):
        motion.turn.take_event(Overrun("ValueError('cut short')"), motion.now)
        assert motion.turn.picture.stale.everything
        motion.run(501.0 + seconds)
    (told,) = surprises(motion)
    assert (told.view, told.where) == (None, "reading a notification")
    assert motion.host.surprises == 3
