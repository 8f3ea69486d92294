"""Who has what, when two links of the host have to do with it: by overlap, and by age."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from nicwatchd.core.metadata import ABSENT, EniMetadata, Unknown, Value
from nicwatchd.core.model import Address, Family, Item, Link, Numbers, Rule
from nicwatchd.core.moves import Claims, Held, held_elsewhere, ruled
from nicwatchd.core.treatment import LOOPBACK_MAC
from tests.core.build import (
    ERROR,
    ETH1,
    MAC,
    NET4,
    NET6,
    NONE,
    PRIMARY,
    UNLISTED,
    UNREAD,
    eni,
    family,
    ip,
    lease,
    net,
    permanent,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, AWAITING, CALM, ETH2, IGNORED, MAC2, quiet, selectors
from tests.core.test_moves import by_table, rule_of

pytestmark = pytest.mark.long


LAG = Unknown("listed, but 404 (IMDS lags)", listed=True)


def says(mac: str, v4: str = "", v6: str = "", p4: str = "", p6: str = "") -> EniMetadata:
    """An ENI in the subnet that all share; lists with spaces between the items."""
    four = family(v4 or ABSENT, p4 or ABSENT, NET4) if v4 or p4 else NONE
    six = family(v6 or ABSENT, p6 or ABSENT, NET6) if v6 or p6 else NONE
    return eni(four, six, mac=Value(mac))


def taken(motion: FastMotion, index: int, text: str) -> bool:
    """Whether a rule to the table of this interface selects the address by more than a subnet."""
    rules = (r for r in motion.kernel.own_rules if r.table == Numbers().table_of(index) and r.src)
    return any(ip(text) in rule.src for rule in rules if rule.src and not rule.iif)


def notes(motion: FastMotion, index: int) -> list[str]:
    view = motion.host.interfaces[index].view()
    return [note.text for note in view.notes if note.code == "held-elsewhere"]


def on(motion: FastMotion, text: str) -> set[int]:
    return {a.index for a in motion.kernel.addresses if a.ip == ip(text)}


# --- overlap, as a table -------------------------------------------------------------------------

A, P, Q = ip("10.0.2.85"), net("10.0.2.80/28"), net("10.0.2.64/27")
READ, UNREAD4 = frozenset[Family](), frozenset({Family.V4})


def ways(index: int, item: Item, *names: str, **more: Any) -> Claims:
    lists: dict[str, Any] = {name: frozenset({item}) for name in names}
    return Claims(index, **lists, **more)


P3 = ways(3, P, "listed")


@pytest.mark.parametrize(
    ("one", "other", "rules", "expected"),
    [
        pytest.param(P3, ways(4, A, "listed"), [], {3: {P: Held(4, A)}}, id="listed"),
        pytest.param(
            P3, ways(4, A, "listed"), [rule_of(3, str(P))], {3: {P: Held(4, A)}}, id="... later"
        ),
        pytest.param(P3, ways(4, A, "own"), [], {3: {P: Held(4, A, its_own=True)}}, id="own"),
        pytest.param(
            P3,
            ways(4, A, "own", "keeps", yields=True),
            [],
            {3: {P: Held(4, A, its_own=True)}},
            id="kept",
        ),
        pytest.param(P3, ways(4, A, "doubted"), [], {4: {A: Held(3, P)}}, id="freed"),
        pytest.param(P3, ways(4, A, "added"), [], {4: {A: Held(3, P)}}, id="a leftover"),
        pytest.param(
            P3, Claims(4), [rule_of(4, f"{A}/32")], {4: {A: Held(3, P)}}, id="a leftover's rule"
        ),
        pytest.param(
            P3, ways(4, A, "added", unread=UNREAD4), [], {3: {P: Held(4, A)}}, id="unread, added"
        ),
        pytest.param(
            P3,
            Claims(4, unread=UNREAD4),
            [rule_of(4, f"{A}/32")],
            {3: {P: Held(4, A)}},
            id="unread, by its rule",
        ),
        pytest.param(P3, ways(4, A, "listed", yields=True), [], {4: {A: Held(3, P)}}, id="dead"),
        pytest.param(
            ways(3, P, "doubted"), ways(4, A, "listed"), [], {3: {P: Held(4, A)}}, id="freed prefix"
        ),
        pytest.param(ways(3, P, "doubted"), ways(4, A, "doubted"), [], {}, id="both in doubt"),
        pytest.param(
            ways(3, P, "doubted"), ways(4, A, "listed", yields=True), [],
            {3: {P: Held(4, A)}}, id="freed prefix, and the address is a dead link's",
        ),
        pytest.param(
            ways(3, P, "listed", yields=True), ways(4, A, "doubted"), [],
            {4: {A: Held(3, P)}}, id="freed, and the prefix is a dead link's",
        ),
        pytest.param(
            ways(3, P, "doubted"), ways(4, Q, "listed", yields=True), [],
            {3: {P: Held(4, Q)}}, id="freed prefix, and the longer is a dead link's",
        ),
        pytest.param(
            ways(3, P, "doubted"), ways(4, A, "doubted", yields=True), [], {}, id="in doubt, dead"
        ),
        pytest.param(P3, ways(4, Q, "listed"), [], {4: {Q: Held(3, P)}}, id="the longer"),
        pytest.param(
            P3, ways(4, Q, "listed"), [rule_of(4, str(Q))], {3: {P: Held(4, Q)}}, id="the older"
        ),
        pytest.param(P3, ways(4, Q, "doubted"), [], {4: {Q: Held(3, P)}}, id="listed, doubted"),
        pytest.param(
            ways(3, P, "doubted"), ways(4, Q, "listed"), [], {3: {P: Held(4, Q)}}, id="and back"
        ),
        pytest.param(ways(3, P, "doubted"), ways(4, Q, "doubted"), [], {}, id="neither"),
        pytest.param(P3, ways(4, ip("10.0.2.96"), "listed", "own"), [], {}, id="beside it"),
        pytest.param(P3, ways(4, ip("::a00:255"), "own"), [], {}, id="another family"),
        pytest.param(
            Claims(3, listed=frozenset({P, A})), Claims(4), [], {}, id="its own, in its own"
        ),
        pytest.param(
            ways(3, A, "listed"),
            ways(4, A, "own", "keeps"),
            [rule_of(3, f"{A}/32")],
            {3: {A: Held(4, A, its_own=True)}},
            id="equal and kept",
        ),
        pytest.param(
            ways(3, A, "listed"),
            ways(4, A, "own", "listed", "leased", "keeps"),
            [],
            {3: {A: Held(4, A, its_own=True)}},
            id="equal and the primary's",
        ),
        pytest.param(
            Claims(3), ways(4, A, "keeps"), [rule_of(3, f"{A}/32")],
            {3: {A: Held(4, A, its_own=True)}}, id="a leftover's rule for the primary's",
        ),
        pytest.param(
            ways(3, A, "listed"), ways(4, A, "own"), [], {}, id="equal, and only an old lease"
        ),
    ],
)  # fmt: skip
def test_what_overlaps(
    one: Claims, other: Claims, rules: list[Rule], expected: dict[int, dict[Item, Held]]
) -> None:
    for both in ([one, other], [other, one]):
        found = held_elsewhere(both, ruled(rules, by_table))
        assert {index: items for index, items in found.items() if items} == expected


def test_of_several_in_a_prefix_the_same_one_is_named() -> None:
    many = frozenset[Item](ip(f"10.0.2.{n}") for n in range(80, 96))
    assert held_elsewhere([P3, Claims(4, listed=many)], {})[3] == {P: Held(4, ip("10.0.2.80"))}


# --- overlap, on a host --------------------------------------------------------------------------

PRIMARY4, PRIMARY6 = "10.0.2.5", "2001:db8:0:2::5"
AROUND4, AROUND6 = "10.0.2.80/28", "2001:db8:0:2:1::/80"
INSIDE4, INSIDE6 = "10.0.2.85", "2001:db8:0:2:1::85"
RICH = says(MAC, "10.0.2.10", "2001:db8:0:2::10", AROUND4, AROUND6)


def plugged(reading: EniMetadata = RICH, *there: Address) -> FastMotion:
    motion = FastMotion(CALM)
    motion.kernel.put(*there)
    motion.plug(10.0, ETH1)
    motion.imds(MAC, 10.0, reading)
    return motion


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("how", ["lease", "permanent", "/32 and /128"])
def test_no_prefix_holds_an_address_of_the_primary(how: str, before: bool) -> None:
    make = partial(lease if how == "lease" else permanent, index=2)
    lengths = ("32", "128") if how.startswith("/") else ("24", "64")
    own = [make(f"{INSIDE4}/{lengths[0]}"), make(f"{INSIDE6}/{lengths[1]}")]
    motion = plugged(RICH, *(own if before else []))
    if not before:
        motion.run(60.0)
        assert taken(motion, 3, INSIDE4)
        assert taken(motion, 3, INSIDE6)
        motion.kernel.put(*own)
    motion.run(130.0)
    assert not taken(motion, 3, INSIDE4)
    assert not taken(motion, 3, INSIDE6)
    assert motion.state() is APPLIED
    assert notes(motion, 3) == [
        f"IMDS lists {prefix} here, but eth0 has {address}, so it is left out"
        for prefix, address in ((AROUND4, INSIDE4), (AROUND6, INSIDE6))
    ]
    assert quiet(motion)


@pytest.mark.parametrize("how", ["excluded", "foreign", "enslaved"])
def test_no_prefix_holds_an_address_of_any_other_link(how: str) -> None:
    policy = replace(CALM, exclude=("eth2",)) if how == "excluded" else CALM
    motion = FastMotion(policy)
    own = (permanent(f"{INSIDE4}/24", 4), permanent(f"{INSIDE6}/64", 4))
    links = {
        "excluded": ETH2,
        "foreign": replace(ETH2, name="veth2", kind="veth"),
        "enslaved": replace(ETH2, master=9),
    }
    motion.kernel.set_link(links[how])
    motion.kernel.put(*own)
    motion.plug(10.0, ETH1)
    motion.imds(MAC, 10.0, RICH)
    motion.run(130.0)
    assert not taken(motion, 3, INSIDE4)
    assert not taken(motion, 3, INSIDE6)
    assert {str(a.ip) for a in motion.kernel.addresses_of(3)} == {"10.0.2.10", "2001:db8:0:2::10"}
    assert len(notes(motion, 3)) == 2


LO = Link(1, LOOPBACK_MAC, "lo", up=True)
BRIDGE = Link(4, "02:42:00:00:00:01", "br0", up=True, kind="bridge", driver="bridge")


@pytest.mark.parametrize(
    ("link", "lengths"),
    [
        pytest.param(LO, (32, 128), id="lo"),
        pytest.param(BRIDGE, (28, 80), id="a bridge"),
        pytest.param(Link(4, "", "wg0", up=True, kind="wireguard"), (30, 96), id="a VPN"),
    ],
)
def test_a_prefix_that_the_host_itself_uses_is_programmed(
    link: Link, lengths: tuple[int, int]
) -> None:
    """It is delegated for that: what it sends can leave by its ENI only."""
    motion = FastMotion(CALM)
    motion.kernel.set_link(link)
    motion.kernel.put(
        *(
            permanent(f"{address}/{length}", link.index)
            for address, length in zip((INSIDE4, INSIDE6), lengths, strict=True)
        )
    )
    motion.plug(10.0, ETH1)
    motion.imds(MAC, 10.0, RICH)
    motion.run(130.0)
    assert taken(motion, 3, INSIDE4)
    assert taken(motion, 3, INSIDE6)
    assert notes(motion, 3) == []
    assert (on(motion, INSIDE4), on(motion, INSIDE6)) == ({link.index}, {link.index})


@pytest.mark.parametrize("link", [LO, BRIDGE], ids=["lo", "br0"])
@pytest.mark.parametrize("wide", [False, True], ids=["alone", "with a network"])
@pytest.mark.parametrize("when", [0.0, 130.0], ids=["before", "later"])
def test_an_address_that_the_host_itself_uses_is_an_enis_all_the_same(
    link: Link, *, wide: bool, when: float
) -> None:
    """It stays off the ENI's link, and what it sends leaves by the ENI."""
    motion = FastMotion(CALM)
    motion.kernel.set_link(link)
    used = (
        permanent(f"10.0.2.11/{24 if wide else 32}", link.index),
        permanent(f"2001:db8:0:2::11/{64 if wide else 128}", link.index),
    )
    motion.at(when, lambda: motion.kernel.put(*used))
    motion.plug(10.0, ETH1)
    motion.imds(MAC, 10.0, says(MAC, "10.0.2.10 10.0.2.11", "2001:db8:0:2::10 2001:db8:0:2::11"))
    motion.run(260.0)
    for address in used:
        assert taken(motion, 3, str(address.ip)) is not wide
        assert on(motion, str(address.ip)) == {link.index}
    assert len(notes(motion, 3)) == 2 * wide
    assert motion.state() is APPLIED
    assert quiet(motion)


def test_an_address_of_the_primary_stays_the_primarys_whatever_imds_lists() -> None:
    """Poison: its list is unread, or lacks what the kernel has."""
    for reading in (UNREAD, says(PRIMARY, "10.0.2.6", "2001:db8:0:2::6")):
        own = permanent(f"{PRIMARY4}/24", 2), lease(f"{PRIMARY6}/128", 2)
        both = says(MAC, f"10.0.2.10 {PRIMARY4}", f"2001:db8:0:2::10 {PRIMARY6}")
        motion = plugged(both, *own)
        motion.imds(PRIMARY, 0.0, reading)
        motion.run(130.0)
        assert not taken(motion, 3, PRIMARY4)
        assert not taken(motion, 3, PRIMARY6)
        assert (on(motion, PRIMARY4), on(motion, PRIMARY6)) == ({2}, {2})
        assert notes(motion, 3) == [
            f"IMDS lists {address} here, but it is configured on eth0"
            for address in (PRIMARY4, PRIMARY6)
        ]
        assert motion.state() is APPLIED


@pytest.mark.parametrize("to", [PRIMARY, MAC2], ids=["the primary", "another ENI"])
@pytest.mark.parametrize("keeps", [False, True], ids=["freed", "listed still"])
def test_an_address_of_a_freed_prefix_is_the_others_at_once(to: str, keeps: bool) -> None:
    motion = plugged()
    motion.plug(10.0, ETH2)
    other = {PRIMARY: "10.0.2.5", MAC2: "10.0.2.20"}[to]
    other6 = {PRIMARY: PRIMARY6, MAC2: "2001:db8:0:2::20"}[to]
    motion.imds(to, 0.0, says(to, other, other6))
    motion.run(300.0)
    assert taken(motion, 3, INSIDE4)
    if not keeps:
        motion.imds(MAC, 300.0, says(MAC, "10.0.2.10", "2001:db8:0:2::10"))
    motion.imds(to, 300.0, says(to, f"{other} {INSIDE4}", f"{other6} {INSIDE6}"))
    motion.run(361.0)
    assert not taken(motion, 3, INSIDE4)
    assert not taken(motion, 3, INSIDE6)
    assert taken(motion, 4, INSIDE4) == taken(motion, 4, INSIDE6) == (to == MAC2)
    motion.run(500.0)
    assert bool(notes(motion, 3)) == keeps
    assert motion.state() is APPLIED


def test_an_address_inside_what_is_anothers_prefix_now() -> None:
    motion = plugged(says(MAC, f"10.0.2.10 {INSIDE4}", f"2001:db8:0:2::10 {INSIDE6}"))
    motion.plug(10.0, ETH2)
    motion.imds(MAC2, 10.0, says(MAC2, "10.0.2.20", "2001:db8:0:2::20"))
    motion.run(300.0)
    assert taken(motion, 3, INSIDE4)
    motion.imds(MAC, 300.0, says(MAC, "10.0.2.10", "2001:db8:0:2::10"))
    motion.imds(MAC2, 300.0, says(MAC2, "10.0.2.20", "2001:db8:0:2::20", AROUND4, AROUND6))
    motion.run(361.0)
    for address in (INSIDE4, INSIDE6):
        assert not taken(motion, 3, address)
        assert taken(motion, 4, address)
        assert on(motion, address) == set()


def test_a_prefix_waits_for_lists_that_were_not_read_after_a_restart() -> None:
    before = plugged(says(MAC, f"10.0.2.10 {INSIDE4}", f"2001:db8:0:2::10 {INSIDE6}"))
    before.run(130.0)
    motion = FastMotion(CALM, kernel=before.kernel, start=200.0)
    motion.imds(MAC, 0.0, UNREAD)
    motion.plug(200.0, ETH2)
    motion.imds(MAC2, 0.0, says(MAC2, "10.0.2.20", "2001:db8:0:2::20", AROUND4, AROUND6))
    motion.run(300.0)
    for address in (INSIDE4, INSIDE6):
        assert on(motion, address) == {3}
        assert not taken(motion, 4, address)
    motion.imds(MAC, 300.0, says(MAC, "10.0.2.10", "2001:db8:0:2::10"))
    motion.run(400.0)
    assert taken(motion, 4, INSIDE4)
    assert taken(motion, 4, INSIDE6)


# --- age -----------------------------------------------------------------------------------------

X4, X6 = "10.0.2.77", "2001:db8:0:2::77"
OLD = says(MAC, f"10.0.2.10 {X4}", f"2001:db8:0:2::10 {X6}")
NEW = says(MAC2, f"10.0.2.20 {X4}", f"2001:db8:0:2::20 {X6}")
ALL_LAG = eni(
    family(LAG, ABSENT, LAG), family(LAG, ABSENT, LAG), directory=Value(frozenset({"mac"}))
)


def no_carrier(motion: FastMotion) -> None:
    motion.kernel.set_link(replace(motion.kernel.links[3], running=False))


def released(motion: FastMotion) -> None:
    motion.host.releases = motion.host.releases.plus((3, MAC))
    motion.kernel.drop(*(a for a in motion.kernel.addresses_of(3) if a.protocol == 0))


def nothing(motion: FastMotion) -> None:
    """The readings alone tell."""


DEAD: list[tuple[str, EniMetadata, Callable[[FastMotion], None]]] = [
    ("listed no more", UNLISTED, nothing),
    ("listed with 404", ALL_LAG, nothing),
    ("the directory with 404", replace(UNREAD, directory=LAG), nothing),
    ("listed on both, without a carrier", OLD, no_carrier),
    ("listed on both, released", OLD, released),
    ("unreadable, without a carrier", UNREAD, no_carrier),
]
dead = pytest.mark.parametrize(
    ("after", "happens"), [row[1:] for row in DEAD], ids=[row[0] for row in DEAD]
)


@dead
@pytest.mark.parametrize("alone", [False, True], ids=["among others", "all that it has"])
def test_who_lists_it_now_has_it(
    after: EniMetadata, happens: Callable[[FastMotion], None], alone: bool
) -> None:
    """A dead NIC that IMDS forgot an hour ago holds nothing that another ENI has now."""
    one = says(MAC, X4, X6) if alone else OLD
    after = one if after is OLD else after
    motion = plugged(one)
    motion.run(130.0)
    motion.imds(MAC, 200.0, after)
    motion.at(200.0, lambda: happens(motion))
    motion.plug(4000.0, ETH2)
    motion.imds(MAC2, 4000.0, says(MAC2, X4, X6) if alone else NEW)
    motion.run(4100.0)
    for address in (X4, X6):
        assert taken(motion, 4, address)
        assert not taken(motion, 3, address)
        assert on(motion, address) == {4}
    assert motion.state(4) is APPLIED
    assert not notes(motion, 4)
    if happens is not released:
        assert notes(motion, 3)
        assert motion.state(3) in ((AWAITING, IGNORED) if alone else (APPLIED,))
    motion.run(4400.0)  # when waiting is overdue
    assert quiet(motion)
    motion.imds(MAC2, motion.now, says(MAC2, "10.0.2.20", "2001:db8:0:2::20"))
    motion.run(motion.now + 200.0)
    if after in (UNLISTED, ALL_LAG):
        assert on(motion, X4) == set(), "what was lost is not had again unless it is listed again"


@dead
def test_it_is_given_up_in_the_time_of_the_doubts(
    after: EniMetadata, happens: Callable[[FastMotion], None]
) -> None:
    """... where the other lists it while the old one dies."""
    motion = plugged(OLD)
    motion.plug(10.0, ETH2)
    motion.imds(MAC2, 10.0, says(MAC2, "10.0.2.20", "2001:db8:0:2::20"))
    motion.run(300.0)
    motion.imds(MAC, 300.0, after)
    motion.imds(MAC2, 300.0, NEW)
    motion.at(300.0, lambda: happens(motion))
    motion.run(300.0 + 60.0 + 60.0)
    assert (on(motion, X4), on(motion, X6)) == ({4}, {4})


@dead
@pytest.mark.parametrize("when", ["dead before", "dies meanwhile"])
def test_it_is_given_up_to_others_after_a_restart(
    after: EniMetadata, happens: Callable[[FastMotion], None], when: str
) -> None:
    """IMDS never tells this daemon what the dead NIC had; the kernel does, and it has an age."""
    before = plugged(OLD)
    before.plug(10.0, ETH2)
    before.imds(MAC2, 10.0, says(MAC2, "10.0.2.20", "2001:db8:0:2::20"))
    before.run(130.0)
    if when == "dead before":
        before.imds(MAC, 130.0, after)
        happens(before)
        before.run(500.0)
    motion = FastMotion(CALM, kernel=before.kernel, start=600.0)
    if when == "dies meanwhile" or happens is released:  # a release is known from the ledger
        happens(motion)
    motion.imds(MAC, 0.0, after)
    motion.imds(MAC2, 0.0, NEW)
    motion.run(700.0)
    assert (on(motion, X4), on(motion, X6)) == ({4}, {4})
    assert not taken(motion, 3, X4)
    assert not taken(motion, 3, X6)
    assert motion.state(4) is APPLIED
    assert not notes(motion, 4)
    if happens is not released:
        assert len(notes(motion, 3)) == 2
        assert on(motion, "10.0.2.10") == {3}, "nobody else has it"
    motion.run(1200.0)  # when waiting is overdue
    assert quiet(motion)


def test_it_is_kept_while_imds_may_yet_tell_after_a_restart() -> None:
    """An error says nothing, and a few readings are not enough."""
    before = plugged(OLD)
    before.run(130.0)
    for silence, until in ((UNREAD, 4000.0), (UNLISTED, 625.0), (ALL_LAG, 625.0)):
        motion = FastMotion(CALM, kernel=deepcopy(before.kernel), start=600.0)
        motion.imds(MAC, 0.0, silence)
        motion.plug(600.0, ETH2)
        motion.imds(MAC2, 0.0, NEW)
        motion.run(until)
        assert (on(motion, X4), on(motion, X6)) == ({3}, {3})
        motion.imds(MAC, motion.now, OLD)
        motion.run(motion.now + 100.0)
        assert (on(motion, X4), on(motion, X6)) == ({3}, {3})
        assert motion.state(3) is APPLIED


def test_an_eni_that_dies_alone_keeps_all() -> None:
    for _, after, happens in DEAD[:4]:
        motion = plugged(OLD)
        motion.run(130.0)
        motion.imds(MAC, 130.0, after)
        motion.at(130.0, partial(happens, motion))
        motion.run(4000.0)
        assert (on(motion, X4), on(motion, X6)) == ({3}, {3})


def test_the_mac_is_listed_again_and_has_what_it_lists() -> None:
    motion = plugged(OLD)
    motion.run(130.0)
    motion.imds(MAC, 200.0, UNLISTED)
    motion.plug(400.0, ETH2)
    motion.imds(MAC2, 400.0, NEW)
    motion.run(600.0)
    assert on(motion, X4) == {4}
    motion.imds(MAC, 600.0, OLD)
    motion.run(700.0)
    assert on(motion, X4) == {4}, "listed on both: it stays where it is"
    motion.imds(MAC2, 700.0, says(MAC2, "10.0.2.20", "2001:db8:0:2::20"))
    motion.run(900.0)
    assert (on(motion, X4), on(motion, X6)) == ({3}, {3})
    assert (notes(motion, 3), notes(motion, 4)) == ([], [])


@pytest.mark.parametrize("error", [UNREAD, eni(family(ERROR, ERROR, ERROR), family(ERROR))])
def test_an_error_is_no_lapse(error: EniMetadata) -> None:
    motion = plugged(OLD)
    motion.run(130.0)
    motion.imds(MAC, 200.0, error)
    motion.plug(400.0, ETH2)
    motion.imds(MAC2, 400.0, NEW)
    motion.run(2000.0)
    assert (on(motion, X4), on(motion, X6)) == ({3}, {3})


def test_an_eni_that_has_none_of_its_addresses_is_not_applied() -> None:
    """IMDS lists all of it on both, and the other one had it first."""
    motion = plugged(says(MAC, X4, X6))
    motion.run(130.0)
    motion.plug(140.0, ETH2)
    motion.imds(MAC2, 140.0, says(MAC2, X4, X6))
    motion.run(1000.0)
    assert (on(motion, X4), on(motion, X6)) == ({3}, {3})
    assert motion.state(3) is APPLIED
    assert (motion.state(4), motion.reasons(4)) == (AWAITING, {"held-elsewhere"})
    motion.imds(MAC, 1000.0, UNLISTED)
    motion.run(1300.0)
    assert (on(motion, X4), on(motion, X6)) == ({4}, {4})
    assert motion.state(4) is APPLIED


@pytest.mark.parametrize("carrier", [True, False], ids=["both run", "the old one is dead"])
@pytest.mark.parametrize("index", [2, 7], ids=["lower", "higher"])
def test_of_two_links_with_one_mac_the_later_has_it(index: int, carrier: bool) -> None:
    motion = plugged(OLD)
    if index == 2:
        motion.kernel.unplug(2)
        motion.primary = Value("02:00:00:00:00:99")
    motion.run(130.0)
    if not carrier:
        no_carrier(motion)
    motion.plug(200.0, replace(ETH1, index=index, name="eth9"))
    motion.run(400.0)
    assert (on(motion, X4), on(motion, X6)) == ({index}, {index})
    assert motion.state(index) is APPLIED
    assert motion.state(3) is AWAITING
    assert {f"{X4}/32", "10.0.2.10/32"} <= selectors(motion, index)
    motion.kernel.unplug(3)
    motion.run(500.0)
    assert motion.state(index) is APPLIED


def test_of_two_links_with_one_mac_the_one_with_a_carrier_has_it() -> None:
    motion = plugged(OLD)
    motion.run(130.0)
    motion.plug(200.0, replace(ETH1, index=7, name="eth9", running=False))
    motion.run(400.0)
    assert (on(motion, X4), on(motion, X6)) == ({3}, {3})
    assert motion.state(3) is APPLIED
    motion.kernel.set_link(replace(ETH1, index=7, name="eth9"))
    motion.run(500.0)
    assert (on(motion, X4), on(motion, X6)) == ({7}, {7})


def test_many_items_cost_no_more_each() -> None:
    """The searches are by key; what this shows is that it ends at all."""

    def items(number: int) -> frozenset[Item]:
        some = [f"10.{number}.{i // 16}.{i % 16 * 16}" for i in range(2000)]
        return frozenset([*(net(f"{each}/28") for each in some), *(ip(each) for each in some)])

    many = [Claims(number, listed=items(number)) for number in range(20)]
    rules = [rule_of(n, f"10.{n}.0.{i}/32") for n in range(20) for i in range(256)]
    assert not any(held_elsewhere(many, ruled(rules, by_table)).values())
