"""The marks of connections that come in by an ENI: whose they are, the table, the rules."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nicwatchd.core.forwarder import REFUSED_FOR
from nicwatchd.core.forwarding import Forwarding, assign, marks_in, reserved, standing, taken
from nicwatchd.core.metadata import ABSENT, EniMetadata, Value
from nicwatchd.core.model import (
    MAIN_TABLE,
    AddRule,
    Family,
    Link,
    Numbers,
    Operation,
    Reason,
    RemoveRule,
    RemoveRuleset,
    Route,
    Rule,
    Ruleset,
    SetRuleset,
)
from nicwatchd.core.policy import DEFAULT_MASK, Forwarded, Policy, PrimaryMode
from nicwatchd.core.port import FilterEvent, Outcome, Result
from nicwatchd.core.releases import Releases
from nicwatchd.core.steps import ObjectsRead, ReadObjects, Step, StepAnswer
from tests.core.build import ETH0, ETH1, FULL6, IPV4, MAC, NET4, PRIMARY, V4, V6, eni, family, net
from tests.core.fast_motion import FastMotion
from tests.core.rough_motion import Died
from tests.core.scenes import CALM, ETH2, MAC2, OF_PRIMARY
from tests.core.strict_kernel import StrictKernel

MASK = DEFAULT_MASK
ON = replace(CALM, forwarded=Forwarded.CONNMARK)
LEFT = replace(ON, primary=PrimaryMode.LEAVE)
THEIRS = Rule(V4, 5210, MAIN_TABLE, protocol=0)
PREFIX = "10.0.2.64/28"
BOTH = eni(
    family("10.0.1.10", cidrs="10.0.1.0/24"),
    family("2001:db8:0:1::10", cidrs="2001:db8:0:1::/64"),
    mac=Value(PRIMARY),
)
TUNNEL = Link(9, "", "wg0", up=True, kind="wireguard", driver="wireguard")

# --- marks -------------------------------------------------------------------------------------

masks = st.tuples(st.integers(2, 10), st.integers(0, 22)).map(lambda m: ((1 << m[0]) - 1) << m[1])
links = st.sets(st.integers(1, 5000), max_size=80)


@given(masks, links, st.dictionaries(st.integers(1, 5000), st.integers(0, 0xFFFFFFFF)), st.data())
def test_each_link_has_a_mark_of_its_own(
    mask: int, indices: set[int], before: dict[int, int], data: st.DataObject
) -> None:
    others = data.draw(st.frozensets(st.sampled_from(marks_in(mask)), max_size=3))
    given_ = assign(indices, before, mask, others)
    marks = list(given_.values())
    assert len(set(marks)) == len(marks)
    assert all(0 < mark < mask and mark & ~mask == 0 and mark not in others for mark in marks)
    free = len(marks_in(mask)) - len(others)
    assert len(marks) == min(len(indices), free), "no mark is left unused while a link has none"
    # Whoever starts again, with the rules that stand, gives the same.
    assert assign(indices, given_, mask, others) == given_
    # And a link that goes or comes changes no other's.
    assert given_.items() >= assign(set(list(given_)[1:]), given_, mask, others).items()


def test_the_default_leaves_the_marks_of_others() -> None:
    """Of what has its own bits, or tests for a whole number."""
    bits = (0x4000, 0x8000, 0x80, 0x0F00, 0xFF0000, 0x2000, 51820)
    assert all(not MASK & each for each in bits)
    assert 0x7FFF0815 & MASK not in marks_in(MASK), "systemd's sockets for IMDS"
    assert len(marks_in(MASK)) == 126


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        (replace(THEIRS, fwmark=0x80000, fwmask=0xFF0000), False),
        (replace(THEIRS, fwmark=0x1000000, fwmask=0x1000000), True),
        (replace(THEIRS, fwmark=0x10000, fwmask=0xFFFF0000), True),
        (replace(THEIRS, fwmark=0, fwmask=0x40000000), True),
        (replace(THEIRS, fwmark=0xCA6C, fwmask=0xFFFFFFFF, inverted=True), False),
        (replace(THEIRS, fwmark=0x5000001, fwmask=0xFFFFFFFF), False),
        (replace(THEIRS, fwmark=0x5000001), False),
        (replace(THEIRS, fwmark=0x1000000, fwmask=0x1000000, protocol=236), False),
        (THEIRS, False),
    ],
)
def test_bits_are_taken_by_a_rule_that_has_them_in_its_mask(rule: Rule, *, wanted: bool) -> None:
    reason = taken([THEIRS, rule], MASK)
    assert bool(reason) is wanted
    assert reason is None or (reason.code == "mark-taken" and "5210" in reason.text)


def test_a_whole_number_takes_one_mark() -> None:
    rule = replace(THEIRS, fwmark=0x5000001, fwmask=0xFFFFFFFF)
    assert reserved([rule], MASK) == {0x5000000}
    assert assign({5}, {5: 0x5000000}, MASK, reserved([rule], MASK))[5] != 0x5000000


def test_the_table_is_the_same_in_any_order() -> None:
    one = Forwarding(MASK, {3: 0x3000000, 4: 0x4000000}, enis=frozenset({2, 3, 4}))
    two = replace(one, marks={4: 0x4000000, 3: 0x3000000})
    assert one.text() == two.text()
    assert Forwarding(MASK).text() == ""
    lines = one.text().splitlines()
    assert lines[:2] == ["table inet nicwatchd;", "delete table inet nicwatchd;"]
    assert all(line[-1] in ";{" for line in lines), "so that it is one line for a shell, too"
    assert "meta iif { 2, 3, 4 } ct direction original return;" in lines


# --- on a host -----------------------------------------------------------------------------------


class Motion(FastMotion):
    """`problem`: why nft cannot be used; `refuses`: what it says to our table."""

    problem: Reason | None = None
    refuses: str = ""
    dies_after: int | None = None  # so many operations of the batch with our table
    reads = 0

    def _carry_out(self, step: Step) -> StepAnswer:
        answer = super()._carry_out(step)
        if isinstance(step, ReadObjects) and isinstance(answer, ObjectsRead) and step.ruleset:
            self.reads += 1
            return replace(answer, ruleset=Ruleset(self.kernel.state.ruleset, self.problem))
        return answer

    def _apply(self, operations: tuple[Operation, ...]) -> list[Outcome]:
        if self.dies_after is not None and any(isinstance(o, SetRuleset) for o in operations):
            self.kernel.run(operations[: self.dies_after])
            raise Died
        refused = [o for o in operations if self.refuses and isinstance(o, SetRuleset)]
        done = super()._apply(tuple(o for o in operations if o not in refused))
        return [Outcome(o, Result.REFUSED, 0, self.refuses) for o in refused] + done

    def rules(self, mark_of: Link | None = None) -> list[Rule]:
        """Our rules for marks, in their order; of one ENI those that lead to its table."""
        table = Numbers().table_of(mark_of.index) if mark_of else None
        own = [rule for rule in self.kernel.own_rules if rule.fwmark is not None]
        return [rule for rule in own if table in (None, rule.table)]

    def notes(self, index: int = 3) -> set[str]:
        return {note.code for note in self.host.interfaces[index].view().notes}

    @property
    def text(self) -> str:
        return self.kernel.state.ruleset or ""


def host(
    policy: Policy = ON, prefix: str = "", *more: Link, primary: EniMetadata = OF_PRIMARY
) -> Motion:
    """Two ENIs that are applied; the first has the prefix. The tunnel has main's IPv6 default."""
    motion = Motion(policy, StrictKernel(ETH0, *more))
    if TUNNEL in more:
        motion.kernel.put(Route(net("::/0"), MAIN_TABLE, TUNNEL.index, protocol=3, metric=50))
    motion.imds(PRIMARY, 0.0, primary)
    motion.imds(MAC, 10.0, eni(family(IPV4, prefix or ABSENT, cidrs=NET4), FULL6))
    motion.imds(MAC2, 10.0, eni(family("10.0.3.10", cidrs="10.0.3.0/24"), mac=Value(MAC2)))
    motion.plug(10.0, ETH1)
    motion.run(100.0)
    motion.plug(100.0, ETH2)
    motion.run(200.0)
    return motion


def before_sources(motion: Motion) -> bool:
    """Whether each rule for a mark stands before each for a source that forwarding may meet."""
    assert motion.rules()
    for which in Family:
        own = [rule for rule in motion.kernel.own_rules if rule.family is which]
        marked = [place for place, rule in enumerate(own) if rule.fwmark is not None]
        sources = [place for place, rule in enumerate(own) if rule.src and rule.iif is None]
        if max(marked, default=-1) > min(sources, default=len(own)):
            return False
    return True


def test_each_eni_has_its_mark_and_its_rules() -> None:
    motion = host()
    for link, families in ((ETH0, [V4]), (ETH1, [V4, V6]), (ETH2, [V4])):
        rules = motion.rules(link)
        assert [rule.family for rule in rules] == families
        assert len({rule.fwmark for rule in rules}) == 1
        assert f"goto to_{link.index}" in motion.text
    guards = [rule for rule in motion.rules() if rule.table == MAIN_TABLE]
    assert all(g.suppress_prefixlength == 0 and g.suppress_ifgroup == 3778 for g in guards)
    assert before_sources(motion), "also those of an ENI that came later"
    assert len(motion.rules()) == len(guards) + 4, "and no others"
    written = len(motion.written)
    motion.run(400.0)
    assert len(motion.written) == written


def to_main(motion: Motion) -> list[Family]:
    """The families of the rules for marks by which main decides."""
    rules = [r for r in motion.rules() if r.table == MAIN_TABLE]
    return [rule.family for rule in rules if rule.suppress_prefixlength is None]


def test_a_primary_that_is_left_alone_has_no_mark() -> None:
    motion = host(LEFT)
    assert "from_2 " not in motion.text
    assert "to_2 " not in motion.text
    assert to_main(motion) == []
    assert motion.rules(ETH0) == []
    assert motion.rules(ETH1)


@pytest.mark.parametrize("policy", [ON, LEFT], ids=["protected", "left"])
def test_the_primary_is_marked_where_a_container_has_an_eni_s_prefix(policy: Policy) -> None:
    """Its own table decides in the family that it has, IPv4; else main does."""
    motion = host(policy, PREFIX)
    families = [rule.family for rule in motion.rules(ETH0)], to_main(motion)
    assert families == (([V4], [V6]) if policy is ON else ([], [V4, V6]))
    assert "jump from_2" in motion.text
    assert before_sources(motion)


@pytest.mark.parametrize("led", [True, False], ids=["by it", "by a tunnel"])
def test_main_decides_in_a_family_in_which_the_primary_has_no_table(*, led: bool) -> None:
    """Where main's IPv6 default led elsewhere before, somebody wants that."""
    motion = host(ON, PREFIX, *(() if led else (TUNNEL,)), primary=BOTH)
    assert [rule.family for rule in motion.rules(ETH0)] == ([V4, V6] if led else [V4])
    assert to_main(motion) == ([] if led else [V6])
    assert before_sources(motion)


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_a_restart_adopts_it(prefix: str) -> None:
    motion = host(ON, prefix)
    written = len(motion.written)
    motion.now += 1.0
    motion.turn = motion.begin(ON)
    motion.run(motion.now + 300.0)
    assert motion.written[written:] == []


def test_what_others_remove_comes_back_with_the_next_heartbeat() -> None:
    motion = host()
    text = motion.text
    for left in (None, ""):
        motion.at(motion.now + 1.0, partial(setattr, motion.kernel.state, "ruleset", left))
        motion.run(motion.now + 10.0)
        assert motion.text == text


def test_a_rule_that_others_put_behind_moves_all_in_order() -> None:
    motion = host(ON, PREFIX)
    late = Rule(V4, 32765, 77, protocol=4, src=net("192.0.2.0/24"))
    motion.at(motion.now + 1.0, lambda: motion.kernel.put(late))
    motion.run(motion.now + 10.0)
    assert before_sources(motion)
    assert motion.kernel.rules.index(late) < motion.kernel.rules.index(motion.rules()[0])


def test_it_goes_with_the_setting_and_with_a_release() -> None:
    for act in (
        lambda m: m.turn.set_policy(CALM, m.now),
        lambda m: setattr(m.host, "releases", Releases().plus(None)),
        lambda m: (m.kernel.unplug(3), m.kernel.unplug(4)),
    ):
        motion = host(ON, PREFIX)
        act(motion)
        motion.run(motion.now + 10.0)
        assert motion.kernel.state.ruleset is None
        assert motion.rules() == []
        # Where there is nothing, nothing is asked.
        motion.turn.set_policy(CALM, motion.now)
        motion.run(motion.now + 10.0)
        reads = motion.reads
        motion.run(motion.now + 100.0)
        assert motion.reads == reads


def test_off_asks_nothing() -> None:
    assert host(CALM).reads == 0


def test_it_is_read_no_faster_than_the_heartbeat() -> None:
    picture = host().turn.picture
    reads = 0
    for tenth in range(100):
        picture.stale.rules()
        picture.links_wanted(300.0 + tenth / 10.0)
        reads += picture.objects_wanted(0.0).ruleset
    assert reads == 3


def test_without_nft_all_else_is_served() -> None:
    motion = Motion(ON)
    motion.problem = Reason("nft-missing", "")
    motion.imds(PRIMARY, 0.0, OF_PRIMARY)
    motion.plug(10.0, ETH1)
    motion.imds(MAC, 10.0, eni(family(IPV4, cidrs=NET4), FULL6))
    motion.run(100.0)
    assert (motion.text, motion.rules(), motion.notes()) == ("", [], {"nft-missing"})
    motion.problem = None
    motion.run(110.0)
    assert motion.text
    assert motion.rules(ETH1)
    assert motion.notes() == set()
    # What stands goes on, where nft went.
    motion.problem = Reason("nft-missing", "")
    motion.run(120.0)
    assert motion.rules(ETH1)
    assert motion.notes() == set()
    motion.plug(120.0, ETH2)
    motion.imds(MAC2, 120.0, eni(family("10.0.3.10", cidrs="10.0.3.0/24"), mac=Value(MAC2)))
    motion.run(220.0)
    assert (bool(motion.rules(ETH1)), motion.rules(ETH2)) == (True, [])
    assert "nft-missing" in motion.notes(4)


def test_a_table_that_nft_refuses_is_tried_again_once_in_a_while() -> None:
    motion = Motion(ON)
    motion.refuses = "Error: no such thing"
    motion.imds(PRIMARY, 0.0, OF_PRIMARY)
    motion.plug(10.0, ETH1)
    motion.imds(MAC, 10.0, eni(family(IPV4, cidrs=NET4), FULL6))
    motion.run(100.0)
    assert (motion.text, motion.rules(), motion.notes()) == ("", [], {"nft-refused"})
    texts = [o for _, o in motion.written if isinstance(o, AddRule | RemoveRule) and o.rule.fwmark]
    motion.run(100.0 + 3 * REFUSED_FOR)
    again = [o for _, o in motion.written if isinstance(o, AddRule | RemoveRule) and o.rule.fwmark]
    assert again == texts, "no rule comes and goes with each try"
    motion.refuses = ""
    motion.run(motion.now + REFUSED_FOR + 10.0)
    assert motion.text
    assert motion.rules(ETH1)
    assert motion.notes() == set()


def test_bits_that_others_take_end_it_and_come_back() -> None:
    motion = host()
    rule = replace(THEIRS, fwmark=0x1000000, fwmask=0x3000000)
    motion.kernel.put(rule)
    motion.run(motion.now + 10.0)
    assert (motion.text, motion.rules(), motion.notes()) == ("", [], {"mark-taken"})
    motion.kernel.drop(rule)
    motion.run(motion.now + 10.0)
    assert motion.rules(ETH1)
    assert motion.notes() == set()


def test_other_bits_replace_the_old_ones() -> None:
    motion = host()
    motion.turn.set_policy(replace(ON, forwarded_mask=0xFE), motion.now)
    motion.run(motion.now + 10.0)
    assert {rule.fwmask for rule in motion.rules()} == {0xFE}
    assert "& 0x000000fe" in motion.text
    assert before_sources(motion)


def test_a_strict_reverse_path_filter_is_told_while_it_is_strict() -> None:
    motion = host()
    motion.strict.add(3)
    motion.run(motion.now + 10.0)
    assert "strict-filter" in motion.notes(3)
    assert mark_of(motion, ETH1), "calls by IPv6 are not filtered"
    motion.strict.clear()
    motion.run(motion.now + 10.0)
    assert "strict-filter" not in motion.notes(3)


@pytest.mark.parametrize("index", [0, 3], ids=["of all links", "of the link"])
def test_that_a_filter_was_set_is_seen_at_once(index: int) -> None:
    motion = host()
    motion.run(motion.now + 10.0)
    for strict in (True, False):
        motion.strict = {3} if strict else set()
        motion.turn.take_event(FilterEvent(index), motion.now)
        motion.run(motion.now + 0.2)
        assert ("strict-filter" in motion.notes(3)) is strict


def test_other_links_filters_are_no_news_nor_any_where_nothing_is_marked() -> None:
    motion = host()
    assert motion.turn.picture.take_event(FilterEvent(99), motion.now, by_us=False) is None
    motion = host(CALM)
    for index in (0, 3):
        assert motion.turn.picture.take_event(FilterEvent(index), motion.now, by_us=False) is None


def test_a_strict_filter_is_nothing_to_a_host_that_marks_nothing() -> None:
    motion = host(CALM)
    motion.strict.add(3)
    motion.run(motion.now + 10.0)
    assert "strict-filter" not in motion.notes(3)


def test_those_without_a_mark_are_told() -> None:
    motion = host(
        replace(ON, forwarded_mask=0x3), PREFIX
    )  # two marks, of which the primary has one
    told = [index for index in (3, 4) if "marks-used-up" in motion.notes(index)]
    assert len(told) == 1
    assert len(list(standing(motion.kernel.rules, 0x3))) >= 2


@pytest.mark.parametrize("restarts", [False, True])
def test_a_primary_that_can_do_without_gives_its_mark_up(*, restarts: bool) -> None:
    """It has one of two marks while there is one ENI beside it; the second ENI gets that."""
    policy = replace(ON, forwarded_mask=0x3)
    motion = host(policy)
    motion.kernel.unplug(ETH2.index)
    motion.run(motion.now + 100.0)
    before = {link.index: mark_of(motion, link) for link in (ETH0, ETH1)}
    assert set(before.values()) == {1, 2}
    motion.kernel.set_link(ETH2)
    motion.now += 1.0
    if restarts:
        motion.turn = motion.begin(policy)
    motion.run(motion.now + 100.0)
    assert motion.rules(ETH0) == []
    assert mark_of(motion, ETH1) == before[ETH1.index]
    assert mark_of(motion, ETH2) == before[ETH0.index]
    assert "marks-used-up" not in motion.notes(3) | motion.notes(4)
    assert before_sources(motion)
    motion.kernel.unplug(ETH2.index)
    motion.run(motion.now + 100.0)
    assert mark_of(motion, ETH0) == before[ETH0.index]


def mark_of(motion: Motion, link: Link) -> int | None:
    [mark] = {rule.fwmark for rule in motion.rules(link)}
    return mark


def test_the_table_is_made_before_the_rules_and_removed_after_them() -> None:
    motion = host()
    kinds = [type(o) for _, o in motion.written if not isinstance(o, AddRule) or o.rule.fwmark]
    assert kinds.index(SetRuleset) < kinds.index(AddRule)
    motion.turn.set_policy(CALM, motion.now)
    since = len(motion.written)
    motion.run(motion.now + 10.0)
    last = [o for _, o in motion.written[since:]]
    assert isinstance(last[-1], RemoveRuleset)


def test_a_reading_that_fails_changes_nothing() -> None:
    """The kernel did not answer about nftables, as on a host where others write it all the time."""
    motion = host()
    motion.turn = motion.begin(ON)
    answers = motion._carry_out

    def busy(step: Step) -> StepAnswer:
        answer = answers(step)
        return replace(answer, ruleset=None) if isinstance(answer, ObjectsRead) else answer

    motion._carry_out = busy  # type: ignore[method-assign]
    written = len(motion.written)
    motion.run(motion.now + 100.0)
    assert motion.written[written:] == []
    assert motion.rules(ETH1)


@pytest.mark.parametrize("done", range(0, 40, 3))
def test_a_kill_between_table_and_rules(done: int) -> None:
    """Each moment at which the daemon may die leaves what the next one completes."""
    motion = Motion(ON)
    motion.imds(PRIMARY, 0.0, OF_PRIMARY)
    motion.imds(MAC, 10.0, eni(family(IPV4, PREFIX, cidrs=NET4), FULL6))
    motion.plug(10.0, ETH1)
    motion.dies_after = done
    with pytest.raises(Died):
        motion.run(100.0)
    motion.dies_after = None
    motion.turn = motion.begin(ON)
    motion.run(motion.now + 100.0)
    assert motion.text
    assert motion.rules(ETH1)
    assert before_sources(motion)
