"""The host as a whole: restart, reload, other owners, faults, and any order of events."""

from collections.abc import Callable
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nicwatchd.core import asking
from nicwatchd.core.backoff import Schedule
from nicwatchd.core.basis import Basis
from nicwatchd.core.decide import Decider
from nicwatchd.core.failures import Failure
from nicwatchd.core.forwarder import Forwarder
from nicwatchd.core.host import Host
from nicwatchd.core.lifecycle import OffTheTableError, State
from nicwatchd.core.metadata import EniMetadata, Value
from nicwatchd.core.model import (
    MAIN_TABLE,
    Address,
    AddRoute,
    AddRule,
    Family,
    Link,
    Operation,
    Plan,
    Reason,
    RemoveRoute,
    RemoveRule,
    Rule,
    SetGroup,
    ours,
)
from nicwatchd.core.news import StateChanged
from nicwatchd.core.policy import AddressMode, Coexist, Forwarded, Policy, RuleMode
from nicwatchd.core.polling import Depth
from nicwatchd.core.port import Outcome, Result
from nicwatchd.core.releases import Releases
from nicwatchd.core.steps import LinksRead, ObjectsRead, Question, Reading
from nicwatchd.core.turn import Turn
from tests.core.build import (
    ERROR,
    ETH0,
    ETH1,
    FULL4,
    FULL6,
    IPV4,
    IPV6,
    MAC,
    NET4,
    NET6,
    PRIMARY,
    TABLE,
    UNREAD,
    V4,
    added,
    eni,
    family,
    ip,
    lease,
    net,
    permanent,
    static,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import (
    APPLIED,
    AWAITING,
    CALM,
    ETH2,
    FULL,
    IGNORED,
    LEASE4,
    LEASE6,
    MAC2,
    OF_PRIMARY,
    applied,
    hot_plugged,
    quiet,
    selectors,
)
from tests.core.strict_kernel import StrictKernel

# --- restart, reload, owners ---------------------------------------------------------


def restarted(motion: FastMotion, policy: Policy | None = None) -> FastMotion:
    """A new daemon on the same host, a minute later."""
    again = FastMotion(policy or CALM, motion.kernel, start=motion.now + 60.0)
    again._readings = motion._readings
    return again


def test_a_restart_adopts_everything() -> None:
    motion = applied(eni(family(f"{IPV4} 10.0.2.11", "10.0.2.32/28", NET4), FULL6))
    again = restarted(motion)
    again.run(again.now + 600.0)
    assert again.written == []
    assert again.state() is APPLIED


def test_a_restart_without_imds_removes_nothing() -> None:
    motion = applied()
    again = restarted(motion)
    again._readings = {MAC: [(0.0, UNREAD)], PRIMARY: [(0.0, UNREAD)]}
    again.run(again.now + 3600.0)
    assert again.written == []
    assert (again.state(), again.reasons()) == (AWAITING, {"imds-unread"})


RICH = eni(
    family(f"{IPV4} 10.0.2.11", "10.0.2.32/28", NET4),
    family(f"{IPV6} 2001:db8:0:2::11", "2001:db8:0:2:1::/80", NET6),
)


def test_a_restart_believes_no_single_word_either() -> None:
    """The first reading after it lacks what was there, and the second has it again."""
    again = restarted(applied(RICH))
    again.imds(MAC, 0.0, FULL)
    again.imds(MAC, again.now + 20.0, RICH)
    again.run(again.now + 600.0)
    assert again.written == []
    assert (again.state(), again.reasons()) == (APPLIED, set())


def test_what_was_unassigned_during_a_restart_goes_after_the_doubts() -> None:
    again = restarted(applied(RICH))
    again.imds(MAC, 0.0, FULL)
    start = again.now
    again.run(start + 29.0)
    assert again.written == []
    again.run(start + 61.0)
    # Two addresses, and their rules and those of two prefixes with their guards. And the first
    # address: the lease, which came behind the two, is first without ours now.
    kinds = [type(operation) for _, operation in again.written]
    assert sorted(kind.__name__ for kind in kinds) == ["RemoveAddress"] * 3 + ["RemoveRule"] * 8
    assert not [address for address in again.kernel.addresses_of(3) if ours(address)]
    assert again.state() is APPLIED


def test_a_restart_without_the_primary_removes_nothing() -> None:
    again = restarted(applied())
    again.primary = ERROR
    again.run(again.now + 3600.0)
    assert again.written == []


def test_a_restart_removes_what_a_link_that_went_has_left() -> None:
    motion = applied()
    motion.kernel.unplug(3)
    assert motion.kernel.own_rules
    again = restarted(motion)
    again.run(again.now + 1.0)
    assert again.kernel.own_rules == ()
    assert {type(operation) for _, operation in again.written} == {RemoveRule, RemoveRoute}
    removed = {o.route.oif for _, o in again.written if isinstance(o, RemoveRoute)}
    assert removed == {ETH0.index}, "the primary is alone again"


ADDRESS = f"{IPV4}/32"
POLICIES = {
    "by subnet": (Policy(rules=RuleMode.SUBNET), APPLIED, {"eth1", NET4}),
    "by address": (Policy(rules=RuleMode.ADDRESS), APPLIED, {"eth1", ADDRESS}),
    "excluded by name": (Policy(exclude=("eth1",)), IGNORED, set[str]()),
    "excluded by subnet": (Policy(exclude_subnets=(net("10.0.0.0/8"),)), IGNORED, set[str]()),
    "another subnet": (
        Policy(exclude_subnets=(net("10.0.3.0/24"),)),
        APPLIED,
        {"eth1", f"{IPV4}/32"},
    ),
    "another driver": (Policy(drivers=frozenset({"vif"})), IGNORED, set[str]()),
}


@pytest.mark.parametrize(("policy", "state", "expected"), POLICIES.values(), ids=POLICIES.keys())
def test_reload(policy: Policy, state: State, expected: set[str]) -> None:
    motion = applied()
    motion.turn.set_policy(policy, motion.now)
    motion.run(140.0)
    assert motion.state() is state
    assert selectors(motion, 3) == expected
    assert {a.ip for a in motion.kernel.addresses} == {ip(IPV4), ip(IPV6)}
    motion.turn.set_policy(CALM, motion.now)
    motion.run(150.0)
    assert motion.state() is APPLIED
    assert selectors(motion, 3) == {"eth1", f"{IPV4}/32"}


def test_ipv4_routes_come_back_after_the_last_ipv4_address_of_ours_went() -> None:
    """The kernel takes them along; IPv6 routes it leaves, but without their source."""
    motion = hot_plugged()
    motion.run(130.0)
    before = motion.kernel.own_routes
    assert {route.prefsrc for route in before} == {ip(IPV4), ip(IPV6), None}
    motion.turn.set_policy(replace(CALM, addresses=AddressMode.NONE), motion.now)
    motion.run(motion.now)
    assert not motion.kernel.addresses
    after = set(motion.kernel.own_routes)
    assert after == {replace(route, prefsrc=None) for route in before}
    assert motion.state() is APPLIED
    assert quiet(motion)


def test_a_lease_that_expires_takes_nothing_for_good() -> None:
    """As long as IMDS lists the address, which is added then."""
    motion = applied()
    routes = set(motion.kernel.own_routes)
    motion.at(200.0, lambda: motion.kernel.drop(LEASE4))
    motion.run(200.0)
    assert added(f"{IPV4}/32") in motion.kernel.addresses
    assert set(motion.kernel.own_routes) == routes
    assert quiet(motion)


def test_an_operators_route_goes_with_the_last_ipv4_address_and_its_copy_too() -> None:
    """That is the kernel's doing, and nothing is done about it."""
    motion = hot_plugged()
    motion.run(60.0)
    theirs = static("172.16.0.0/12", "10.0.2.7", onlink=True)
    motion.kernel.put(theirs)
    motion.run(70.0)
    assert theirs.dst in {route.dst for route in motion.kernel.own_routes}
    motion.turn.set_policy(replace(CALM, addresses=AddressMode.NONE), motion.now)
    motion.run(80.0)
    assert theirs not in motion.kernel.routes
    assert theirs.dst not in {route.dst for route in motion.kernel.own_routes}
    assert quiet(motion)


def test_reload_changes_the_patience_of_those_who_wait() -> None:
    motion = hot_plugged(eni(FULL4, family(ERROR)))
    motion.run(20.0)
    policy = Policy()
    schedule = replace(policy.schedule, patience=15.0)
    motion.turn.set_policy(replace(policy, schedule=schedule), motion.now)
    motion.run(26.0)
    assert motion.host.interfaces[3].lifecycle.overdue


def test_an_excluded_subnet_counts_before_imds_tells_it() -> None:
    motion = FastMotion(Policy(exclude_subnets=(net("2001:db8::/32"),)))
    motion.plug(10.0, replace(ETH1, ra_received=True))
    motion.at(10.5, lambda: motion.kernel.put(LEASE6))
    motion.run(30.0)
    assert (motion.state(), motion.reasons()) == (IGNORED, {"excluded"})
    assert motion.kernel.own_rules == ()


def test_a_container_network_owns_the_secondary_enis() -> None:
    motion = applied()
    aws_node = Rule(V4, 1024, MAIN_TABLE, protocol=3, fwmark=0x80, fwmask=0x80)
    motion.at(140.0, lambda: motion.kernel.put(aws_node))
    motion.run(150.0)
    assert motion.turn.decision
    assert motion.turn.decision.container_network == "Amazon VPC CNI"
    assert (motion.state(), motion.reasons()) == (IGNORED, {"cni"})
    assert aws_node in motion.kernel.rules
    assert motion.kernel.own_rules == ()
    assert motion.kernel.own_routes == ()
    motion.turn.set_policy(Policy(coexist=Coexist.FORCE), motion.now)
    motion.run(160.0)
    assert motion.state() is APPLIED


def test_cilium_is_known_by_its_rules_and_not_by_its_link_alone() -> None:
    """It has the link in every mode, and owns the ENIs only in one."""
    motion = applied()
    motion.plug(140.0, Link(9, "02:00:00:00:00:09", "cilium_host", up=True, kind="veth"))
    motion.run(145.0)
    assert motion.state() is APPLIED
    to_pod = Rule(V4, 20, MAIN_TABLE, protocol=2, dst=net("10.0.2.77/32"))
    motion.at(146.0, lambda: motion.kernel.put(to_pod))
    motion.run(150.0)
    assert motion.turn.decision
    assert motion.turn.decision.container_network == "Cilium"
    assert (motion.state(), motion.reasons()) == (IGNORED, {"cni"})
    assert 9 not in motion.host.interfaces


def test_an_enslaved_eni_is_left() -> None:
    motion = applied()
    motion.at(140.0, lambda: motion.kernel.set_link(replace(motion.kernel.links[3], master=9)))
    motion.run(150.0)
    assert (motion.state(), motion.reasons()) == (IGNORED, {"enslaved"})
    assert motion.kernel.own_rules == ()


def test_the_primary_is_left_but_for_its_group() -> None:
    motion = FastMotion()
    motion.kernel.put(lease("10.0.1.10/24", 2), static("0.0.0.0/0", "10.0.1.1", 2))
    motion.imds(PRIMARY, 0.0, eni(family("10.0.1.10 10.0.1.11", cidrs="10.0.1.0/24"),
                                  mac=Value(PRIMARY)))  # fmt: skip
    motion.run(300.0)
    assert [operation for _, operation in motion.written] == [SetGroup(2, 3778)]
    assert motion.state(2) is IGNORED
    assert motion.host.interfaces[2].plan == Plan(2, group=3778)
    notes = motion.host.interfaces[2].view().notes
    assert [note.code for note in notes] == ["address-unconfigured"], "its manager left one out"


def test_the_primary_is_asked_about_seldom_and_if_released_as_seldom() -> None:
    """As all that rests: a poll of its IPv4 addresses, and now and then more, every 6 s."""
    polls = []
    for releases in (Releases(), Releases(everything=True)):
        motion = FastMotion()
        motion.host.releases = releases
        motion.imds(PRIMARY, 0.0, eni(family("10.0.1.10", cidrs="10.0.1.0/24"), mac=Value(PRIMARY)))
        motion.run(600.0)
        polls.append(motion.polls(2, 1.0, 600.0))
    assert polls[0] == polls[1] <= 600 / 6 + 1


def test_a_virtual_link_is_nobodys_business() -> None:
    motion = FastMotion()
    motion.plug(1.0, Link(5, "02:42:00:00:00:01", "docker0", up=True, kind="bridge"))
    motion.run(10.0)
    assert set(motion.host.interfaces) == {2}


def test_an_operators_own_address_and_route() -> None:
    motion = applied()
    motion.kernel.put(permanent("192.168.5.1/24"), static("172.16.0.0/12", "10.0.2.7"))
    motion.run(200.0)
    copies = [route for route in motion.kernel.own_routes if route.dst == net("172.16.0.0/12")]
    assert [route.gateway for route in copies] == [ip("10.0.2.7")]
    assert selectors(motion, 3) == {"eth1", f"{IPV4}/32", "192.168.5.1/32"}
    motion.kernel.drop(permanent("192.168.5.1/24"))
    motion.run(210.0)
    assert selectors(motion, 3) == {"eth1", f"{IPV4}/32"}


# --- what goes wrong ----------------------------------------------------------------


def test_what_the_kernel_refuses_is_told() -> None:
    motion = hot_plugged()
    motion.run(9.0)
    motion.kernel.set_link(ETH1)
    motion.kernel.put(LEASE4, LEASE6)
    motion.now = 10.0
    assert motion.decide(), "what DHCP brought"
    motion.turn.fail(motion.now)  # what follows is a turn of its own
    motion.turn.take_reading(Reading(3, MAC, FULL), 10.0)
    motion.decide()
    assert motion.turn.decision
    operations = motion.turn.decision.operations
    rule = next(o for o in operations if isinstance(o, AddRule) and o.rule.table == TABLE)
    route = next(o for o in operations if isinstance(o, AddRoute) and o.route.table == TABLE)
    refused: dict[Operation, Outcome] = {
        rule: Outcome(rule, Result.REFUSED, message="not permitted"),
        route: Outcome(route, Result.RETRY, message="busy"),
    }
    assert rule in motion.apply(refused), "rules wait for the routes of a new table"
    assert motion.apply(refused) == ()
    assert not motion.turn.settled, "a second try waits"
    failures = motion.host.interfaces[3].view().failures
    words = {each.text.rsplit(": ", 1)[1] for each in failures}
    assert (words, {each.code for each in failures}) == (
        {"not permitted", "busy"},
        {"kernel-refused"},
    )
    assert (motion.state(), motion.reasons()) == (State.VALIDATED, {"kernel-refused"})
    motion.run(11.0)
    assert (motion.state(), motion.reasons()) == (APPLIED, set())


def test_each_failure_is_told_of_its_interface() -> None:
    motion = applied()
    decider = Decider(motion.host)
    decider.decide(motion.now)
    rule = next(rule for rule in motion.host.interfaces[3].plan.rules if rule.table != MAIN_TABLE)
    route = motion.host.interfaces[3].plan.routes[0]
    decider.explain(
        [
            Failure(AddRule(rule), "not permitted"),
            Failure(AddRoute(route), "busy", "route-in-the-way"),
            Failure(RemoveRule(rule), "x"),
            Failure(SetGroup(2, 1), "y"),
            Failure(RemoveRule(replace(rule, table=77)), "a leftover's"),
        ]
    )
    failures = {index: i.view().failures for index, i in motion.host.interfaces.items()}
    assert failures == {
        2: (Reason("kernel-refused", "y"),),
        3: (
            Reason("kernel-refused", "not permitted", family=rule.family),
            Reason("route-in-the-way", "busy", family=route.family),
            Reason("kernel-refused", "x", family=rule.family),
        ),
    }


def known(policy: Policy | None = None, *, strict: bool = False) -> tuple[Host, Decider]:
    """A host of one link, at 0 s."""
    host = Host(policy or Policy(), lambda: 0.0, strict=strict)
    host.update_links({3: ETH1}, 0.0)
    return host, Decider(host)


def test_input_off_the_table() -> None:
    for strict in (True, False):
        host, decider = known(strict=strict)
        host.interfaces[3].lifecycle.state = State.GONE
        host.learn(host.interfaces[3], FULL, 0.0)
        host.learn_primary(Value(PRIMARY))
        if strict:
            with pytest.raises(OffTheTableError):
                decider.decide(0.0)
        else:
            decider.decide(0.0)
            assert host.surprises == 1
            assert host.interfaces[3].undecided == {*Family}


def test_a_deadline_that_passes_during_a_look_is_kept() -> None:
    turn = Turn(Policy(), lambda: 0.0, 0.0)
    for at in (0.0, 4.99):
        turn.start(at)
        turn.answer(LinksRead({3: ETH1}), at)
        turn.answer(ObjectsRead(own=(), rules=()), at)
    assert turn.step is None
    assert Basis(turn.host, Forwarder(turn.host)).next_deadline(4.99, 5.2) == 5.2
    turn.start(5.2)
    turn.answer(LinksRead({3: ETH1}), 5.2)
    turn.answer(ObjectsRead(own=(), rules=()), 5.2)
    assert Basis(turn.host, Forwarder(turn.host)).next_deadline(5.2, 5.3) == pytest.approx(180.0)


def test_all_deadlines_are_to_come_before_the_first_decision() -> None:
    turn = Turn(Policy(address_wait=3.0), lambda: 0.0, 0.0)
    basis = Basis(turn.host, Forwarder(turn.host))
    assert basis.next_deadline(-inf, 0.0) is None, "there is no interface"
    turn.host.update_links({3: ETH1}, 0.0)
    assert basis.next_deadline(-inf, 0.0) == pytest.approx(3.0)
    assert basis.next_deadline(-inf, 9.0) == 9.0, "it was missed"


def test_links_have_names_while_they_are_there() -> None:
    host = Host(Policy(), lambda: 0.0)
    assert host.name_of(3) is None, "nobody looked yet"
    host.update_links({3: ETH1, 4: replace(ETH2, kind="bridge")}, 0.0)
    assert [host.name_of(index) for index in (3, 4, 9)] == ["eth1", "eth2", None]
    host.update_links({}, 1.0)
    assert host.name_of(3) is None


def test_all_that_end_at_one_moment_are_told() -> None:
    host = Host(Policy(), lambda: 0.0)
    eth3, eth4 = replace(ETH2, index=5, name="eth3"), replace(ETH2, index=6, name="eth4")

    def told() -> list[tuple[str, State]]:
        changes = (it for it in host.news() if isinstance(it, StateChanged))
        return [(it.view.link.name, it.transition.state) for it in changes]

    host.update_links({3: ETH1, 4: ETH2}, 0.0)
    host.update_links({5: eth3, 6: eth4}, 1.0)
    assert told() == [
        ("eth1", State.DETECTED),
        ("eth1", State.GONE),
        ("eth2", State.DETECTED),
        ("eth2", State.GONE),
        ("eth3", State.DETECTED),
        ("eth4", State.DETECTED),
    ]
    assert told() == []
    assert set(host.interfaces) == {5, 6}


def test_only_a_link_that_came_meanwhile_is_nobodys_to_set_down() -> None:
    """One that was there, of no interest, or at the first look, may have been set down."""
    down = replace(ETH1, up=False, group=5)
    host = Host(Policy(), lambda: 0.0)
    host.update_links({3: down, 4: replace(ETH2, kind="veth")}, 0.0)
    host.update_links({3: down, 4: replace(down, index=4), 5: replace(down, index=5)}, 1.0)
    found = {index: it.facts.to_bring_up for index, it in host.interfaces.items()}
    assert found == {3: False, 4: False, 5: True}


def asked(host: Host, now: float) -> list[bool]:
    """For each question whether it is for every key."""
    return [question.depth is Depth.EVERYTHING for question in asking.questions(host, now)]


def test_a_question_at_a_time() -> None:
    host, decider = known()
    decider.decide(0.0)
    assert asking.questions(host, 0.0) == [Question(3, MAC, Depth.MISSING)]
    asking.poll_all(host, 0.1)
    assert asking.questions(host, 0.1) == []
    host.learn(host.interfaces[3], UNREAD, 0.2)
    assert asked(host, 0.2) == [True], "it was asked for meanwhile"
    host.learn(host.interfaces[3], UNREAD, 0.3)
    assert asking.questions(host, 0.41) == []
    assert asking.questions(host, 0.42) == [Question(3, MAC, Depth.MISSING)], "fast polls probe"


@pytest.mark.parametrize("refresh", [60.0, 1.0])
def test_the_slow_refresh_reads_everything(refresh: float) -> None:
    host, decider = known(Policy(schedule=Schedule(refresh=refresh)))
    decider.decide(0.0)
    asking.questions(host, 0.0)
    host.learn(host.interfaces[3], UNREAD, 200.0)
    assert asking.questions(host, 200.0 + 0.9 * refresh) == []
    assert asked(host, 200.0 + refresh) == [True]


def test_a_poll_for_a_doubt_reads_everything() -> None:
    host, decider = known(Policy(schedule=Schedule(refresh=2.0), doubts=3, doubt_span=2.0))
    host.learn_primary(Value(PRIMARY))
    for at, reading in ((200.0, FULL), (202.0, eni(FULL4, family(cidrs=NET6)))):
        decider.decide(at)
        assert asking.questions(host, at)
        host.learn(host.interfaces[3], reading, at)
    assert asking.questions(host, 202.9) == []
    assert asked(host, 203.0) == [True]


# --- whatever happens --------------------------------------------------------------------------

READINGS = [
    FULL, UNREAD, eni(), eni(FULL4), eni(v6=FULL6), eni(FULL4, family(cidrs=NET6)),
    eni(family(ERROR, cidrs=NET4), FULL6), replace(eni(), mac=Value(MAC2)),
    eni(family(f"{IPV4} 10.0.2.11 10.9.9.9", "10.0.2.32/28", NET4)),
    eni(v6=family(prefixes="2001:db8:0:2:1::/80", cidrs=f"{NET6} 2001:db8:5::/64")),
]  # fmt: skip
LINKS = [ETH1, replace(ETH1, up=False), replace(ETH1, name="ens6"), replace(ETH1, master=9), None]
ADDRESSES = [LEASE4, LEASE6, lease(f"{IPV6}/64", from_ra=True), permanent("10.0.0.9/8")]


def change(kernel: StrictKernel, what: Link | Address | str | None) -> Callable[[], None]:
    def act() -> None:
        if what == "flush":
            kernel.flush_rules()
        elif isinstance(what, Link):
            kernel.set_link(replace(what, group=kernel.links.get(3, what).group))
        elif what is None and 3 in kernel.links:
            kernel.unplug(3)
        elif isinstance(what, Address) and 3 in kernel.links and what not in kernel.addresses:
            kernel.put(what)

    return act


QUICK = Policy(
    schedule=Schedule(interval=1.0, fast_for=5.0, keep=10.0, patience=30.0, refresh=15.0),
    settling=5.0,
    address_wait=5.0,
)
EVENTS = st.lists(
    st.tuples(st.floats(0, 50), st.sampled_from([*READINGS, *LINKS, *ADDRESSES, "flush"])),
    max_size=12,
)


@pytest.mark.long
@settings(deadline=None, max_examples=60)
@given(
    EVENTS,
    st.sampled_from(
        [
            QUICK,
            replace(QUICK, rules=RuleMode.ADDRESS, kernel_proof=False),
            replace(QUICK, forwarded=Forwarded.CONNMARK),
        ]
    ),
)
def test_the_end_depends_on_the_facts_alone(
    events: list[tuple[float, EniMetadata | Link | Address | str | None]], policy: Policy
) -> None:
    """Whatever the way, the same facts in the end make the same kernel; and it was always sound."""
    motion = FastMotion(policy)
    motion.imds(PRIMARY, 0.0, OF_PRIMARY)
    motion.plug(0.0, ETH1)
    for when, what in sorted(events, key=lambda event: event[0]):
        if isinstance(what, EniMetadata):
            motion.imds(MAC, when, what)
        else:
            motion.at(when, change(motion.kernel, what))
    motion.plug(60.0, ETH1)
    motion.imds(MAC, 60.0, FULL)
    motion.at(60.0, change(motion.kernel, LEASE4))
    motion.at(60.0, change(motion.kernel, LEASE6))
    motion.run(200.0)
    assert motion.state() is APPLIED
    straight = FastMotion(policy, motion.kernel.without_ours())
    straight.imds(PRIMARY, 0.0, OF_PRIMARY)
    straight.imds(MAC, 0.0, FULL)
    straight.run(60.0)
    assert set(motion.kernel.own_rules) == set(straight.kernel.own_rules)
    assert set(motion.kernel.own_routes) == set(straight.kernel.own_routes)
    held = set(motion.kernel.addresses) - set(straight.kernel.addresses)
    assert set(motion.kernel.addresses) - held == set(straight.kernel.addresses)
    if held:  # where other addresses came before the lease, ours stays to be the first
        first, second = [a for a in motion.kernel.addresses_of(3) if a.family is V4][:2]
        assert held == {first} == {added(f"{IPV4}/32")}
        assert second.ip != first.ip
    assert quiet(motion)
