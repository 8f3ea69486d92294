"""Addresses that others put on an ENI's link and took away again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest

from nicwatchd.core.floating import LAG, MOMENT, Floating, Record, Taken
from nicwatchd.core.model import AddAddress, Address, Family, IPAddress
from nicwatchd.core.policy import Policy
from nicwatchd.core.polling import WATCH, WATCH_INTERVAL
from nicwatchd.core.port import AddressEvent, Event, Ipv6Event, LinkEvent
from tests.core.build import (
    IPV4,
    IPV6,
    MAC,
    NET4,
    NET6,
    V4,
    V6,
    added,
    eni,
    family,
    ip,
    lease,
    permanent,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, CALM, FULL, applied, at_rest, hot_plugged, quiet, selectors

VIP: Final = {V4: "10.0.2.77", V6: "2001:db8:0:2::77"}
BITS: Final = {V4: 32, V6: 128}
BOTH = pytest.mark.parametrize("which", Family, ids=lambda each: each.label)
WITH_VIP: Final = eni(
    family(f"{IPV4} {VIP[V4]}", cidrs=NET4), family(f"{IPV6} {VIP[V6]}", cidrs=NET6)
)


def vip(which: Family, **more: object) -> Address:
    return replace(permanent(f"{VIP[which]}/{BITS[which]}"), **more)  # type: ignore[arg-type]


def own(which: Family) -> Address:
    return added({V4: f"{IPV4}/32", V6: f"{IPV6}/128"}[which])


def there(motion: FastMotion, which: Family) -> bool:
    return ip(VIP[which]) in {address.ip for address in motion.kernel.addresses_of(3)}


def notes(motion: FastMotion) -> list[str]:
    return [note.code for note in motion.host.interfaces[3].view().notes]


def with_vip(which: Family, policy: Policy = CALM) -> FastMotion:
    """An ENI to which a manager brought an address, which IMDS lists."""
    motion = applied(policy=policy)
    motion.at(140.0, lambda: motion.kernel.put(vip(which)))
    motion.imds(MAC, 141.0, WITH_VIP)
    motion.run(600.0)
    return motion


# --- a host in fast motion -----------------------------------------------------------------------


@BOTH
def test_what_was_taken_away_is_not_put_back_while_imds_lists_it(which: Family) -> None:
    motion = with_vip(which)
    written = len(motion.written)
    motion.at(700.0, lambda: motion.kernel.drop(vip(which)))
    motion.run(2000.0)
    assert not there(motion, which)
    assert not any(isinstance(each, AddAddress) for _, each in motion.written[written:])
    assert VIP[which] + f"/{BITS[which]}" not in selectors(motion, 3, which)
    assert (notes(motion), motion.state()) == (["taken-away"], APPLIED)
    assert quiet(motion)


def test_ipv6_that_is_switched_off_takes_nothing_away() -> None:
    """The manager's is the ENI's only IPv6 address: nothing else goes with it."""
    motion = hot_plugged(eni(family(IPV4, cidrs=NET4), family(VIP[V6], cidrs=NET6)), CALM)
    motion.at(150.0, lambda: motion.kernel.put(vip(V6)))
    motion.at(700.0, lambda: motion.kernel.state.disable_ipv6(3, disabled=True))
    motion.at(800.0, lambda: motion.kernel.state.disable_ipv6(3, disabled=False))
    motion.run(900.0)
    assert there(motion, V6)
    assert "taken-away" not in notes(motion)


@BOTH
def test_imds_ceases_to_list_it_and_lists_it_anew(which: Family) -> None:
    motion = with_vip(which)
    motion.at(700.0, lambda: motion.kernel.drop(vip(which)))
    motion.imds(MAC, 720.0, FULL)
    motion.run(750.0)
    assert notes(motion) == [], "an unassignment shows within 30 s"
    motion.imds(MAC, 900.0, WITH_VIP)
    motion.run(1000.0)
    assert there(motion, which)


@BOTH
def test_one_reading_that_lacks_it_is_not_believed(which: Family) -> None:
    motion = with_vip(which)
    motion.at(700.0, lambda: motion.kernel.drop(vip(which)))
    motion.imds(MAC, 703.0, FULL)
    motion.imds(MAC, 708.0, WITH_VIP)
    motion.run(2000.0)
    assert (there(motion, which), notes(motion)) == (False, ["taken-away"])


@BOTH
def test_imds_that_lags_lists_it_only_after_it_was_taken_away(which: Family) -> None:
    motion = applied(policy=CALM)
    motion.at(140.0, lambda: motion.kernel.put(vip(which)))
    motion.at(150.0, lambda: motion.kernel.drop(vip(which)))
    motion.imds(MAC, 155.0, WITH_VIP)
    motion.run(600.0)
    assert not there(motion, which)
    assert notes(motion) == ["taken-away"]


@BOTH
def test_what_imds_lists_long_after_is_assigned_anew(which: Family) -> None:
    motion = applied(policy=CALM)
    motion.at(140.0, lambda: motion.kernel.put(vip(which)))
    motion.at(150.0, lambda: motion.kernel.drop(vip(which)))
    motion.imds(MAC, 150.0 + 2 * LAG, WITH_VIP)
    motion.run(900.0)
    assert there(motion, which)


@BOTH
def test_its_manager_brings_it_back(which: Family) -> None:
    motion = with_vip(which)
    motion.at(700.0, lambda: motion.kernel.drop(vip(which)))
    motion.at(800.0, lambda: motion.kernel.put(vip(which)))
    motion.run(900.0)
    assert notes(motion) == []
    assert motion.state() is APPLIED


def test_imds_is_polled_every_few_seconds_for_a_minute() -> None:
    motion = with_vip(V4)
    motion.at(700.0, lambda: motion.kernel.drop(vip(V4)))
    motion.run(1000.0)
    polls = motion.polls(3, 700.0, 700.0 + WATCH)
    assert WATCH / WATCH_INTERVAL <= polls <= WATCH / WATCH_INTERVAL + 2
    assert motion.polls(3, 770.0, 1000.0) <= 230 / at_rest() + 1


@BOTH
def test_what_is_ours_is_put_back(which: Family) -> None:
    motion = applied(WITH_VIP)
    motion.at(200.0, lambda: motion.kernel.drop(added(f"{VIP[which]}/{BITS[which]}")))
    motion.run(210.0)
    assert there(motion, which)
    assert notes(motion) == []


@BOTH
def test_what_others_took_over_is_theirs(which: Family) -> None:
    motion = applied(WITH_VIP)
    motion.at(200.0, lambda: motion.kernel.put(vip(which)))
    motion.at(210.0, lambda: motion.kernel.drop(vip(which)))
    motion.run(600.0)
    assert (there(motion, which), notes(motion)) == (False, ["taken-away"])


@BOTH
def test_a_lease_that_ends_is_put_back(which: Family) -> None:
    motion = applied(WITH_VIP)
    motion.at(200.0, lambda: motion.kernel.put(vip(which, dynamic=True)))
    motion.at(210.0, lambda: motion.kernel.drop(vip(which, dynamic=True)))
    motion.run(220.0)
    assert there(motion, which)
    assert notes(motion) == []


def test_the_link_takes_ipv6_addresses_when_it_goes_down() -> None:
    motion = with_vip(V6)
    link = motion.kernel.links[3]
    motion.at(700.0, lambda: motion.kernel.set_link(replace(link, up=False)))
    motion.at(701.0, lambda: motion.kernel.set_link(link))
    motion.run(710.0)
    assert there(motion, V6)
    assert notes(motion) == []


ONLY_VIP: Final = eni(family(f"{IPV4} {VIP[V4]}", cidrs=NET4), family(VIP[V6], cidrs=NET6))


def drop(motion: FastMotion) -> None:
    motion.kernel.drop(vip(V6))
    motion.turn.take_event(AddressEvent(3, deleted=True, ip=ip(VIP[V6])), motion.now)


def change(motion: FastMotion, *told: Event, **changes: object) -> None:
    """Change the link for a moment: the kernel tells what happens, then what goes with it."""
    link = motion.kernel.links[3]
    lost = [each.ip for each in motion.kernel.addresses_of(3) if each.family is V6]
    motion.kernel.set_link(replace(link, **changes))  # type: ignore[arg-type] # a field's
    ends = (AddressEvent(3, deleted=True, ip=each) for each in lost)
    for event in (*told, Ipv6Event(3), *ends):
        motion.turn.take_event(event, motion.now)
    motion.kernel.set_link(link)


def flap(motion: FastMotion) -> None:
    change(motion, LinkEvent(3, "eth1", down=True), up=False)


def only_vip() -> FastMotion:
    """The manager's is the only IPv6 address of the ENI."""
    motion = hot_plugged(ONLY_VIP, CALM)
    for which in Family:
        motion.at(150.0, lambda which=which: motion.kernel.put(vip(which)))  # type: ignore[misc]
    motion.run(600.0)
    return motion


def off_and_on(motion: FastMotion) -> None:
    change(motion, disable_ipv6=True)


def small_and_large(motion: FastMotion) -> None:
    """IPv6 needs an MTU of 1280."""
    change(motion, LinkEvent(3, "eth1"), mtu=1200, has_ipv6=False)


@pytest.mark.parametrize("begin", [only_vip, lambda: with_vip(V6)], ids=["alone", "beside ours"])
@pytest.mark.parametrize("ends", [flap, off_and_on, small_and_large])
@pytest.mark.parametrize(
    ("before", "taken"), [([drop], True), ([], False)], ids=["taken away", "not taken away"]
)
def test_what_was_taken_away_just_before_the_link_lost_ipv6(
    begin: Callable[[], FastMotion],
    ends: Callable[[FastMotion], None],
    before: list[Callable[[FastMotion], None]],
    *,
    taken: bool,
) -> None:
    """All at once, before anybody could look: the order of the events tells."""
    motion = begin()
    for each in (*before, ends):
        motion.at(700.0, lambda each=each: each(motion))  # type: ignore[misc]
    motion.run(800.0)
    assert there(motion, V6) is not taken
    assert notes(motion) == ["taken-away"] * taken


@BOTH
def test_a_release_is_the_end_of_it(which: Family) -> None:
    motion = with_vip(which)
    motion.at(700.0, lambda: motion.kernel.drop(vip(which)))
    motion.run(800.0)
    motion.turn.release((3, MAC), motion.now)
    motion.run(810.0)
    motion.turn.reconcile((3, MAC), motion.now)
    motion.run(900.0)
    assert there(motion, which)


@BOTH
@pytest.mark.parametrize("dropped", [690.0, 710.0], ids=["before", "meanwhile"])
def test_a_restart(dropped: float, which: Family) -> None:
    motion = with_vip(which)
    if dropped < 700.0:
        motion.at(dropped, lambda: motion.kernel.drop(vip(which)))
    motion.run(700.0)
    records = motion.host.records
    if dropped > 700.0:
        motion.kernel.drop(vip(which))  # nobody looks
    motion.turn = motion.begin(CALM)
    motion.host.recall(records)
    motion.run(1500.0)
    assert (there(motion, which), notes(motion)) == (False, ["taken-away"])


# --- who took it away ----------------------------------------------------------------------------


def told(which: Family, *, process: str, mine: bool = False) -> FastMotion:
    """A manager removes the address, and the notification names it."""
    motion = applied(WITH_VIP) if mine else with_vip(which)
    gone = added(f"{VIP[which]}/{BITS[which]}") if mine else vip(which)

    def drop() -> None:
        motion.kernel.drop(gone)
        event = AddressEvent(3, 4711, deleted=True, ip=gone.ip, process=process)
        motion.turn.take_event(event, motion.now)

    motion.at(700.0, drop)
    motion.run(800.0)
    return motion


def test_the_note_names_who_took_it_away() -> None:
    (note,) = told(V4, process="ip").host.interfaces[3].view().notes
    assert "by port id 4711, perhaps ip" in note.text
    assert "ip addr add 10.0.2.77/32 dev eth1" in note.text


@pytest.mark.parametrize(
    ("process", "away"), [("keepalived", True), ("keepalived_vrrp", True), ("ip", False)]
)
def test_a_known_manager_may_take_away_what_it_did_not_add(process: str, *, away: bool) -> None:
    """It adds an address that is ours already (EEXIST), and later removes it as its own."""
    motion = told(V4, process=process, mine=True)
    assert there(motion, V4) is not away
    assert notes(motion) == (["taken-away"] if away else [])


# --- the books -----------------------------------------------------------------------------------


def taken(which: Floating) -> dict[IPAddress, Taken]:
    return dict(which.taken)


@pytest.mark.parametrize(
    ("before", "after", "down", "gone"),
    [
        pytest.param([vip(V4)], [], False, [V4], id="an IPv4 address"),
        pytest.param([vip(V4)], [], True, [V4], id="which no link takes with it"),
        pytest.param([vip(V6)], [], False, [V6], id="an IPv6 address"),
        pytest.param([vip(V6)], [], True, [], id="of a link that went down"),
        pytest.param([vip(V6), own(V6)], [own(V6)], False, [V6], id="one of two"),
        pytest.param([vip(V6), own(V6)], [], False, [], id="all at once: nobody chose this one"),
        pytest.param([vip(V4), own(V4)], [], False, [V4], id="IPv4: others flushed them"),
        pytest.param([vip(V4, dynamic=True)], [], False, [], id="a lease"),
        pytest.param([vip(V6, from_ra=True)], [], False, [], id="by a router advertisement"),
        pytest.param([vip(V6, scope=253)], [], False, [], id="of the link's scope"),
        pytest.param([own(V4)], [], False, [], id="ours"),
        pytest.param([vip(V4)], [vip(V4, dynamic=True)], False, [], id="it became a lease"),
        pytest.param([vip(V4)], [replace(own(V4), ip=ip(VIP[V4]))], False, [], id="or ours"),
        pytest.param([vip(V4)], [vip(V4, prefixlen=24)], False, [], id="with another length"),
    ],
)
def test_what_counts_as_taken_away(
    *, before: list[Address], after: list[Address], down: bool, gone: list[Family]
) -> None:
    floating = Floating()
    assert floating.look(before, 1.0, down=False) is False
    assert floating.look(after, 2.0, down=down) is bool(gone)
    assert taken(floating) == {ip(VIP[which]): Taken(2.0) for which in gone}


def gone(which: Family) -> Floating:
    floating = Floating()
    floating.look([vip(which)], 1.0, down=False)
    floating.look([], 2.0, down=False)
    return floating


@pytest.mark.parametrize(
    ("which", "later", "kept"),
    [(V6, MOMENT / 2, False), (V6, 2 * MOMENT, True), (V4, MOMENT / 2, True)],
)
def test_the_event_of_the_link_may_come_after_the_look(
    which: Family, later: float, *, kept: bool
) -> None:
    floating = gone(which)
    floating.flapped(2.0 + later)
    assert bool(floating.taken) is kept


Heard = Callable[[Floating], object]
WENT: Final[Heard] = lambda floating: floating.hear_gone(ip(VIP[V6]))  # noqa: E731
OURS_WENT: Final[Heard] = lambda floating: floating.hear_gone(ip(IPV6))  # noqa: E731
LINK: Final[Heard] = lambda floating: floating.flapped(2.0)  # noqa: E731


@pytest.mark.parametrize(
    ("beside", "heard", "gone"),
    [
        pytest.param([], [WENT, LINK], True, id="it, then the link"),
        pytest.param([], [LINK, WENT], False, id="the link takes it along"),
        pytest.param([], [LINK, WENT, LINK], False, id="... and goes down again"),
        pytest.param([], [WENT], False, id="IPv6 was switched off, so that it is down"),
        pytest.param([own(V6)], [WENT, LINK, OURS_WENT], True, id="others went with the link"),
        pytest.param([own(V6)], [OURS_WENT, WENT, LINK], False, id="IPv6 was switched off before"),
    ],
)
def test_the_order_of_the_events_tells_who_took_it(
    beside: list[Address], heard: list[Heard], *, gone: bool
) -> None:
    floating = Floating()
    floating.look([vip(V6), *beside], 1.0, down=False)
    for each in heard:
        each(floating)
    assert floating.look([], 2.0, down=True) is gone


def test_the_event_of_its_end_may_come_after_the_look_and_that_of_the_link_then() -> None:
    floating = gone(V6)
    WENT(floating)
    LINK(floating)
    assert taken(floating) == {ip(VIP[V6]): Taken(2.0)}
    floating.look([], 3.0, down=True)
    assert taken(floating) == {ip(VIP[V6]): Taken(2.0)}


@pytest.mark.parametrize("looks", [1, 2])
def test_what_was_taken_away_a_moment_before_the_link_flapped(looks: int) -> None:
    """Its event came first; that somebody looked in between changes nothing."""
    floating = Floating()
    floating.look([vip(V6), own(V6)], 1.0, down=False)
    WENT(floating)
    for _ in range(looks):
        floating.look([own(V6)], 2.0, down=False)
    LINK(floating)
    assert taken(floating) == {ip(VIP[V6]): Taken(2.0)}
    floating.look([vip(V6)], 2.1, down=True)
    floating.look([], 2.2, down=False)
    LINK(floating)
    assert taken(floating) == {}, "it was back, and the link took it along"


def test_the_event_that_names_somebody_may_come_after_the_look() -> None:
    floating = gone(V4)
    floating.suspect(ip(VIP[V4]), "port id 7", "ip")
    assert taken(floating) == {ip(VIP[V4]): Taken(2.0, "port id 7")}


ALL: Final[frozenset[Family]] = frozenset(Family)
LISTED: Final = frozenset({ip(VIP[V4])})
NOTHING: Final[frozenset[IPAddress]] = frozenset()


@pytest.mark.parametrize(
    ("heard", "kept"),
    [
        pytest.param(lambda f: f.hear(LISTED, NOTHING, 1000.0), True, id="IMDS lists it"),
        pytest.param(lambda f: f.hear(NOTHING, frozenset(), 3.0), True, id="IMDS may lag"),
        pytest.param(lambda f: f.hear(NOTHING, frozenset(), 3.0 + LAG), False, id="it does not"),
        pytest.param(lambda f: f.hear(NOTHING, ALL, 1000.0), True, id="IMDS did not answer yet"),
        pytest.param(lambda f: f.forget(), False, id="released"),
        pytest.param(
            lambda f: (f.hear(LISTED, frozenset(), 3.0), f.hear(NOTHING, frozenset(), 4.0)),
            False,
            id="IMDS ceased to list it",
        ),
    ],
)
def test_how_long_it_counts(heard: Callable[[Floating], object], *, kept: bool) -> None:
    floating = gone(V4)
    heard(floating)
    assert bool(floating.taken) is kept


def test_what_outlives_the_daemon() -> None:
    floating = Floating()
    floating.look([vip(V4), vip(V6), own(V6), lease("10.0.2.9/24")], 1.0, down=False)
    floating.suspect(ip(VIP[V4]), "port id 7", "ip")
    floating.look([vip(V6), own(V6)], 2.0, down=False)
    record = Record(
        frozenset({ip(VIP[V6])}), frozenset({(ip(VIP[V4]), "port id 7")}), frozenset({ip(IPV6)})
    )
    assert floating.record == record
    again = Floating()
    again.recall(record, 10.0)
    again.look([own(V6)], 11.0, down=False)
    assert taken(again) == {
        ip(VIP[V4]): Taken(10.0, "port id 7", listed=True),
        ip(VIP[V6]): Taken(11.0),
    }
    assert Floating().record == Record()


def test_a_link_that_went_down_says_so_later() -> None:
    motion = with_vip(V6)
    motion.kernel.drop(vip(V6))
    motion.run(700.0)
    motion.turn.take_event(LinkEvent(3, "eth1", down=True), motion.now)
    assert notes(motion) == ["taken-away"], "long after, it says nothing of it"


# --- a manager that ends -------------------------------------------------------------------------


def adopt(motion: FastMotion, which: Family) -> None:
    key = motion.host.interfaces[3].key
    motion.turn.reconcile(key, motion.now, [ip(VIP[which])])


@BOTH
@pytest.mark.parametrize("when", [650.0, 750.0], ids=["before", "after"])
def test_what_a_manager_that_ends_takes_away_is_put_back(which: Family, when: float) -> None:
    motion = with_vip(which)
    motion.at(when, lambda: adopt(motion, which))
    motion.at(700.0, lambda: motion.kernel.drop(vip(which)))
    motion.run(800.0)
    assert (there(motion, which), notes(motion)) == (True, [])
    # It is ours by now: another manager's removal counts again.
    motion.at(810.0, lambda: motion.kernel.drop(added(f"{VIP[which]}/{BITS[which]}")))
    motion.at(810.1, lambda: motion.kernel.put(vip(which)))
    motion.at(900.0, lambda: motion.kernel.drop(vip(which)))
    motion.run(1000.0)
    assert (there(motion, which), notes(motion)) == (False, ["taken-away"])


@BOTH
def test_only_what_is_named_is_adopted(which: Family) -> None:
    motion = with_vip(which)
    motion.at(650.0, lambda: adopt(motion, V6 if which is V4 else V4))
    motion.at(700.0, lambda: motion.kernel.drop(vip(which)))
    motion.run(800.0)
    assert (there(motion, which), notes(motion)) == (False, ["taken-away"])
