"""What IMDS forgets, and lists of which a part is damaged: neither takes away what is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nicwatchd.core.memory import Memory, remember
from nicwatchd.core.metadata import (
    ABSENT,
    Absent,
    Answer,
    EniMetadata,
    FamilyMetadata,
    Unknown,
    Value,
)
from nicwatchd.core.model import AddRoute, AddRule, Family, RemoveAddress, RemoveRoute, RemoveRule
from nicwatchd.core.policy import Policy
from tests.core.build import (
    ERROR,
    ETH1,
    FULL4,
    FULL6,
    IPV4,
    IPV6,
    MAC,
    NET4,
    NET6,
    NONE,
    V4,
    V6,
    eni,
    family,
    ip,
    ips,
    net,
    nets,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, AWAITING, CALM, applied, hot_plugged, quiet

pytestmark = pytest.mark.long


SECOND4, SECOND6, PREFIX4, PREFIX6 = (
    "10.0.2.11",
    "2001:db8:0:2::11",
    "10.0.2.32/28",
    "2001:db8:0:2:1::/80",
)
RICH4 = family(f"{IPV4} {SECOND4}", PREFIX4, NET4)
RICH6 = family(f"{IPV6} {SECOND6}", PREFIX6, NET6)
RICH = eni(RICH4, RICH6)
REMOVALS = RemoveAddress | RemoveRoute | RemoveRule


def without_dhcp(reading: EniMetadata = RICH) -> FastMotion:
    """Applied without any lease, which would prove an address by itself."""
    motion = hot_plugged(reading, CALM)
    motion.run(130.0)
    assert motion.state() is APPLIED
    return motion


def removed(motion: FastMotion) -> list[Any]:
    return [operation for _, operation in motion.written if isinstance(operation, REMOVALS)]


def notes(motion: FastMotion) -> set[str]:
    return {note.code for note in motion.host.interfaces[3].view().notes}


def partly(said: FamilyMetadata, **lists: Answer[Any]) -> FamilyMetadata:
    return replace(said, **lists)


# --- what an ENI has for its life ----------------------------------------------------------------

AMNESIA: list[tuple[str, EniMetadata, set[str]]] = [
    ("first IPv4 address", eni(family(SECOND4, PREFIX4, NET4), RICH6), {"no-first-ipv4"}),
    ("IPv4 addresses", eni(family(ABSENT, PREFIX4, NET4), RICH6), {"no-local-ipv4s"}),
    ("IPv4 addresses and prefixes", eni(family(cidrs=NET4), RICH6), {"no-local-ipv4s"}),
    ("IPv4 CIDR", eni(replace(RICH4, cidrs=ABSENT), RICH6), {"no-subnet-ipv4-cidr-block"}),
    ("IPv4", eni(NONE, RICH6), {"no-local-ipv4s", "no-subnet-ipv4-cidr-block"}),
    ("IPv6", eni(RICH4), {"no-ipv6s", "no-subnet-ipv6-cidr-blocks"}),
    ("IPv6 CIDRs", eni(RICH4, replace(RICH6, cidrs=ABSENT)), {"no-subnet-ipv6-cidr-blocks"}),
    ("everything", eni(), {
        "no-local-ipv4s", "no-subnet-ipv4-cidr-block", "no-ipv6s", "no-subnet-ipv6-cidr-blocks"
    }),
]  # fmt: skip
OTHER_CIDRS: list[tuple[str, EniMetadata, set[str]]] = [
    (
        "IPv4 CIDR, for another",
        eni(replace(RICH4, cidrs=Value(nets("10.9.0.0/24"))), RICH6),
        {"no-subnet-ipv4-cidr-block"},
    ),
    (
        "IPv6 CIDRs, for another",
        eni(RICH4, replace(RICH6, cidrs=Value(nets("2001:db8:7::/64")))),
        {"no-subnet-ipv6-cidr-blocks"},
    ),
]


@pytest.mark.parametrize(
    ("reading", "codes"),
    [row[1:] for row in AMNESIA + OTHER_CIDRS],
    ids=[row[0] for row in AMNESIA + OTHER_CIDRS],
)
def test_amnesia_gives_nothing_up(reading: EniMetadata, codes: set[str]) -> None:
    motion = without_dhcp()
    before = len(motion.written)
    motion.imds(MAC, 130.0, reading)
    motion.run(4000.0)
    assert removed(motion) == []
    said = {str(o.route.dst) for _, o in motion.written[before:] if isinstance(o, AddRoute)}
    assert said <= {"2001:db8:7::/64"}, "a lower bound, in IPv6; an ENI has one IPv4 CIDR"
    assert (motion.state(), notes(motion)) == (APPLIED, codes)
    assert quiet(motion)
    motion.imds(MAC, motion.now, RICH)
    motion.run(motion.now + 200.0)
    assert (motion.state(), notes(motion)) == (APPLIED, set())
    gone = [o for o in removed(motion) if isinstance(o, RemoveRoute)]
    assert {str(o.route.dst) for o in gone} == said


def test_an_eni_that_is_back_is_not_told_of_what_imds_has_still_to_list() -> None:
    """Whoever follows a remedy then gives it a second address."""
    motion = without_dhcp()
    motion.imds(MAC, 130.0, eni(RICH4))
    motion.run(179.0)
    assert motion.host.interfaces[3].facts.memory.forgot[V6]
    assert notes(motion) == set()
    motion.run(200.0)
    assert notes(motion) == {"no-ipv6s", "no-subnet-ipv6-cidr-blocks"}


@pytest.mark.parametrize(
    ("reading", "codes"), [row[1:] for row in AMNESIA[1:]], ids=[row[0] for row in AMNESIA[1:]]
)
def test_amnesia_across_a_restart(reading: EniMetadata, codes: set[str]) -> None:
    """What was known is in the kernel alone then; the interface waits until IMDS remembers.

    Which address was the first one, the kernel does not tell for sure.
    """
    before = without_dhcp()
    motion = FastMotion(CALM, kernel=before.kernel, start=200.0)
    motion.imds(MAC, 0.0, reading)
    motion.run(4000.0)
    assert removed(motion) == []
    assert motion.reasons() >= codes
    assert motion.state() is AWAITING
    motion.imds(MAC, motion.now, RICH)
    motion.run(motion.now + 61.0)
    assert (motion.state(), motion.reasons(), notes(motion)) == (APPLIED, set(), set())
    assert removed(motion) == []


def test_a_first_address_outside_of_the_subnet_was_never_its_first() -> None:
    """It was said once, when the CIDRs could not be read; else the ENI would wait for ever."""
    motion = FastMotion(CALM)
    motion.imds(MAC, 0.0, RICH)
    motion.imds(MAC, 2.0, eni(family("10.9.9.9", cidrs=ERROR), RICH6))
    motion.imds(MAC, 2.2, eni(replace(RICH4, cidrs=ABSENT), RICH6))  # so that nothing is in doubt
    motion.imds(MAC, 4.0, RICH)
    motion.kernel.set_link(ETH1)
    motion.run(300.0)
    assert (motion.state(), motion.reasons(), notes(motion)) == (APPLIED, set(), set())


@pytest.mark.parametrize("which", [0, 1])
def test_a_cidr_for_another_across_a_restart(which: int) -> None:
    """Nothing tells which of two is right: nothing goes, and it is waited for."""
    before = without_dhcp()
    motion = FastMotion(CALM, kernel=before.kernel, start=200.0)
    motion.imds(MAC, 0.0, OTHER_CIDRS[which][1])
    motion.run(4000.0)
    assert removed(motion) == []
    assert (motion.state(), motion.reasons()) == (AWAITING, {f"outside-subnet-ipv{4 + 2 * which}"})
    motion.imds(MAC, motion.now, RICH)
    motion.run(motion.now + 200.0)
    assert (motion.state(), motion.reasons(), notes(motion)) == (APPLIED, set(), set())


@pytest.mark.parametrize(
    ("reading", "gone4", "gone6"),
    [
        (eni(replace(RICH4, addresses=Value(ips(IPV4))), RICH6), {SECOND4}, set()),
        (eni(replace(RICH4, prefixes=ABSENT), RICH6), {PREFIX4}, set()),
        (eni(RICH4, replace(RICH6, addresses=Value(ips(IPV6)))), set(), {SECOND6}),
        (eni(RICH4, replace(RICH6, addresses=Value(ips(SECOND6)))), set(), {IPV6}),
        (eni(RICH4, replace(RICH6, addresses=ABSENT)), set(), {IPV6, SECOND6}),
        (eni(RICH4, replace(RICH6, prefixes=ABSENT)), set(), {PREFIX6}),
        (eni(RICH4, family(cidrs=NET6)), set(), {IPV6, SECOND6, PREFIX6}),
    ],
)
def test_what_can_be_unassigned_is_given_up(
    reading: EniMetadata, gone4: set[str], gone6: set[str]
) -> None:
    motion = without_dhcp()
    motion.imds(MAC, 130.0, reading)
    motion.run(400.0)
    memory = motion.host.interfaces[3].facts.memory
    everything = {IPV4, SECOND4, PREFIX4, IPV6, SECOND6, PREFIX6}
    assert {str(item) for item in memory.listed} == everything - gone4 - gone6
    assert notes(motion) == {"no-ipv6-assigned"} & notes(motion)


def test_a_first_address_that_was_wrong_from_the_beginning_is_given_up() -> None:
    """The list begins with one that was never known: not what forgetting looks like."""
    motion = without_dhcp(eni(family("10.0.2.99", cidrs=NET4)))
    motion.imds(MAC, 130.0, eni(FULL4))
    motion.run(300.0)
    assert motion.state() is APPLIED
    assert {str(a.ip) for a in motion.kernel.addresses_of(3)} == {IPV4}


def test_a_first_address_that_was_wrong_for_a_moment_is_given_up() -> None:
    """Also where the right one is in doubt meanwhile, and across a restart."""
    motion = without_dhcp(eni(FULL4))
    motion.imds(MAC, 130.0, eni(family("10.0.2.99", cidrs=NET4)))
    motion.run(150.0)
    again = FastMotion(CALM, kernel=motion.kernel, start=150.0)
    again.imds(MAC, 0.0, eni(family("10.0.2.99", cidrs=NET4)))
    again.run(160.0)
    for each in (motion, again):
        each.imds(MAC, each.now, eni(FULL4))
        each.run(each.now + 200.0)
        assert each.state() is APPLIED
        assert {str(a.ip) for a in each.kernel.addresses_of(3)} == {IPV4}


@pytest.mark.parametrize("lists", [["10.0.2.99 10.0.2.10"], ["10.0.2.10 10.0.2.99"] * 2])
def test_a_first_address_before_which_another_stood_is_not_sure(lists: list[str]) -> None:
    """IMDS contradicts itself about the first one: what it says for long enough counts, either."""
    for kept in (IPV4, "10.0.2.99"):
        motion = without_dhcp(eni(FULL4))
        for said in (*lists, "10.0.2.99 10.0.2.10", kept):
            motion.imds(MAC, motion.now, eni(family(said, cidrs=NET4)))
            motion.run(motion.now + 200.0)
        assert {str(a.ip) for a in motion.kernel.addresses_of(3)} == {kept}
        assert motion.state() is APPLIED


def test_a_cidr_that_was_wrong_from_the_beginning_is_given_up() -> None:
    motion = hot_plugged(eni(family("10.0.2.20", cidrs="10.0.2.16/28")), CALM)
    motion.run(130.0)
    motion.imds(MAC, 130.0, eni(family("10.0.2.20", cidrs=NET4)))
    motion.run(400.0)
    assert motion.state() is APPLIED
    own = [route for route in motion.kernel.own_routes if route.oif == 3]
    assert {str(route.dst) for route in own if route.gateway is None} == {NET4}


def test_what_comes_meanwhile_is_added() -> None:
    motion = without_dhcp(eni(FULL4, FULL6))
    motion.imds(MAC, 130.0, eni(family(ABSENT, PREFIX4, NET4), RICH6))
    motion.run(300.0)
    assert (motion.state(), notes(motion)) == (APPLIED, {"no-local-ipv4s"})
    assert motion.host.interfaces[3].facts.memory.listed >= {net(PREFIX4), net(PREFIX6)}


@pytest.mark.parametrize("key", ["addresses", "cidrs"])
def test_what_was_never_known_is_no_amnesia(key: str) -> None:
    reading = eni(replace(FULL4, **{key: ABSENT}), FULL6)
    memory = remember(remember(Memory(), reading, MAC, 0.0, Policy()), reading, MAC, 1.0, Policy())
    assert memory.forgot == {V4: (), V6: ()}


# --- damaged lines -------------------------------------------------------------------------------


def damaged(said: FamilyMetadata, key: str, items: tuple[Any, ...]) -> FamilyMetadata:
    return replace(said, **{key: Value(items, whole=False)})


DAMAGED: list[tuple[Family, str, tuple[Any, ...]]] = [
    (V4, "addresses", ips(IPV4)),
    (V4, "addresses", ips(SECOND4)),
    (V4, "cidrs", nets(NET4)),
    (V6, "addresses", ips(IPV6)),
    (V6, "addresses", ips(SECOND6)),
]
of_any_list = pytest.mark.parametrize(("which", "key", "items"), DAMAGED)


@of_any_list
def test_a_damaged_line_takes_nothing_away(which: Family, key: str, items: tuple[Any, ...]) -> None:
    motion = without_dhcp()
    before = len(motion.written)
    v4 = damaged(RICH4, key, items) if which is V4 else RICH4
    v6 = damaged(RICH6, key, items) if which is V6 else RICH6
    motion.imds(MAC, 130.0, eni(v4, v6, refused=("x: damaged",)))
    motion.run(4000.0)
    assert motion.written[before:] == []
    assert (motion.state(), motion.reasons(), notes(motion)) == (APPLIED, set(), {"refused"})


@of_any_list
def test_a_damaged_line_takes_nothing_away_across_a_restart(
    which: Family, key: str, items: tuple[Any, ...]
) -> None:
    before = without_dhcp()
    motion = FastMotion(CALM, kernel=before.kernel, start=200.0)
    v4 = damaged(RICH4, key, items) if which is V4 else RICH4
    v6 = damaged(RICH6, key, items) if which is V6 else RICH6
    motion.imds(MAC, 0.0, eni(v4, v6))
    motion.run(4000.0)
    assert removed(motion) == []
    assert motion.state() is AWAITING
    assert all(code.startswith("unread-") for code in motion.reasons())
    motion.imds(MAC, motion.now, RICH)
    motion.run(motion.now + 61.0)
    assert (motion.state(), removed(motion)) == (APPLIED, [])


def test_the_good_lines_beside_a_damaged_one_are_added() -> None:
    motion = without_dhcp(eni(FULL4, FULL6))
    v4 = damaged(RICH4, "addresses", ips(SECOND4))
    v6 = damaged(damaged(RICH6, "addresses", ips(SECOND6)), "prefixes", nets(PREFIX6))
    motion.imds(MAC, 130.0, eni(v4, v6))
    motion.run(200.0)
    listed = motion.host.interfaces[3].facts.memory.listed
    assert listed == {*ips(IPV4, SECOND4, IPV6, SECOND6), *nets(PREFIX4, PREFIX6)}
    assert removed(motion) == []
    assert motion.state() is APPLIED


def test_what_is_missing_from_a_damaged_list_is_doubted_once_it_is_whole() -> None:
    motion = without_dhcp()
    motion.imds(MAC, 130.0, eni(RICH4, damaged(RICH6, "addresses", ips(IPV6))))
    motion.run(1000.0)
    assert removed(motion) == []
    motion.imds(MAC, 1000.0, eni(RICH4, replace(RICH6, addresses=Value(ips(IPV6)))))
    motion.run(1200.0)
    assert ip(SECOND6) in {o.ip for o in removed(motion) if isinstance(o, RemoveAddress)}


@pytest.mark.parametrize("which", list(Family))
@pytest.mark.parametrize("key", ["addresses", "prefixes", "cidrs"])
def test_a_first_answer_with_a_damaged_line_is_waited_for_and_used(which: Family, key: str) -> None:
    rich = {V4: RICH4, V6: RICH6}
    name = {
        (V4, "addresses"): "local-ipv4s",
        (V4, "prefixes"): "ipv4-prefix",
        (V4, "cidrs"): "subnet-ipv4-cidr-block",
        (V6, "addresses"): "ipv6s",
        (V6, "prefixes"): "ipv6-prefix",
        (V6, "cidrs"): "subnet-ipv6-cidr-blocks",
    }[which, key]
    said = getattr(rich[which], key)
    both = rich | {which: damaged(rich[which], key, said.value[:1])}
    motion = hot_plugged(eni(both[V4], both[V6]), CALM)
    motion.run(400.0)
    assert (motion.state(), motion.reasons()) == (AWAITING, {f"unread-{name}"})
    there = {str(a.ip) for a in motion.kernel.addresses_of(3)}
    assert there >= {IPV4, IPV6}
    assert {op.rule.family for _, op in motion.written if isinstance(op, AddRule)} == set(Family)
    motion.imds(MAC, 400.0, RICH)
    motion.run(500.0)
    assert (motion.state(), removed(motion)) == (APPLIED, [])


def test_a_damaged_list_after_its_absence_is_waited_for() -> None:
    motion = without_dhcp(eni(FULL4))
    motion.imds(MAC, 130.0, eni(FULL4, damaged(FULL6, "addresses", ips(IPV6))))
    motion.run(300.0)
    assert (motion.state(), motion.reasons()) == (AWAITING, {"unread-ipv6s"})
    assert ip(IPV6) in {a.ip for a in motion.kernel.addresses_of(3)}


def test_a_damaged_directory_removes_nothing() -> None:
    """What it does not name is unknown, as the reader gives it."""
    motion = without_dhcp()
    before = len(motion.written)
    unknown = Unknown("not among the names")
    reading = eni(replace(RICH4, prefixes=unknown), replace(RICH6, addresses=unknown))
    listed = reading.directory
    assert isinstance(listed, Value)
    motion.imds(MAC, 130.0, replace(reading, directory=replace(listed, whole=False)))
    motion.run(4000.0)
    assert motion.written[before:] == []
    assert motion.state() is APPLIED


def test_an_error_forgets_nothing() -> None:
    motion = applied()
    motion.imds(MAC, 130.0, eni(family(ERROR, ERROR, ERROR), family(ERROR, ERROR, ERROR)))
    motion.run(1000.0)
    assert notes(motion) == set()
    assert isinstance(ABSENT, Absent)
