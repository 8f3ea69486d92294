"""What stands on an ENI: which links do, which of them join the group, and which leave it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest

from nicwatchd.core import turn
from nicwatchd.core.layers import beneath
from nicwatchd.core.model import AddRule, Family, Link, Numbers, Reason, RemoveRule, SetGroup
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import AddressEvent, Event, LinkEvent, RouteEvent
from tests.core.build import (
    ETH0,
    ETH1,
    IPV4,
    IPV6,
    MAC,
    NET4,
    PRIMARY,
    UNREAD,
    lease,
    on_link,
    permanent,
    static,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, CALM, FULL, OF_PRIMARY, selectors

Change = Callable[[FastMotion], object]
OURS: Final = 3778
ETH0_KEY: Final = (2, PRIMARY)


def over(kind: str, index: int = 9, **more: object) -> Link:
    link = Link(index, "02:42:00:00:00:01", f"{kind}{index}", up=True, kind=kind, driver=kind)
    return replace(link, **more)  # type: ignore[arg-type]  # (fields by name)


def port_of(link: Link, master: int) -> Link:
    return replace(link, master=master)


# --- which links stand on which ------------------------------------------------------------------

PORT0, PORT1 = port_of(ETH0, 9), port_of(ETH1, 9)


@pytest.mark.parametrize(
    ("links", "found"),
    [
        pytest.param([ETH0, ETH1], {}, id="nothing"),
        *(
            pytest.param([PORT0, ETH1, over(kind)], {9: {2}}, id=f"a {kind}")
            for kind in ("bridge", "bond", "team", "vrf")
        ),
        *(
            pytest.param([ETH0, ETH1, over(kind, lower=3)], {9: {3}}, id=f"a {kind}")
            for kind in ("vlan", "macvlan", "macvtap", "ipvlan", "ipvtap")
        ),
        pytest.param([PORT0, PORT1, over("bond")], {9: {2, 3}}, id="of two ENIs"),
        pytest.param(
            [PORT0, ETH1, over("bond", master=10), over("bridge", 10), over("vlan", 11, lower=10)],
            {9: {2}, 10: {2}, 11: {2}},
            id="three storeys",
        ),
        pytest.param(
            [over("vlan", 5, lower=8), over("bridge", 8), port_of(ETH0, 8), ETH1],
            {5: {2}, 8: {2}},
            id="the upper one is older",
        ),
        pytest.param(
            [PORT0, ETH1, over("openvswitch"), over("openvswitch", 10)],
            {9: {2}, 10: {2}},
            id="the ports of a virtual switch",
        ),
        pytest.param([ETH0, ETH1, over("bridge")], {}, id="a bridge of containers"),
        pytest.param([ETH0, ETH1, over("veth", lower=3)], {}, id="a veth names its other end"),
        pytest.param([ETH0, ETH1, over("gre", lower=3)], {}, id="a tunnel is another network"),
        pytest.param([PORT0, ETH1], {}, id="its bridge was not read yet"),
        pytest.param([ETH0, ETH1, over("vlan", lower=9)], {}, id="a circle of one"),
    ],
)
def test_which_links_stand_on_which_enis(links: list[Link], found: dict[int, set[int]]) -> None:
    assert beneath({link.index: link for link in links}, {2, 3}) == found


# --- groups --------------------------------------------------------------------------------------


def host_with(*changes: Change, policy: Policy = CALM) -> FastMotion:
    """The primary and eth1 long since applied; before that, the changes."""
    motion = FastMotion(policy)
    motion.imds(PRIMARY, 0.0, OF_PRIMARY)
    motion.imds(MAC, 0.0, FULL)
    motion.kernel.set_link(ETH1)
    for change in changes:
        change(motion)
    motion.run(60.0)
    return motion


def sets(*links: Link) -> Change:
    def change(motion: FastMotion) -> None:
        for link in links:
            motion.kernel.set_link(link)

    return change


def puts(*things: object) -> Change:
    return lambda motion: motion.kernel.put(*things)  # type: ignore[arg-type]  # (any object)


def takes(*things: object) -> Change:
    return lambda motion: motion.kernel.drop(*things)  # type: ignore[arg-type]  # (any object)


BRIDGE: Final = over("bridge")
BRIDGED: Final = sets(PORT0, BRIDGE)
SHIM: Final = over("macvlan", lower=3)
HAS4: Final = puts(permanent("10.0.1.10/24", 9))
HAS6: Final = puts(lease("2001:db8:0:2::5/128", 9))


def group(motion: FastMotion, index: int = 9) -> int:
    return motion.kernel.links[index].group


def codes(motion: FastMotion) -> list[str]:
    """What is told of the primary."""
    return [note.code for note in motion.host.interfaces[2].view().notes]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        pytest.param([BRIDGED, HAS4], OURS, id="a bridge with the primary's address"),
        pytest.param([sets(SHIM), HAS6], OURS, id="a macvlan with an IPv6 address"),
        pytest.param(
            [BRIDGED, puts(on_link("10.0.1.0/24", 9))], OURS, id="with a route to the subnet"
        ),
        pytest.param([sets(SHIM), puts(static("10.0.2.192/27", index=9))], OURS, id="to its part"),
        pytest.param(
            [BRIDGED, puts(permanent("10.0.2.77/32", 9))], OURS, id="another ENI's subnet"
        ),
        pytest.param([BRIDGED], 0, id="without any address"),
        pytest.param([BRIDGED, puts(permanent("192.168.1.1/24", 9))], 0, id="another network's"),
        pytest.param([sets(BRIDGE), HAS4], 0, id="a bridge without an ENI"),
        pytest.param([sets(over("dummy")), HAS4], 0, id="a link beside the ENI"),
        pytest.param([sets(over("gre", lower=3)), HAS6], 0, id="a tunnel without an address"),
        pytest.param(
            [sets(PORT0, replace(BRIDGE, group=5)), HAS4], 5, id="in a group of somebody's"
        ),
    ],
)
def test_who_is_in_the_group(changes: list[Change], wanted: int) -> None:
    assert group(host_with(*changes)) == wanted
    # The same when it comes later, whatever comes first.
    later = host_with()
    for number, change in enumerate(reversed(changes)):
        if later.kernel.links.get(9) is None and number < len(changes) - 1:
            changes[0](later)
        change(later)
        later.run(61.0 + number)
    assert group(later) == wanted
    assert later.state() is APPLIED


def test_it_is_in_the_group_before_its_eni_is_applied() -> None:
    motion = host_with(sets(SHIM), HAS6)
    groups = [t for t, o in motion.written if o == SetGroup(9, OURS)]
    rules = [t for t, o in motion.written if isinstance(o, AddRule)]
    assert groups == [min(rules)]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(sets(replace(PORT0, master=0)), id="the ENI leaves the bridge"),
        pytest.param(takes(permanent("10.0.1.10/24", 9)), id="the address goes"),
        pytest.param(lambda m: m.turn.release(ETH0_KEY, m.now), id="the ENI is released"),
        pytest.param(lambda m: m.turn.release(None, m.now), id="the host is released"),
        pytest.param(lambda m: m.kernel.unplug(2), id="the ENI goes"),
    ],
)
def test_the_group_is_given_back(change: Change) -> None:
    motion = host_with(BRIDGED, HAS4)
    assert group(motion) == OURS
    change(motion)
    motion.run(61.0)
    assert group(motion) == 0


def test_a_restart_takes_it_over_and_gives_it_back() -> None:
    motion = host_with(BRIDGED, HAS4)
    written = len(motion.written)
    motion.turn = motion.begin(CALM)
    motion.run(120.0)
    assert len(motion.written) == written
    motion.kernel.set_link(replace(motion.kernel.links[2], master=0))
    motion.turn = motion.begin(CALM)
    motion.run(180.0)
    assert group(motion) == 0


def test_a_doubt_gives_nothing_back() -> None:
    """After a restart IMDS does not answer: the subnet may be the address's."""
    motion = host_with(BRIDGED, HAS4)
    motion.imds(PRIMARY, 60.0, UNREAD)
    motion.imds(MAC, 60.0, UNREAD)
    motion.run(61.0)
    motion.turn = motion.begin(CALM)
    motion.run(120.0)
    assert group(motion) == OURS


def test_an_excluded_enis_bridge_is_left_alone() -> None:
    policy = replace(CALM, exclude=("eth1",))
    motion = host_with(sets(SHIM), HAS6, policy=policy)
    assert group(motion) == 0


def test_somebody_elses_group_is_told_and_gone_round() -> None:
    motion = host_with(sets(PORT0, replace(BRIDGE, group=5)), HAS4)
    assert codes(motion) == ["primary-port", "foreign-group"]
    detours = {r.dst for r in motion.kernel.own_rules if r.dst}
    assert {str(each) for each in detours} == {"10.0.1.0/24"}
    motion.kernel.set_link(replace(BRIDGE, group=0))
    motion.run(61.0)
    assert group(motion) == OURS
    assert codes(motion) == ["primary-port"]
    assert not {r.dst for r in motion.kernel.own_rules if r.dst}


def test_of_the_primary_itself_it_is_told_too() -> None:
    motion = host_with(sets(replace(ETH0, group=5)))
    assert codes(motion) == ["foreign-group"]
    assert group(motion, 2) == 5


def test_somebody_who_keeps_setting_it_is_a_fight() -> None:
    motion = host_with(BRIDGED, HAS4)
    for second in range(8):
        motion.kernel.set_link(replace(motion.kernel.links[9], group=0))
        motion.run(61.0 + second)
    assert motion.host.interfaces[2].fights.reason


def test_containers_behind_it_are_where_main_says() -> None:
    """The guards hide what main has by the link, but for networks that are no ENI's."""
    kept = (static("10.0.2.192/27", index=9), static("192.168.7.0/24", index=9))
    motion = host_with(sets(SHIM), HAS6, puts(*kept, permanent("10.0.2.223/24", 9)))
    rules = [r for r in motion.kernel.own_rules if r.family is Family.V4 and r.oif == "eth1"]
    words = [(str(r.dst) if r.dst else "", r.table, r.suppress_ifgroup) for r in rules]
    assert words == [
        ("10.0.2.192/27", 254, None),
        ("192.168.7.0/24", 254, None),
        ("", 254, OURS),
        ("", Numbers().table_of(3), None),
    ]
    motion.kernel.drop(*kept)
    motion.run(61.0)
    assert not {r.dst for r in motion.kernel.own_rules if r.dst}
    assert all(isinstance(o, AddRule | RemoveRule) for t, o in motion.written if t > 60.5)


def test_another_group_changes_without_a_gap_for_the_subnet_beneath(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Main leads to eth1's own subnet by the shim: while two groups are about, it is gone round."""
    motion = host_with(sets(SHIM), HAS6, puts(permanent("10.0.2.223/24", 9)))
    before = len(motion.written)
    monkeypatch.setattr(turn, "ROUNDS", 5)  # four that write: so that one turn sees the end
    motion.turn = motion.begin(replace(CALM, numbers=Numbers(group=4000)))
    motion.run(120.0)
    assert group(motion) == 4000
    done = [operation for _, operation in motion.written[before:]]
    moved = done.index(SetGroup(9, 4000))
    detours = [i for i, o in enumerate(done) if isinstance(o, AddRule) and str(o.rule.dst) == NET4]
    ended = [i for i, o in enumerate(done) if isinstance(o, RemoveRule) and str(o.rule.dst) == NET4]
    guards = [
        i for i, o in enumerate(done) if isinstance(o, AddRule) and o.rule.suppress_ifgroup == 4000
    ]
    # The copies that follow stand behind guards, and each is removed after it was added.
    assert detours[1] < min(guards) < max(guards) < moved < max(ended)
    assert not [r for r in motion.kernel.own_rules if r.dst]


# --- events --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "delay"),
    [
        pytest.param(LinkEvent(50, "br7", "bridge"), 0.1, id="a new bridge"),
        pytest.param(LinkEvent(50, "eth1.7", "vlan"), 0.1, id="a new VLAN"),
        pytest.param(LinkEvent(9), 0.1, id="a port joins or leaves the bridge"),
        pytest.param(AddressEvent(9), 0.1, id="an address on it"),
        pytest.param(RouteEvent(Family.V4, 254, 3, 9), 0.1, id="a route through it"),
        pytest.param(LinkEvent(50, "v7", "veth"), None, id="a container's link"),
        pytest.param(LinkEvent(50), None, id="which joins a bridge"),
        pytest.param(RouteEvent(Family.V4, 254, 3, 50), None, id="and has a route"),
        pytest.param(AddressEvent(50, link_local=True), None, id="and an address of its own"),
    ],
)
def test_which_events_make_it_look(event: Event, delay: float | None) -> None:
    motion = host_with(BRIDGED, HAS4)
    assert motion.turn.picture.take_event(event, motion.now, by_us=False) == delay


def test_containers_that_join_the_bridge_have_one_link_read() -> None:
    motion = host_with(BRIDGED, HAS4)
    picture = motion.turn.picture
    for index in range(100, 5100):
        picture.take_event(LinkEvent(index, f"v{index}", "veth"), motion.now, by_us=False)
        picture.take_event(LinkEvent(9), motion.now, by_us=False)
        picture.take_event(LinkEvent(index, gone=True), motion.now, by_us=False)
    assert picture.links_wanted(motion.now).indices == frozenset({9})
    wanted = picture.objects_wanted(0.0)
    assert [index for index, _ in wanted.links] == [9]
    assert (wanted.own, wanted.everywhere) == (False, False)


# --- addresses that are on top of an ENI ---------------------------------------------------------


def test_what_a_link_on_top_has_is_off_the_eni_and_leaves_by_it() -> None:
    """A shim of the ENI has an address that IMDS lists on it."""
    motion = host_with(sets(SHIM), puts(permanent(f"{IPV4}/32", 9), permanent(f"{IPV6}/128", 9)))
    assert not motion.kernel.addresses_of(3)
    assert selectors(motion, 3) == {"eth1", f"{IPV4}/32"}
    assert selectors(motion, 3, 6) == {"eth1", f"{IPV6}/128"}
    found = [(note.code, "macvlan9" in note.text) for note in notes(motion, 3)]
    assert found == [("lives-elsewhere", True)] * 2


def test_a_port_is_not_told_that_its_bridge_has_its_addresses() -> None:
    motion = host_with(sets(PORT1, BRIDGE), puts(permanent(f"{IPV4}/24", 9)))
    assert not notes(motion, 3)


def test_of_another_eni_it_is_elsewhere() -> None:
    shim = replace(SHIM, lower=2)
    motion = host_with(sets(shim), puts(permanent(f"{IPV4}/32", 9)))
    assert {note.code for note in notes(motion, 3)} >= {"held-elsewhere"}
    assert selectors(motion, 3) == {"eth1"}


def notes(motion: FastMotion, index: int) -> tuple[Reason, ...]:
    return motion.host.interfaces[index].view().notes
