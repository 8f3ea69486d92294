"""The verdicts of a whole host from turn to turn: since when, after how long, and what is told."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import pytest

from nicwatchd.core.health import FamilyHealth, Health, follow, worst
from nicwatchd.core.kept import WHOLE
from nicwatchd.core.metadata import ABSENT, Value
from nicwatchd.core.model import MAIN_TABLE, Family, Reason, Route, Rule
from nicwatchd.core.news import HealthChanged
from nicwatchd.core.policy import Policy, PrimaryMode
from nicwatchd.core.reach import NOTHING_AMISS
from tests.core.build import (
    ETH0,
    ETH1,
    FULL4,
    FULL6,
    IPV4,
    IPV6,
    MAC,
    NET4,
    PRIMARY,
    V4,
    V6,
    eni,
    family,
    ip,
    lease,
    net,
    permanent,
    static,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import CALM, OF_PRIMARY, applied, dhcp4, dhcp6, hot_plugged

WORKING, DEGRADED, NOT_WORKING = Health.WORKING, Health.DEGRADED, Health.NOT_WORKING
WORKS = FamilyHealth(V4, WORKING, 10.0, worked_after=3.0)
WAITS = FamilyHealth(V4, NOT_WORKING, 10.0, causes=(Reason("a", "x"),), waits=True)
FAILS = replace(WAITS, waits=False)


# --- one verdict after another ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(None, WORKS, WORKS, id="the first one"),
        pytest.param(
            replace(WORKS, since=1.0, worked_after=2.0),
            WORKS,
            replace(WORKS, since=1.0, worked_after=2.0),
            id="it still works: since then, and so it was the first time",
        ),
        pytest.param(FAILS, replace(WORKS, since=20.0), replace(WORKS, since=20.0), id="it works"),
        pytest.param(
            replace(WORKS, worked_after=2.0),
            replace(FAILS, since=20.0),
            replace(FAILS, since=20.0, worked_after=2.0),
            id="it worked once",
        ),
        pytest.param(
            WAITS, replace(WAITS, since=189.9), WAITS, id="it waits, and that is in its time"
        ),
        pytest.param(WAITS, replace(WAITS, since=190.0), FAILS, id="it has waited for too long"),
    ],
)
def test_what_follows(
    before: FamilyHealth | None, after: FamilyHealth, expected: FamilyHealth
) -> None:
    assert follow(before, after, 180.0) == expected


def test_the_worst() -> None:
    assert worst([]) is None
    assert worst([WORKING, DEGRADED, WORKING]) is DEGRADED
    assert worst([DEGRADED, NOT_WORKING]) is NOT_WORKING
    assert worst([WORKING]) is WORKING


# --- of a host -------------------------------------------------------------------------------


def health(motion: FastMotion, which: Family = V4, index: int = 3) -> FamilyHealth | None:
    return motion.host.interfaces[index].health.get(which)


def is_(motion: FastMotion, which: Family = V4, index: int = 3) -> tuple[Health, list[str]]:
    found = health(motion, which, index)
    assert found
    return found.health, [cause.code for cause in found.causes]


def told(motion: FastMotion, name: str = "eth1") -> list[tuple[Family, str, str]]:
    """The news of one interface's health: the family, and what it was and is."""

    def word(each: FamilyHealth | None) -> str:
        return "none" if each is None else "waits" if each.waits else each.health

    news = [each for each in motion.news if isinstance(each, HealthChanged)]
    its = [each for each in news if each.view.link.name == name]
    assert all(each.view.health.get(each.family) == each.after for each in its)
    return [(each.family, word(each.before), word(each.after)) for each in its]


def test_an_eni_comes_and_works() -> None:
    motion = hot_plugged()
    dhcp4(motion, 10.5)
    dhcp6(motion, 10.6)
    motion.run(60.0)
    for which, mine in ((V4, IPV4), (V6, IPV6)):
        found = health(motion, which)
        assert found
        assert (found.health, found.answering, found.silent) == (WORKING, (ip(mine),), ())
        assert found.worked_after is not None
        assert 0 < found.worked_after < 6
        assert found.since == 10.0 + found.worked_after
        mine_told = [(was, now) for family, was, now in told(motion) if family is which]
        assert mine_told == [("none", "waits"), ("waits", "working")]


def test_ipv4_works_while_ipv6_is_undecided() -> None:
    """And in the end the ENI has no IPv6: then only IPv4 counts."""
    motion = hot_plugged(eni(FULL4))
    dhcp4(motion, 10.1)
    motion.run(12.0)
    assert is_(motion)[0] is WORKING
    waits = health(motion, V6)
    assert waits
    assert (waits.waits, is_(motion, V6)) == (True, (NOT_WORKING, ["undecided-ipv6"]))
    motion.run(60.0)
    assert health(motion, V6) is None
    assert told(motion)[-1] == (V6, "waits", "none")
    assert is_(motion)[0] is WORKING


def test_the_primary_alone_works() -> None:
    motion = applied()
    assert is_(motion, index=ETH0.index) == (NOT_WORKING, ["address-missing"]), "none is there"
    motion.kernel.put(lease("10.0.1.10/24", index=2), static("0.0.0.0/0", "10.0.1.1", index=2))
    motion.run(140.0)
    assert is_(motion, index=ETH0.index) == (WORKING, [])


def test_what_nobody_configured_on_a_host_of_one_eni_is_a_note_until_there_is_another() -> None:
    motion = FastMotion(CALM)
    two = eni(family("10.0.1.10 10.0.1.11", cidrs="10.0.1.0/24"), mac=Value(PRIMARY))
    motion.imds(PRIMARY, 0.0, two)
    motion.kernel.put(lease("10.0.1.10/24", index=2), static("0.0.0.0/0", "10.0.1.1", index=2))
    motion.run(300.0)
    assert is_(motion, index=ETH0.index) == (WORKING, [])
    (note,) = motion.host.interfaces[ETH0.index].view().notes
    assert (note.code, note.remedy) == (
        "address-unconfigured",
        "sudo ip addr add 10.0.1.11/32 dev eth0",
    )
    motion.plug(310.0, ETH1)
    motion.imds(MAC, 310.0, eni(FULL4, FULL6))
    motion.run(400.0)
    found = health(motion, index=ETH0.index)
    assert found
    assert (found.health, found.answering) == (WORKING, (ip("10.0.1.10"), ip("10.0.1.11")))
    assert motion.host.interfaces[ETH0.index].view().notes == ()


def takes_all(index: int) -> list[Any]:
    """What wg-quick puts into the kernel, but for the tunnel's link."""
    mark: dict[str, Any] = {"fwmark": 51820, "fwmask": 0xFFFFFFFF}
    return [
        Route(net("0.0.0.0/0"), 51820, index, 3),
        Rule(V4, 32764, 51820, protocol=3, inverted=True, **mark),
        Rule(V4, 32763, MAIN_TABLE, protocol=3, suppress_prefixlength=0),
    ]


def test_a_full_tunnel_takes_the_answers_and_the_remedy_gives_them_back() -> None:
    motion = applied()
    motion.kernel.set_link(
        replace(ETH1, index=9, mac="", name="wg0", driver=None, kind="wireguard")
    )
    motion.kernel.put(permanent("10.99.0.2/32", index=9), *takes_all(9))
    motion.run(131.0)
    found = health(motion)
    assert found
    assert (found.health, found.silent, found.waits) == (NOT_WORKING, (ip(IPV4),), False)
    assert (
        "leave by wg0 instead of eth1, by rule 32764 (not from all fwmark" in found.causes[0].text
    )
    assert is_(motion, V6)[0] is WORKING
    assert told(motion)[-1] == (V4, "working", "not-working")
    assert found.worked_after is not None, "it worked once"
    words = found.causes[0].remedy.split()
    assert words[:6] == ["sudo", "ip", "rule", "add", "pref", "32763"] or words[5] == "32762"
    table, source = int(words[-1]), net(words[words.index("from") + 1])
    before = Rule(V4, 32762, table, protocol=3, src=source, iif="lo")
    motion.kernel.put(before)
    motion.run(200.0)
    assert is_(motion) == (WORKING, [])


def test_what_is_left_alone_has_no_health() -> None:
    motion = applied()
    assert is_(motion)[0] is WORKING
    motion.turn.release((3, MAC), motion.now)
    motion.run(135.0)
    assert motion.host.interfaces[3].health == {}
    assert told(motion)[-2:] == [(V4, "working", "none"), (V6, "working", "none")]
    motion.turn.reconcile((3, MAC), motion.now)
    motion.run(145.0)
    assert is_(motion)[0] is WORKING


def test_an_excluded_eni_has_none() -> None:
    motion = hot_plugged(policy=replace(CALM, exclude=(MAC,)))
    dhcp4(motion, 10.5)
    motion.run(60.0)
    assert motion.host.interfaces[3].health == {}


def test_a_container_s_address_and_one_that_is_left_are_no_cause() -> None:
    reading = eni(family(f"{IPV4} 10.0.2.11 10.0.2.12", cidrs=NET4), FULL6)
    policy = replace(CALM, leave_addresses=(net("10.0.2.12/32"),))
    motion = applied(reading, policy)
    found = health(motion)
    assert found
    assert (found.health, len(found.answering)) == (WORKING, 2)
    motion.kernel.set_link(replace(ETH1, index=9, mac="", name="veth9", driver=None, kind="veth"))
    motion.kernel.put(static("10.0.2.11/32", index=9))
    motion.run(140.0)
    found = health(motion)
    assert found
    assert (found.health, found.answering, found.silent) == (WORKING, (ip(IPV4),), ())


def test_a_link_that_is_set_down() -> None:
    motion = applied()
    motion.kernel.set_link(replace(motion.kernel.links[3], up=False))
    motion.run(130.5)
    assert is_(motion) == (NOT_WORKING, ["link-down"])
    motion.kernel.set_link(replace(motion.kernel.links[3], up=True))
    motion.run(140.0)
    assert is_(motion) == (WORKING, [])


@pytest.mark.parametrize("mode", PrimaryMode)
def test_the_default_route_moves_to_the_new_eni(mode: PrimaryMode) -> None:
    """Protected, the primary answers as before; left alone, it does not, and that is said."""
    motion = FastMotion(replace(CALM, primary=mode, egress="leave"))
    motion.kernel.put(lease("10.0.1.10/24", index=2))
    motion.kernel.put(replace(static("0.0.0.0/0", "10.0.1.1", index=2), metric=1024))
    motion.imds(PRIMARY, 0.0, OF_PRIMARY)
    motion.plug(10.0, ETH1)
    motion.imds(MAC, 10.0, eni(FULL4))
    dhcp4(motion, 10.5)
    motion.run(130.0)
    is_left = mode is PrimaryMode.LEAVE
    cut_off = (DEGRADED, ["leaves-elsewhere"])  # hosts of the new subnet, by the new link
    assert is_(motion, index=2) == (cut_off if is_left else (WORKING, []))
    motion.kernel.put(replace(static("0.0.0.0/0", "10.0.2.1"), metric=100, protocol=16))
    motion.run(131.0)
    assert is_(motion, index=2)[0] is (NOT_WORKING if is_left else WORKING)
    assert is_(motion) == (WORKING, [])


def test_waiting_ends_with_the_patience() -> None:
    motion = hot_plugged(eni(FULL4, family(ABSENT, cidrs="2001:db8:0:2::/64")), Policy())
    dhcp4(motion, 10.5)
    motion.imds(MAC, 20.0, eni(FULL4, family(ABSENT, cidrs="2001:db8:0:2::/64")))
    motion.run(180.0)
    found = health(motion, V6)
    assert found
    assert (found.waits, found.health) == (True, NOT_WORKING)
    motion.run(200.0)
    assert health(motion, V6) is None, "it is taken for an IPv4-only interface"


def test_nothing_is_judged_anew_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    motion = applied()
    motion.run(200.0)
    judged: list[object] = []
    monkeypatch.setattr("nicwatchd.core.health_book.judge", lambda *a: judged.append(a))
    book, lookups = motion.turn._health, motion.turn._lookups
    before = motion.host.interfaces[3].health
    book.conclude(lookups.reached, 300.0, held=True)
    book.conclude(lookups.reached, 300.0, held=False)
    assert judged == []
    assert motion.host.interfaces[3].health is before


def test_look_ups_are_repeated_now_and_then_only() -> None:
    motion = applied()
    lookups = motion.turn._lookups
    at = lookups._at
    assert at > -inf
    assert all(each == NOTHING_AMISS for each in lookups.reached.values())
    assert lookups.wanted(at + 1.0, changed=False, held=True).probes == ()
    assert lookups.wanted(at + 1.0, changed=False, held=False).probes == ()
    assert lookups.wanted(at + WHOLE, changed=False, held=True).probes
    assert lookups.wanted(at + WHOLE + 1.0, changed=True, held=True).probes
