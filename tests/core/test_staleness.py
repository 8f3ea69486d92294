"""What is read again after which event, and when: an event carries no facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from errno import EEXIST, ENETUNREACH
from typing import Any

import pytest

from nicwatchd.core.agenda import HEARTBEAT, Appointment, Why
from nicwatchd.core.failures import failed, is_in_the_way
from nicwatchd.core.fights import Place
from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import (
    COPIED_AT_MOST,
    LINK_GROUP,
    MAIN_TABLE,
    PROTOCOL,
    RTPROT_BOOT,
    AddAddress,
    Address,
    AddRoute,
    AddRule,
    Link,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
    SetUp,
)
from nicwatchd.core.news import StateChanged
from nicwatchd.core.picture import ANYWHERE, COALESCE, CROWDED
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import (
    AddressEvent,
    Event,
    FirewallEvent,
    LinkEvent,
    NexthopEvent,
    Overrun,
    RouteEvent,
    RuleEvent,
    judge,
)
from nicwatchd.core.staleness import Staleness
from nicwatchd.core.steps import LinksRead, ObjectsRead, Reading, ReadLinks, ReadObjects
from nicwatchd.core.turn import Turn
from tests.core.build import ETH0, ETH1, IPV4, MAC, NET4, PRIMARY, TABLE, UNREAD, V4, ip, net
from tests.core.scenes import ETH2, MAC2

LO = Link(1, "00:00:00:00:00:00", "lo", up=True, group=0)
NOW = 100.0
KNOWN = frozenset({(2, PRIMARY), (3, MAC)})


class World:
    """A kernel that has only links, and what a turn read of it."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.links = {link.index: link for link in (LO, ETH0, ETH1)}
        self.turn = Turn(policy or Policy(), lambda: 0.0, NOW - 90.0)
        self.look(NOW - 90.0)
        self.turn.questions(NOW - 90.0)
        self.look(NOW)  # all times that could run out did

    def look(self, now: float) -> tuple[ReadLinks, ReadObjects]:
        """A turn: what it reads."""
        turn = self.turn
        turn.start(now)
        links = turn.step
        assert isinstance(links, ReadLinks)
        chosen = self.links.keys() if links.indices is None else links.indices & self.links.keys()
        turn.answer(LinksRead({index: self.links[index] for index in chosen}), now)
        objects = turn.step
        assert isinstance(objects, ReadObjects)
        nothing: dict[int, tuple[()]] = {index: () for index, _ in objects.links}
        own, rules = () if objects.own else None, () if objects.rules else None
        everywhere: dict[int, tuple[Address, ...]] | None = {} if objects.everywhere else None
        turn.answer(ObjectsRead(nothing, nothing, own, rules, everywhere=everywhere), now)
        assert turn.step is None
        return links, objects

    def reads(self, now: float = NOW) -> tuple[set[int] | None, list[int], str]:
        """... in short: links, interfaces whose addresses are read, and what else."""
        links, objects = self.look(now)
        indices = None if links.indices is None else set(links.indices)
        more = [what for what in ("own", "rules") if getattr(objects, what)]
        return indices, [index for index, _ in objects.links], " ".join(more)


NOTHING: tuple[set[int], list[int], str] = (set(), [], "")
EVERYTHING = (None, [2, 3], "own rules")
OURS = RouteEvent(V4, TABLE, PROTOCOL, oif=3)
BIRD = 12
THEIRS = RouteEvent(V4, MAIN_TABLE, RTPROT_BOOT, oif=3)


def test_at_first_everything_is_read_and_then_nothing() -> None:
    turn = Turn(Policy(), lambda: 0.0, 0.0)
    turn.start(0.0)
    links, key = turn.step, (3, MAC)
    assert links == ReadLinks(None, frozenset())
    turn.answer(LinksRead({1: LO, 3: ETH1}), 0.0)
    objects = turn.step
    assert objects == ReadObjects(
        (key,),
        True,
        True,
        frozenset(),
        frozenset({3}),
        frozenset({key}),
        everywhere=True,
        closed=frozenset({3}),
        defaults=True,
        marked=frozenset({3}),
        cni=True,
    )
    assert World().reads() == NOTHING


@pytest.mark.parametrize(
    ("event", "delay", "reads"),
    [
        pytest.param(Overrun(), 0.0, EVERYTHING, id="events were lost"),
        pytest.param(LinkEvent(3), 0.0, ({3}, [3], "own"), id="a link of interest"),
        pytest.param(LinkEvent(3, "eth1", down=True), 0.0, ({3}, [3], "own"), id="it is down"),
        pytest.param(
            LinkEvent(1, "lo", down=True), 0.0, ({1}, [], "own"), id="a link that is known"
        ),
        pytest.param(LinkEvent(9, "eth9"), 0.0, ({9}, [], "own"), id="new hardware"),
        pytest.param(LinkEvent(9, "eth9", "vif"), 0.0, ({9}, [], "own"), id="of a driver of ours"),
        pytest.param(LinkEvent(9, "cilium_host", "veth"), 0.0, ({9}, [], "own"), id="Cilium"),
        pytest.param(LinkEvent(9, "veth9", "veth"), None, NOTHING, id="a container's"),
        pytest.param(LinkEvent(9), None, NOTHING, id="another word of it"),
        pytest.param(LinkEvent(9, gone=True), None, NOTHING, id="... its end"),
        pytest.param(AddressEvent(3), 0.0, (set(), [3], ""), id="an address comes"),
        pytest.param(
            AddressEvent(3, deleted=True),
            COALESCE,
            ({3}, [3], "own"),
            id="one goes, with routes, or with IPv6",
        ),
        pytest.param(AddressEvent(1), COALESCE, NOTHING, id="an address of another link"),
        pytest.param(AddressEvent(1, deleted=True), COALESCE, NOTHING, id="... goes"),
        pytest.param(
            AddressEvent(1, link_local=True), None, NOTHING, id="a link-local one of another link"
        ),
        pytest.param(THEIRS, 0.0, (set(), [3], ""), id="a route of main"),
        pytest.param(replace(THEIRS, deleted=True), 0.0, (set(), [3], ""), id="... goes"),
        pytest.param(replace(THEIRS, oif=1), None, NOTHING, id="by another link"),
        pytest.param(replace(THEIRS, oif=0), None, NOTHING, id="by none"),
        pytest.param(replace(THEIRS, oif=0, hops=(1, 9)), None, NOTHING, id="by several others"),
        pytest.param(
            replace(THEIRS, oif=0, hops=(1, 3)), 0.0, (set(), [3], ""), id="by it and another"
        ),
        pytest.param(
            replace(THEIRS, protocol=BIRD), COALESCE, (set(), [3], ""), id="a routing daemon's"
        ),
        pytest.param(replace(THEIRS, protocol=BIRD, oif=9), None, NOTHING, id="... elsewhere"),
        pytest.param(NexthopEvent(3), COALESCE, (set(), [3], ""), id="a next-hop object"),
        pytest.param(NexthopEvent(9), None, NOTHING, id="... elsewhere"),
        pytest.param(NexthopEvent(0), ANYWHERE, (set(), [2, 3], ""), id="... by any link"),
        pytest.param(
            replace(OURS, deleted=True), COALESCE, (set(), [], "own"), id="a route of ours"
        ),
        pytest.param(
            replace(OURS, table=MAIN_TABLE),
            COALESCE,
            (set(), [], "own"),
            id="... in main",
        ),
        pytest.param(
            replace(OURS, protocol=RTPROT_BOOT),
            COALESCE,
            (set(), [], "own"),
            id="another's in our table",
        ),
        pytest.param(RuleEvent(V4, 32765, PROTOCOL), COALESCE, (set(), [], "rules"), id="our rule"),
        pytest.param(RuleEvent(V4, 100, 3), COALESCE, (set(), [], "rules"), id="another's rule"),
    ],
)
def test_what_is_read_after_an_event(
    event: Event, delay: float | None, reads: tuple[set[int] | None, list[int], str]
) -> None:
    world = World()
    world.turn.take_event(event, NOW)
    due = Appointment(NOW + HEARTBEAT, Why.HEARTBEAT)
    assert world.turn._agenda.next == (due if delay is None else Appointment(NOW + delay, Why.NEWS))
    assert world.reads() == reads
    assert world.reads() == NOTHING, "it is fresh now"
    assert world.turn.picture.overruns == isinstance(event, Overrun)


WIDE = replace(THEIRS, oif=9, wide=True)


@pytest.mark.parametrize(
    ("event", "delay", "reads"),
    [
        pytest.param(Overrun(), 0.0, True, id="events were lost"),
        pytest.param(WIDE, 0.0, True, id="a route for all destinations, by any link"),
        pytest.param(replace(WIDE, deleted=True), 0.0, True, id="... goes"),
        pytest.param(replace(WIDE, protocol=BIRD), 0.0, True, id="... a routing daemon's"),
        pytest.param(
            replace(WIDE, protocol=PROTOCOL, deleted=True), 0.0, True, id="... ours, by others"
        ),
        pytest.param(replace(WIDE, table=TABLE), COALESCE, False, id="... of another table"),
        pytest.param(replace(WIDE, wide=False), None, False, id="a route to a network"),
        pytest.param(NexthopEvent(8), COALESCE, True, id="a next-hop object by its link"),
        pytest.param(NexthopEvent(0), ANYWHERE, True, id="... by any link"),
        pytest.param(NexthopEvent(9), None, False, id="... by another"),
        pytest.param(LinkEvent(8, gone=True), COALESCE, True, id="its link goes"),
        pytest.param(LinkEvent(8, "wg0", "wireguard", down=True), COALESCE, True, id="... down"),
        pytest.param(LinkEvent(8, "wg0", "wireguard"), None, False, id="another word of it"),
        pytest.param(LinkEvent(9, gone=True), None, False, id="another link goes"),
        pytest.param(AddressEvent(8, deleted=True), COALESCE, True, id="its address goes"),
        pytest.param(AddressEvent(8), COALESCE, False, id="... comes"),
    ],
)
def test_when_mains_default_routes_are_read(event: Event, delay: float | None, reads: bool) -> None:
    """They are eth0's, and those of a VPN, whose link is not tracked."""
    world = World()
    world.turn.host.defaults = tuple(Route(net("0.0.0.0/0"), MAIN_TABLE, oif) for oif in (2, 8))
    assert world.turn.picture.take_event(event, NOW, by_us=False) == delay
    assert world.look(NOW)[1].defaults is reads
    assert not world.look(NOW)[1].defaults, "they are fresh now"


@pytest.mark.parametrize(
    ("event", "delay", "looks"),
    [
        pytest.param(replace(THEIRS, oif=9, heeded=True), COALESCE, True, id="of main, elsewhere"),
        pytest.param(replace(THEIRS, table=77, heeded=True), COALESCE, True, id="of any table"),
        pytest.param(replace(THEIRS, heeded=True), 0.0, True, id="by an ENI: sooner than that"),
        pytest.param(replace(THEIRS, oif=9), None, False, id="to nobody of interest"),
        pytest.param(replace(WIDE, table=77), COALESCE, True, id="a default route"),
        pytest.param(NexthopEvent(9, heeded=True), COALESCE, True, id="by an object's number"),
        pytest.param(NexthopEvent(3), COALESCE, True, id="an ENI's next-hop object"),
        pytest.param(NexthopEvent(9), None, False, id="another's"),
        pytest.param(LinkEvent(3, "eth1", down=True), 0.0, True, id="an ENI goes down"),
        pytest.param(LinkEvent(3, gone=True), 0.0, True, id="... goes"),
        pytest.param(LinkEvent(3, "eth1"), 0.0, False, id="... has news"),
        pytest.param(LinkEvent(9, "eth9", down=True), 0.0, False, id="another link goes down"),
        pytest.param(AddressEvent(3, deleted=True), COALESCE, True, id="an ENI's address goes"),
        pytest.param(AddressEvent(3), 0.0, False, id="... comes"),
        pytest.param(
            AddressEvent(3, deleted=True, link_local=True), COALESCE, False, id="... link-local"
        ),
        pytest.param(AddressEvent(9, deleted=True), COALESCE, False, id="another's goes"),
    ],
)
def test_what_may_lead_packets_elsewhere(event: Event, delay: float | None, looks: bool) -> None:
    """Routes go without an event of their own with a link, an address, a next-hop object."""
    world = World()
    world.turn.picture.stale.take_ways_changed()
    assert world.turn.picture.take_event(event, NOW, by_us=False) == delay
    assert world.turn.picture.stale.take_ways_changed() is looks


def test_our_own_routes_lead_nobody_elsewhere() -> None:
    """Who wrote looks again anyway."""
    world = World()
    world.turn.picture.stale.take_ways_changed()
    event = replace(OURS, heeded=True)
    assert world.turn.picture.take_event(event, NOW, by_us=True) is None
    assert not world.turn.picture.stale.take_ways_changed()


BRIDGE = Link(9, "02:00:00:00:00:99", "br0", up=True, kind="bridge")


def test_published_ports_are_read_when_the_firewall_changed() -> None:
    world = World()
    for _ in range(2):
        assert not world.look(NOW)[1].published, "there are no containers"
    world.turn.host.outside.take({}, {}, (), world.turn.host.keys)  # no more of that is due
    assert not world.turn.picture.heeded.firewall
    world.links[9] = BRIDGE
    world.turn.take_event(LinkEvent(9, "br0", "bridge"), NOW)
    assert world.look(NOW)[1].published, "there are some now"
    assert world.turn.picture.heeded.firewall
    assert not world.look(NOW)[1].published, "they are known"
    assert world.turn.picture.take_event(FirewallEvent(), NOW, by_us=False) == COALESCE
    assert world.look(NOW)[1].published
    assert not world.look(NOW)[1].published


def test_what_we_write_ourselves_needs_no_look_at_the_defaults() -> None:
    world = World()
    event = replace(WIDE, protocol=PROTOCOL)
    assert world.turn.picture.take_event(event, NOW, by_us=True) is None
    assert not world.look(NOW)[1].defaults


def test_the_routes_of_a_routing_daemon_that_are_not_copied_can_wait() -> None:
    world = World()
    facts = world.turn.host.interfaces[3].facts
    learned = Route(net("198.18.0.0/15"), MAIN_TABLE, 3, BIRD)
    for count, delay in ((COPIED_AT_MOST, COALESCE), (COPIED_AT_MOST + 1, CROWDED)):
        facts.update((), tuple(replace(learned, metric=n) for n in range(count)))
        assert (
            world.turn.picture.take_event(replace(THEIRS, protocol=BIRD), NOW, by_us=False) == delay
        )
    both = replace(THEIRS, protocol=BIRD, oif=0, hops=(2, 3))
    assert world.turn.picture.take_event(both, NOW, by_us=False) == COALESCE
    assert world.turn.picture.take_event(THEIRS, NOW, by_us=False) == 0.0


def test_a_routing_daemon_s_routes_are_no_hint_for_imds() -> None:
    facts = World().turn.host.interfaces[3].facts
    learned = Route(net("198.18.0.0/15"), MAIN_TABLE, 3, BIRD)
    assert not facts.update((), (learned,))
    assert facts.routes == (learned,)
    assert facts.update((), (learned, replace(learned, protocol=RTPROT_BOOT)))


@pytest.mark.parametrize(
    "event",
    [
        OURS,
        THEIRS,
        RuleEvent(V4, 32765, PROTOCOL),
    ],
)
def test_the_echo_of_our_own_work_is_nothing_new(event: Event) -> None:
    world = World()
    world.turn.take_event(event, NOW, by_us=True)
    assert world.turn._agenda.next.why is Why.HEARTBEAT
    assert world.reads() == NOTHING


def test_an_address_of_ours_is_read_all_the_same() -> None:
    """Only the read tells whether a lease took its place."""
    world = World()
    world.turn.take_event(AddressEvent(3), NOW, by_us=True)
    assert world.reads() == (set(), [3], "")


@pytest.mark.parametrize(
    ("event", "everywhere"),
    [
        (Overrun(), True),
        (AddressEvent(1), True),
        (AddressEvent(9, deleted=True), True),
        (AddressEvent(9, link_local=True), False),
        (AddressEvent(3), False),
        (LinkEvent(3), False),
        (THEIRS, False),
    ],
)
def test_when_the_addresses_of_all_links_are_read(event: Event, everywhere: bool) -> None:
    """Another link's address may be in a subnet of an ENI's."""
    world = World()
    world.turn.take_event(event, NOW)
    assert [world.look(NOW)[1].everywhere for _ in range(2)] == [everywhere, False]


def test_a_driver_of_the_settings_is_of_interest() -> None:
    world = World(Policy(drivers=frozenset({"ena", "veth"})))
    world.turn.take_event(LinkEvent(9, "veth9", "veth"), NOW)
    assert world.reads() == ({9}, [], "own")


def test_one_turn_is_for_all_that_happened() -> None:
    world = World()
    world.turn.take_event(AddressEvent(2), NOW)
    world.turn.take_event(LinkEvent(1), NOW)
    world.turn.take_event(RuleEvent(V4, 1, 3), NOW)
    world.turn.take_event(LinkEvent(9, "eth9"), NOW)
    assert world.reads() == ({1, 9}, [2], "own rules")
    world.turn.take_event(RuleEvent(V4, 1, 3), NOW)
    world.turn.take_event(AddressEvent(2), NOW)
    assert world.reads() == (set(), [2], "rules"), "what comes later takes nothing back"


def test_a_new_link_is_read_with_its_addresses() -> None:
    world = World()
    world.links[ETH2.index] = ETH2
    world.turn.take_event(LinkEvent(ETH2.index, "eth2"), NOW)
    links, objects = world.look(NOW)
    assert links == ReadLinks(frozenset({4}), KNOWN)
    assert objects.links == ((4, MAC2),)
    assert objects.known == KNOWN | {(4, MAC2)}


def test_a_link_that_went_is_forgotten() -> None:
    world = World()
    del world.links[3]
    world.turn.take_event(LinkEvent(3, "eth1", gone=True), NOW)
    links, objects = world.look(NOW)
    assert links.known == objects.known == {(2, PRIMARY)}
    assert set(world.turn.host.interfaces) == {2}
    world.turn.take_event(LinkEvent(3, gone=True), NOW)
    assert world.turn._agenda.next.why is Why.HEARTBEAT, "it is known no more"


def test_a_link_that_is_not_there_when_it_is_read_is_gone() -> None:
    """Its end may be told later, or never."""
    world = World()
    del world.links[3]
    world.turn.take_event(LinkEvent(3, "eth1"), NOW)
    world.look(NOW)
    assert set(world.turn.host.interfaces) == {2}
    assert set(world.turn.host.links or ()) == {1, 2}


def test_a_link_that_went_and_came_back_is_a_new_one() -> None:
    """From another network namespace, before anybody looked: same index, same MAC, all lost."""
    world = World()
    old = world.turn.host.interfaces[3]
    world.turn.news()
    world.turn.take_event(LinkEvent(3, "eth1", gone=True), NOW)
    world.turn.take_event(LinkEvent(3, "eth1"), NOW)
    links, objects = world.look(NOW)
    assert links == ReadLinks(frozenset({3}), frozenset({(2, PRIMARY)}))
    assert objects.links == ((3, MAC),)
    new = world.turn.host.interfaces[3]
    assert (new is old, new.facts.seen) == (False, NOW)
    states = [it.transition.state for it in world.turn.news() if isinstance(it, StateChanged)]
    assert states[:2] == [State.GONE, State.DETECTED]


# --- void ----------------------------------------------------------------------------------------


def reads_then_fails(turn: Turn, now: float) -> None:
    turn.start(now)
    turn.answer(LinksRead({}), now)
    turn.fail(now)


VOIDS: dict[str, Callable[[Turn], object]] = {
    "other settings": lambda turn: turn.set_policy(Policy(), NOW),
    "a request to look": lambda turn: turn.reconcile(None, NOW),
    "a request for one": lambda turn: turn.reconcile((3, MAC), NOW),
    "a release": lambda turn: turn.release((2, "?"), NOW),
    "no answer of the kernel": lambda turn: reads_then_fails(turn, NOW),
}


@pytest.mark.parametrize("void", VOIDS.values(), ids=VOIDS.keys())
def test_what_makes_all_that_is_known_void(void: Callable[[Turn], object]) -> None:
    world = World()
    void(world.turn)
    assert world.turn.picture.stale.ways_changed, "who wins is asked anew"
    assert world.reads(NOW + 1.0) == EVERYTHING
    assert world.reads(NOW + 1.0) == NOTHING


# --- what we did ourselves -----------------------------------------------------------------------

RULE = Rule(V4, 32765, TABLE, src=net(NET4))
ROUTE = Route(net(NET4), TABLE, 3)


@pytest.mark.parametrize(
    ("operation", "links", "addresses"),
    [
        (SetUp(3), {3}, set()),
        (SetGroup(3, LINK_GROUP), {3}, set()),
        (AddAddress(3, ip(IPV4)), set(), {3}),
        (RemoveAddress(3, ip(IPV4), 32), set(), {3}),
        (AddRoute(ROUTE), set(), set()),
        (RemoveRoute(ROUTE), set(), set()),
        (AddRule(RULE), set(), set()),
        (RemoveRule(RULE), set(), set()),
    ],
)
def test_what_we_touched_is_read_back(
    operation: Operation, links: set[int], addresses: set[int]
) -> None:
    stale = Staleness()
    keys = ((2, PRIMARY), (3, MAC))
    stale.take_links()
    stale.take_addresses(keys)
    stale.take_own()
    stale.take_rules()
    stale.touched([operation])
    assert set(stale.take_links() or ()) == links
    assert {index for index, _ in stale.take_addresses(keys)} == addresses
    of_rules = isinstance(operation, AddRule | RemoveRule)
    assert stale.take_own() is not of_rules, "routes go with addresses, and come with links"
    assert stale.take_rules() is of_rules, "rules go and come alone"
    assert not stale.take_own()
    assert not stale.take_rules()


@pytest.mark.parametrize(
    ("operation", "errno", "tables"),
    [
        (AddRoute(ROUTE), EEXIST, {TABLE}),
        (AddRoute(ROUTE), ENETUNREACH, set()),
        (AddRoute(ROUTE), 0, set()),
        (AddRule(RULE), EEXIST, set()),
    ],
)
def test_whose_route_is_in_the_way_is_read_from_its_table(
    operation: Operation, errno: int, tables: set[int]
) -> None:
    stale = Staleness()
    outcomes = failed([judge(operation, errno)])
    stale.in_the_way(each for each in outcomes if is_in_the_way(each))
    assert stale.take_tables() == tables
    assert stale.take_tables() == set()


# --- what else an event tells --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "where"),
    [
        (AddressEvent(3, 77, True, "x"), Place(AddAddress, 3)),
        (replace(OURS, deleted=True, pid=77, culprit="x"), Place(AddRoute, 3, V4)),
        (RuleEvent(V4, 99, PROTOCOL, deleted=True, pid=77, culprit="x"), Place(AddRule, 99, V4)),
    ],
)  # fmt: skip
def test_whom_an_event_points_at(event: Any, where: Place) -> None:
    world = World()
    suspects = world.turn.host.losses._suspects
    world.turn.take_event(replace(event, pid=0), NOW)
    assert suspects == {}, "the kernel did it"
    world.turn.take_event(event, NOW, by_us=True)
    assert suspects == {}
    world.turn.take_event(replace(event, culprit=""), NOW)
    assert suspects == {}
    world.turn.take_event(event, NOW)
    assert suspects == {where: ("x", "")}


@pytest.mark.parametrize(
    ("event", "asks"),
    [(LinkEvent(3), True), (LinkEvent(9, "eth9"), False), (AddressEvent(3), False),
     (RuleEvent(V4, 1, 3), False), (Overrun(), False)],
)  # fmt: skip
def test_only_an_event_of_a_link_asks_imds_by_itself(event: Event, asks: bool) -> None:
    """Of all others, what was read tells whether anything changed."""
    world = World()
    world.turn.take_reading(Reading(3, MAC, UNREAD), NOW)
    world.turn.take_reading(Reading(2, PRIMARY, UNREAD), NOW)
    world.look(NOW)
    world.turn.take_event(event, NOW)
    assert [question.index for question in world.turn.questions(NOW)] == [3] * asks


@pytest.mark.parametrize("down", [False, True])
def test_a_flap_is_noted_by_the_event_alone(*, down: bool) -> None:
    world = World()
    world.turn.take_event(LinkEvent(3, "eth1", down=down), NOW)
    world.turn.take_event(LinkEvent(3, "eth1"), NOW)
    assert world.turn.host.interfaces[3].facts.flapped is down
    world.look(NOW)
    assert not world.turn.host.interfaces[3].facts.flapped, "the decision took it in"


def test_at_first_everything_is_stale() -> None:
    stale = Staleness()
    assert (stale.everything, stale.own, stale.ways_changed) == (True, True, False)


def test_what_happens_before_the_first_read_is_in_it() -> None:
    stale, keys = Staleness(), ((2, PRIMARY), (3, MAC))
    stale.forget(keys)
    stale.addresses(3)
    stale.link(3, gone=True)
    stale.rules()
    for addresses, own in ((keys, True), ((), False)):
        stale.take_gone()
        assert stale.take_links() == (None if own else frozenset())
        assert stale.take_addresses(keys) == addresses
        assert stale.take_own() is own
        assert stale.take_rules() is own


def test_events_before_the_first_turn_cost_nothing() -> None:
    turn = Turn(Policy(), lambda: 0.0, 0.0)
    for event in (Overrun(), LinkEvent(9, "veth9", "veth"), LinkEvent(3, gone=True), Overrun()):
        turn.take_event(event, 0.0)
    assert turn.picture.overruns == 2
    turn.start(0.0)
    assert turn.step == ReadLinks(None, frozenset())


def test_only_what_was_read_and_lives_is_fresh() -> None:
    stale, (eth0, eth1, new) = Staleness(), ((2, PRIMARY), (3, MAC), (4, MAC2))
    assert stale.take_links() is None
    assert stale.take_addresses((eth0, eth1)) == (eth0, eth1)
    assert stale.take_links() == frozenset()
    assert stale.take_addresses((eth0, eth1)) == ()
    stale.forget((eth1, new))
    assert stale.take_addresses((eth0, eth1, new)) == (eth0, new)


def test_what_becomes_void_while_it_is_read_is_read_again() -> None:
    stale = Staleness()
    assert stale.take_links() is None
    stale.void()
    assert (stale.take_own(), stale.take_rules()) == (True, True)
    assert stale.take_links() is None
    assert (stale.take_own(), stale.take_rules()) == (True, True)
    assert stale.take_links() == frozenset()
    assert (stale.take_own(), stale.take_rules()) == (False, False)
