"""What moves from one ENI of the host to another: always on one, and never on a doubt."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from nicwatchd.core.lifecycle import State
from nicwatchd.core.metadata import ABSENT, EniMetadata, Value
from nicwatchd.core.model import Address, Family, Item, Numbers, Rule
from nicwatchd.core.moves import Claims, programmed, rightful_owners
from tests.core.build import (
    ERROR,
    FULL4,
    IPV4,
    MAC,
    NET4,
    NET6,
    NONE,
    UNREAD,
    V4,
    V6,
    added,
    eni,
    family,
    ip,
    lease,
    net,
    permanent,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, ETH2, MAC2, applied, quiet, selectors

# --- whose it is ---------------------------------------------------------------------------------

X = ip("2001:db8:0:2::99")
P = net("10.0.2.64/28")


def here(index: int, **ways: bool) -> Claims:
    """An ENI that has the item in the ways that are named."""
    items: dict[str, Any] = {way: frozenset({X}) for way in ways}
    return Claims(index, **items)


def rule_of(index: int, src: str = "2001:db8:0:2::99/128", **more: Any) -> Rule:
    which = Family(net(src).version)
    return replace(Rule(which, 32765, Numbers().table_of(index), src=net(src)), **more)


def by_table(table: int) -> frozenset[int]:
    return frozenset({Numbers().index_of(table) or 0})


@pytest.mark.parametrize(
    ("claims", "rules", "holder"),
    [
        pytest.param([here(3, listed=True), here(4)], [], None, id="nobody-else"),
        pytest.param([here(3, doubted=True), here(4, listed=True)], [rule_of(3)], 4, id="moved"),
        pytest.param([here(3, leased=True), here(4, listed=True)], [rule_of(3)], 4, id="old-lease"),
        pytest.param([here(3, added=True), here(4, listed=True)], [], 4, id="old-address"),
        pytest.param([here(3, listed=True), here(4, listed=True)], [rule_of(4)], 4, id="by-rule"),
        pytest.param(
            [here(3, listed=True), here(4, listed=True)], [rule_of(4), rule_of(3)], 4, id="first"
        ),
        pytest.param(
            [here(3, listed=True), here(4, listed=True)],
            [rule_of(4, protocol=3), rule_of(4, iif="lo"), rule_of(-900_000)],
            3,
            id="by-none-of-these-rules",
        ),
        pytest.param(
            [here(3, listed=True), here(4, listed=True, added=True)], [], 4, id="by-address"
        ),
        pytest.param(
            [here(3, listed=True), here(4, listed=True, leased=True)], [rule_of(3)], 4, id="leased"
        ),
        pytest.param(
            [here(3, listed=True, leased=True), here(4, listed=True, leased=True)],
            [rule_of(4)],
            4,
            id="leased-twice",
        ),
        pytest.param([here(3, listed=True), here(4, listed=True)], [], 3, id="by-number"),
        pytest.param(
            [here(3, doubted=True), here(4, doubted=True)], [rule_of(4)], 4, id="doubted-twice"
        ),
        pytest.param([here(3, leased=True), here(4, leased=True)], [], None, id="leases-alone"),
        pytest.param(
            [replace(here(3), unread=frozenset({V6})), here(4, listed=True)],
            [rule_of(3)],
            3,
            id="unread-by-rule",
        ),
        pytest.param(
            [replace(here(3, added=True), unread=frozenset({V6})), here(4, listed=True)],
            [],
            3,
            id="unread-by-address",
        ),
        pytest.param(
            [replace(here(3), unread=frozenset({V4})), here(4, listed=True)],
            [rule_of(3)],
            4,
            id="the-other-family-unread",
        ),
        pytest.param(
            [replace(here(3), unread=frozenset({V6})), here(4, listed=True)],
            [],
            None,
            id="unread-and-nothing-else",
        ),
    ],
)
def test_who_has_it(claims: list[Claims], rules: list[Rule], holder: int | None) -> None:
    expected: dict[Item, int] = {} if holder is None else {X: holder}
    assert rightful_owners(claims, rules, by_table) == expected
    assert rightful_owners(claims[::-1], rules, by_table).keys() == expected.keys()


def test_a_prefix_is_known_by_its_rule() -> None:
    old = Claims(3, unread=frozenset({V4}))
    new = Claims(4, listed=frozenset({P}))
    assert rightful_owners([old, new], [rule_of(3, str(P))], by_table) == {P: 3}
    assert rightful_owners([old, new], [], by_table) == {}


def own(address: str, index: int = 3) -> Address:
    return added(f"{address}/{ip(address).max_prefixlen}", index)


@pytest.mark.parametrize(
    ("addresses", "rules", "expected"),
    [
        pytest.param([], [], (), id="nothing"),
        pytest.param([own(str(X))], [], (X,), id="we added it"),
        pytest.param([], [rule_of(3, str(P))], (P,), id="a prefix, by its rule"),
        pytest.param([], [rule_of(4, str(P))], (), id="another's prefix"),
        pytest.param([], [rule_of(3, str(P), iif="lo")], (), id="a subnet's rule"),
        pytest.param([], [rule_of(3)], (), id="an address that is on no link"),
        pytest.param(
            [permanent(f"{X}/64", 3)], [rule_of(3)], (X,), id="an operator's, with a rule"
        ),
        pytest.param([permanent(f"{X}/64", 3)], [], (), id="... and without"),
        pytest.param([permanent(f"{X}/64", 3)], [rule_of(4)], (), id="... and another's"),
        pytest.param([lease(f"{X}/128", 3)], [rule_of(3)], (), id="a lease speaks for itself"),
        pytest.param(
            [own(str(X)), own("10.0.2.11")],
            [rule_of(3, str(P)), rule_of(3)],
            (X, ip("10.0.2.11"), P),
            id="all of it once",
        ),
    ],
)
def test_what_an_earlier_life_has_left(
    addresses: list[Address], rules: list[Rule], expected: tuple[Item, ...]
) -> None:
    assert programmed(3, addresses, rules, by_table) == expected


# --- a move, and what IMDS says of it meanwhile --------------------------------------------------


def old(*more: str, prefixes: str | None = None) -> EniMetadata:
    """The ENI that the tests begin with; `more` are addresses."""
    v4 = [IPV4, *(a for a in more if ":" not in a)]
    v6 = ["2001:db8:0:2::10", *(a for a in more if ":" in a)]
    return eni(family(" ".join(v4), prefixes or ABSENT, NET4), family(" ".join(v6), cidrs=NET6))


def new(*more: str, prefixes: str | None = None) -> EniMetadata:
    """Another one in the same subnet."""
    v4 = ["10.0.2.20", *(a for a in more if ":" not in a)]
    v6 = ["2001:db8:0:2::20", *(a for a in more if ":" in a)]
    return eni(
        family(" ".join(v4), prefixes or ABSENT, NET4),
        family(" ".join(v6), cidrs=NET6),
        mac=Value(MAC2),
    )


MOVING = ("10.0.2.77", "2001:db8:0:2::77")
PREFIX = "10.0.2.128/28"


def two(first: EniMetadata, second: EniMetadata) -> FastMotion:
    """Both applied, and long since."""
    motion = applied(first)
    motion.plug(140.0, ETH2)
    motion.imds(MAC2, 140.0, second)
    motion.run(300.0)
    assert (motion.state(3), motion.state(4)) == (APPLIED, APPLIED)
    return motion


def owners(motion: FastMotion) -> set[int]:
    """The interfaces that have the moving addresses and the prefix: on the link, and by rule."""
    wanted = {str(net(a)) for a in MOVING} | {PREFIX}
    found = {a.index for a in motion.kernel.addresses if str(a.ip) in MOVING}
    return found | {
        index for index in (3, 4) for which in Family if selectors(motion, index, which) & wanted
    }


def has_all(motion: FastMotion, index: int) -> bool:
    here = {str(a.ip) for a in motion.kernel.addresses_of(index)}
    return (
        {*MOVING} <= here
        and {"10.0.2.77/32", PREFIX} <= selectors(motion, index)
        and {"2001:db8:0:2::77/128"} <= selectors(motion, index, 6)
    )


@pytest.mark.parametrize("lag", [0.0, 7.0, 100.0])
@pytest.mark.parametrize("first", ["old", "new"])
def test_a_move_is_whole_once_both_lists_tell_of_it(first: str, lag: float) -> None:
    """It is on one of the two at each moment, and at once on the new one when nothing is in doubt.

    Within the refresh interval, since there is no event; not 30 s later, as for what is gone.
    """
    motion = two(old(*MOVING, prefixes=PREFIX), new())
    assert has_all(motion, 3)
    times = {"old": 300.0, "new": 300.0} | {"new" if first == "old" else "old": 300.0 + lag}
    motion.imds(MAC, times["old"], old())
    motion.imds(MAC2, times["new"], new(*MOVING, prefixes=PREFIX))
    # What is in no list for longer than the doubts last is nobody's for a while.
    fewest = 0 if first == "old" and lag > 30.0 else 1
    while motion.now < 300.0 + lag + 61.0:
        assert fewest <= len(owners(motion)) <= 1
        motion.run(motion.now + 0.5)
    assert owners(motion) == {4}
    assert has_all(motion, 4)
    assert (motion.state(3), motion.state(4)) == (APPLIED, APPLIED)
    assert quiet(motion)


def test_until_the_old_list_lacks_it_it_stays_and_a_note_says_so() -> None:
    motion = two(old(*MOVING, prefixes=PREFIX), new())
    motion.imds(MAC2, 300.0, new(*MOVING, prefixes=PREFIX))
    motion.run(400.0)
    assert has_all(motion, 3)
    assert owners(motion) == {3}
    assert motion.state(4) is APPLIED
    notes = [n.text for n in motion.host.interfaces[4].view().notes if n.code == "held-elsewhere"]
    assert notes == [
        f"IMDS lists {item} here too, but it is kept on eth1 until IMDS no longer lists it there"
        for item in ("10.0.2.128/28", *MOVING)
    ]
    assert quiet(motion, 3600.0)
    motion.imds(MAC, motion.now, old())
    motion.run(motion.now + 61.0)
    assert owners(motion) == {4}
    assert not motion.host.interfaces[4].view().notes


def test_the_old_one_is_asked_at_once_when_the_new_one_lists_it() -> None:
    motion = two(old(*MOVING), new())
    motion.imds(MAC, 300.0, old())
    motion.imds(MAC2, 300.0, new(*MOVING))
    motion.host.interfaces[3].polling.next_at = 359.0
    motion.host.interfaces[4].polling.next_at = 301.0
    motion.run(301.1)
    assert owners(motion) == {4}


def test_a_list_that_forgets_and_remembers_moves_nothing_back() -> None:
    motion = two(old(*MOVING), new())
    motion.imds(MAC, 300.0, old())
    motion.imds(MAC2, 300.0, new(*MOVING))
    motion.run(400.0)
    motion.imds(MAC, 400.0, old(*MOVING))
    motion.run(500.0)
    assert owners(motion) == {4}
    assert quiet(motion)


def test_an_error_is_no_word_of_the_old_list() -> None:
    motion = two(old(*MOVING), new())
    motion.imds(MAC, 300.0, eni(family(ERROR, cidrs=NET4), family(ERROR, cidrs=NET6)))
    motion.imds(MAC2, 300.0, new(*MOVING))
    motion.run(1000.0)
    assert owners(motion) == {3}


@pytest.mark.parametrize("reading", [UNREAD, old(*MOVING), old()], ids=["unread", "both", "moved"])
def test_a_restart_in_the_middle_decides_no_other_way(reading: EniMetadata) -> None:
    before = two(old(*MOVING, prefixes=PREFIX), new())
    motion = FastMotion(kernel=before.kernel, start=400.0)
    moved = reading == old()
    reading = reading if reading != old(*MOVING) else old(*MOVING, prefixes=PREFIX)
    motion.imds(MAC, 0.0, reading)
    motion.imds(MAC2, 0.0, new(*MOVING, prefixes=PREFIX))
    motion.run(500.0)
    assert owners(motion) == ({4} if moved else {3})
    assert moved == bool(motion.written)


def test_a_lease_that_outlives_the_move_holds_nothing_up() -> None:
    """DHCPv6's lasts for minutes; it is the client's, so it stays on the old link."""
    motion = two(old(*MOVING), new())
    motion.kernel.put(lease(f"{MOVING[1]}/128"))
    motion.run(301.0)
    motion.imds(MAC, 301.0, old())
    motion.imds(MAC2, 301.0, new(*MOVING))
    motion.run(362.0)
    assert "2001:db8:0:2::77/128" not in selectors(motion, 3, 6)
    assert "2001:db8:0:2::77/128" in selectors(motion, 4, 6)
    assert (motion.state(3), motion.state(4)) == (APPLIED, APPLIED)
    assert [n.text for n in motion.host.interfaces[3].view().notes] == [
        "DHCP configured 2001:db8:0:2::77 here, but IMDS lists it on eth2"
    ]
    motion.kernel.drop(lease("2001:db8:0:2::77/128"))
    motion.run(363.0)
    assert motion.host.interfaces[3].view().notes == ()


def test_the_last_address_of_a_family_moves_though_the_family_then_waits() -> None:
    """Nothing is removed of a family that waits, but this is in no doubt."""
    only6 = eni(FULL4, family(MOVING[1], cidrs=NET6))
    motion = FastMotion()
    motion.plug(10.0, replace(ETH2, index=3, mac=MAC, name="eth1"))
    motion.imds(MAC, 10.0, only6)
    motion.plug(10.0, ETH2)
    motion.imds(MAC2, 10.0, new())
    motion.run(40.0)
    assert "2001:db8:0:2::77/128" in selectors(motion, 3, 6)
    motion.imds(MAC, 40.0, eni(FULL4, family(cidrs=NET6)))
    motion.imds(MAC2, 40.0, new(MOVING[1]))
    motion.run(60.0)
    assert motion.state(3) is State.AWAITING
    assert owners(motion) == {4}
    assert "2001:db8:0:2::77/128" in selectors(motion, 4, 6)


def test_what_is_assigned_to_the_primary_is_given_up_too() -> None:
    motion = applied(old(*MOVING))
    primary = partial(eni, mac=Value("02:00:00:00:00:01"))
    motion.imds("02:00:00:00:00:01", 300.0, primary(family("10.0.2.5 10.0.2.77", cidrs=NET4)))
    motion.imds(MAC, 300.0, old(MOVING[1]))
    motion.run(361.0)
    assert "10.0.2.77/32" not in selectors(motion, 3)
    assert ip("10.0.2.77") not in {a.ip for a in motion.kernel.addresses}


def test_the_last_address_may_move_to_the_primary() -> None:
    """For which nothing is planned; the old rule goes all the same."""
    motion = FastMotion()
    motion.plug(10.0, replace(ETH2, index=3, mac=MAC, name="eth1"))
    motion.imds(MAC, 10.0, eni(FULL4, family(MOVING[1], cidrs=NET6)))
    motion.run(40.0)
    assert owners(motion) == {3}
    motion.imds(MAC, 40.0, eni(FULL4, family(cidrs=NET6)))
    primary = eni(NONE, family(MOVING[1], cidrs=NET6), mac=Value("02:00:00:00:00:01"))
    motion.imds("02:00:00:00:00:01", 40.0, primary)
    motion.run(101.0)
    assert motion.state(3) is State.AWAITING
    assert owners(motion) == set()


def test_back_and_forth() -> None:
    motion = two(old(*MOVING), new())
    for at, here in ((300.0, 4), (400.0, 3), (500.0, 4)):
        motion.imds(MAC, at, old(*(MOVING if here == 3 else ())))
        motion.imds(MAC2, at, new(*(MOVING if here == 4 else ())))
        motion.run(at + 61.0)
        assert owners(motion) == {here}


def test_the_old_eni_is_detached_with_it() -> None:
    """IMDS lists the ENI that is gone for minutes, but nobody asks about it any more."""
    motion = two(old(*MOVING), new())
    motion.imds(MAC2, 300.0, new(*MOVING))
    motion.run(380.0)
    assert owners(motion) == {3}
    motion.at(381.0, partial(motion.kernel.unplug, 3))
    motion.run(382.0)
    assert owners(motion) == {4}
