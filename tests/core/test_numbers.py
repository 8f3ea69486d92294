"""Other numbers than before: what was made with the old ones goes, and no packet notices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nicwatchd.core import asking
from nicwatchd.core.diff import Differ
from nicwatchd.core.eni_routes import ANY
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import (
    MAIN_TABLE,
    IPNetwork,
    Numbers,
    Operation,
    RemoveRule,
    Route,
    Rule,
    contains,
)
from nicwatchd.core.ownership import Owners, Snapshot, selector
from tests.core.build import (
    ETH0,
    ETH1,
    MAC,
    NET4,
    NET6,
    PRIMARY,
    UNREAD,
    V4,
    V6,
    eni,
    lease,
    net,
    on_link,
    permanent,
)
from tests.core.build import family as said
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, CALM, ETH2, FULL, LEASE4, LEASE6, MAC2
from tests.core.strict_kernel import StrictKernel

pytestmark = pytest.mark.long


OTHER = Numbers(priority=31000, table_base=5_000_000, group=77)
CHANGES = [
    pytest.param(Numbers(priority=32000), id="priority"),
    pytest.param(Numbers(priority=32765), id="priority-overlapping"),
    pytest.param(Numbers(priority=32599), id="priority-overlapping-before"),
    pytest.param(Numbers(table_base=2_000_000), id="table_base"),
    pytest.param(Numbers(group=77), id="group"),
    pytest.param(Numbers(table_base=2_000_000, group=77), id="table_base-group"),
    pytest.param(OTHER, id="all"),
]
FIRST = eni(
    said("10.0.1.10", cidrs="10.0.1.0/24"),
    said("2001:db8:0:1::10", cidrs="2001:db8:0:1::/64"),
    mac=Value(PRIMARY),
)
SECOND = eni(
    said("10.0.3.10", cidrs="10.0.3.0/24"),
    said("2001:db8:0:3::10", cidrs="2001:db8:0:3::/64"),
    mac=Value(MAC2),
)


# --- at every moment ---------------------------------------------------------------------------


class Watched(StrictKernel):
    """Tries after each operation where the packets of each selector that is `watched` would go."""

    def __init__(self, kernel: StrictKernel) -> None:
        super().__init__()
        self.state = kernel.state
        self.watched = {selector(rule): self.home(rule) for rule in self.own_rules}
        assert self.watched
        self.check()

    def home(self, rule: Rule) -> int:
        """The interface that a rule of ours is for."""
        of = [r for r in self.own_rules if selector(r) == selector(rule) and r.table != MAIN_TABLE]
        (index,) = {route.oif for route in self.own_routes if route.table == of[0].table}
        return index

    def run(self, operations: Iterable[Operation]) -> None:
        for operation in operations:
            super().run([operation])
            self.check()

    def check(self) -> None:
        for (family, *selects), home in self.watched.items():
            rules = [r for r in self.own_rules if [*selector(r)] == [family, *selects]]
            rules.sort(key=lambda rule: rule.priority)  # stable: of equals the first added wins
            places = {
                route.dst: route.oif
                for route in self.routes
                if route.table == MAIN_TABLE and route.family is family and route.oif != home
            }
            assert self.goes(rules, ANY[family], None) == home, "beyond all subnets"
            for place, oif in places.items():
                # Another ENI's subnet is reached through one's own router; a container directly.
                nearby = self.links[oif].driver != "ena"
                assert self.goes(rules, place, oif) == (oif if nearby else home), place

    def goes(self, rules: list[Rule], place: IPNetwork, on_link_at: int | None) -> int | None:
        """The link by which a packet to a place leaves; `on_link_at`: main has it there."""
        for rule in rules:
            if rule.dst is not None and not contains(rule.dst, place):
                continue
            if rule.table != MAIN_TABLE:
                routes = [r for r in self.own_routes if r.table == rule.table]
                default = [r for r in routes if r.dst == ANY[rule.family]]
                if default:
                    return default[0].oif
            elif on_link_at and self.links[on_link_at].group != rule.suppress_ifgroup:
                return on_link_at
        return None


CONTAINERS = replace(ETH0, index=9, mac="", name="docker0", driver="bridge", kind="bridge")


def two_applied(numbers: Numbers | None = None) -> FastMotion:
    """A host with containers and three ENIs that DHCP brought addresses to; two are applied."""
    motion = FastMotion(replace(CALM, numbers=numbers or Numbers()))
    for link in (ETH1, ETH2, CONTAINERS):
        motion.kernel.set_link(link)
    motion.kernel.put(
        LEASE4,
        LEASE6,
        on_link(NET6),
        lease("10.0.3.10/24", 4),
        lease("2001:db8:0:3::10/128", 4),
        lease("10.0.1.10/24", 2),
        lease("2001:db8:0:1::10/128", 2),
        permanent("172.17.0.1/16", 9),
    )
    motion.imds(PRIMARY, 0.0, FIRST)
    motion.imds(MAC, 0.0, FULL)
    motion.imds(MAC2, 0.0, SECOND)
    motion.run(130.0)
    assert {motion.state(3), motion.state(4)} == {APPLIED}
    return motion


def like_new(motion: FastMotion, numbers: Numbers) -> None:
    """The kernel is as if it had never had other numbers."""
    fresh = two_applied(numbers).kernel
    assert set(motion.kernel.own_rules) == set(fresh.own_rules)
    assert set(motion.kernel.own_routes) == set(fresh.own_routes)
    assert motion.kernel.links == fresh.links


@pytest.mark.parametrize("numbers", CHANGES)
@pytest.mark.parametrize("back", [False, True], ids=["there", "back"])
def test_a_reload_migrates_at_once(numbers: Numbers, back: bool) -> None:
    old, new = (numbers, Numbers()) if back else (Numbers(), numbers)
    motion = two_applied(old)
    motion.kernel = Watched(motion.kernel)
    motion.turn.set_policy(replace(CALM, numbers=new), motion.now)
    motion.run(motion.now)
    like_new(motion, new)
    assert {motion.state(3), motion.state(4)} == {APPLIED}


def restarted(motion: FastMotion, numbers: Numbers) -> FastMotion:
    """The daemon comes again on the same kernel, with other numbers, and IMDS does not answer."""
    again = FastMotion(replace(CALM, numbers=numbers), motion.kernel, start=motion.now + 60.0)
    for link in (ETH0, ETH1, ETH2):
        again.imds(link.mac, 0.0, UNREAD)
    return again


@pytest.mark.parametrize("numbers", CHANGES)
def test_a_restart_removes_nothing_before_it_knows(numbers: Numbers) -> None:
    motion = two_applied()
    rules, links = set(motion.kernel.own_rules), dict(motion.kernel.links)
    motion.kernel = Watched(motion.kernel)
    again = restarted(motion, numbers)
    again.run(again.now + 100.0)
    assert rules <= set(again.kernel.own_rules)
    assert again.kernel.links == links
    # One of the three is known: the others are not to notice.
    again.imds(MAC, 0.0, FULL)
    asking.poll_all(again.host, again.now)
    again.run(again.now + 100.0)
    assert (again.state(3), again.reasons(4)) == (APPLIED, {"imds-unread"})
    assert {r for r in rules if r.table in (1_000_703, 1_001_215)} <= set(again.kernel.own_rules)
    again.imds(PRIMARY, 0.0, FIRST)
    again.imds(MAC2, 0.0, SECOND)
    asking.poll_all(again.host, again.now)
    again.run(again.now + 100.0)
    like_new(again, numbers)


@pytest.mark.parametrize("numbers", CHANGES)
def test_a_link_that_was_set_down_stays_down(numbers: Numbers) -> None:
    """Its group tells that it had been set up before; a former group tells that, too."""
    motion = two_applied()
    motion.kernel.set_link(replace(motion.kernel.links[4], up=False))
    motion.run(motion.now + 10.0)
    again = restarted(motion, numbers)
    again.imds(MAC, 0.0, FULL)
    again.run(again.now + 100.0)
    assert not again.kernel.links[4].up


def test_a_group_of_others_is_not_a_former_one_of_ours() -> None:
    motion = two_applied()
    motion.kernel.set_link(replace(motion.kernel.links[4], group=5))
    motion.kernel.put(Rule(V4, 100, MAIN_TABLE, protocol=4, suppress_ifgroup=5))
    again = restarted(motion, OTHER)
    again.imds(PRIMARY, 0.0, FIRST)
    again.imds(MAC, 0.0, FULL)
    again.imds(MAC2, 0.0, SECOND)
    again.run(again.now + 100.0)
    groups = {i: link.group for i, link in again.kernel.links.items()}
    assert groups == {1: 0, 2: 77, 3: 77, 4: 5, 9: 0}
    assert "foreign-group" in {note.code for note in again.host.interfaces[4].view().notes}


# --- whose a rule is ---------------------------------------------------------------------------

OLD = 7_000_003  # as the first edition numbered them
BY_SUBNET = Rule(V4, 32765, OLD, iif="lo", src=net(NET4))
BY_NAME = Rule(V6, 32765, OLD, oif="eth1")
BY_PREFIX = Rule(V4, 32765, OLD, src=net("10.0.2.16/28"))
LINKS = {3: ETH1, 4: ETH2}
ADDRESSES = {3: (permanent("10.0.2.10/24"),), 4: (permanent("10.0.3.10/24", 4),)}
AWAY = Route(net("0.0.0.0/0"), OLD, 4)


@pytest.mark.parametrize(
    ("kernel", "owners"),
    [
        pytest.param(Snapshot(LINKS, rules=(BY_NAME,)), {3}, id="by its name"),
        pytest.param(Snapshot(LINKS, ADDRESSES, rules=(BY_SUBNET,)), {3}, id="by an address"),
        pytest.param(Snapshot(LINKS, ADDRESSES, rules=(BY_PREFIX,)), set(), id="not by a prefix"),
        pytest.param(
            Snapshot(LINKS, ADDRESSES, rules=(BY_PREFIX, BY_NAME)), {3}, id="by its table's rules"
        ),
        pytest.param(
            Snapshot(LINKS, ADDRESSES, (AWAY,), (BY_NAME, BY_SUBNET)), {4}, id="by its routes first"
        ),
        pytest.param(
            Snapshot({3: ETH2, 4: ETH1}, ADDRESSES, rules=(BY_NAME, BY_SUBNET)), {3, 4}, id="of two"
        ),
        pytest.param(Snapshot(LINKS, rules=(BY_SUBNET,)), set(), id="by nothing"),
    ],
)
def test_whose_a_table_of_other_numbers_is(kernel: Snapshot, owners: set[int]) -> None:
    assert Owners(kernel, Numbers()).of(OLD) == owners
    now = Numbers(table_base=7_000_000)
    assert Owners(kernel, now).of(OLD) == owners
    rules = tuple(replace(rule, table=now.table_of(3)) for rule in kernel.rules)
    routes = tuple(replace(route, table=now.table_of(3)) for route in kernel.routes)
    renumbered = replace(kernel, rules=rules, routes=routes)
    by_number = Owners(renumbered, now).of(now.table_of(3))
    assert by_number == (owners if routes else {3}), "by routes first, even so"
    for held in ({(3, V4), (3, V6)}, {(4, V4), (4, V6)}):
        left = set(kernel.rules) - {
            o.rule for o in Differ().diff([], kernel, held) if isinstance(o, RemoveRule)
        }
        kept = not owners or owners & {index for index, _ in held}
        # A name that its link has no more is let go, whoever had it.
        assert left - {BY_NAME} == (set(kernel.rules) - {BY_NAME} if kept else set())


def test_what_cannot_be_told_goes_when_its_family_is_known() -> None:
    kernel = Snapshot(LINKS, rules=(BY_SUBNET,))
    assert Differ().diff([], kernel, {(4, V6)}) == (RemoveRule(BY_SUBNET),)
    assert Differ().diff([], kernel, {(4, V4)}) == ()


def test_a_gone_link_s_are_told_by_the_numbers_of_now() -> None:
    gone = replace(BY_SUBNET, table=1_002_495)
    assert Differ().diff([], Snapshot(LINKS, rules=(gone,)), {(3, V4)}) == (RemoveRule(gone),)


# --- any numbers -------------------------------------------------------------------------------

NUMBERS = st.builds(
    Numbers,
    priority=st.sampled_from([2, 31000, 32598, 32599, 32765, 32765, 32765, 32763]),
    table_base=st.sampled_from([1_000_000, 2_000_000, 2_000_000_000]),
    group=st.sampled_from([1, 77, 3778]),
)


@settings(deadline=None, max_examples=25)
@given(NUMBERS, st.lists(NUMBERS, min_size=1, max_size=3))
def test_any_numbers_become_any_others(first: Numbers, then: list[Numbers]) -> None:
    motion = two_applied(first)
    motion.kernel = Watched(motion.kernel)
    for numbers in then:
        motion.turn.set_policy(replace(CALM, numbers=numbers), motion.now)
        motion.run(motion.now)
    like_new(motion, then[-1])
