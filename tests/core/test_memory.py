"""What is known after many readings: nothing is believed gone on one word, or on an error."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nicwatchd.core.known import Doubt, Known
from nicwatchd.core.memory import Memory, remember
from nicwatchd.core.metadata import (
    ABSENT,
    KEYS,
    NOT_ASKED,
    Answer,
    EniMetadata,
    FamilyMetadata,
    Unknown,
    Value,
    contradicts,
)
from nicwatchd.core.model import Family
from nicwatchd.core.policy import Policy
from tests.core.build import (
    ERROR,
    FULL4,
    FULL6,
    IPV4,
    IPV6,
    MAC,
    NET4,
    NET6,
    NONE,
    UNLISTED,
    UNREAD,
    eni,
    family,
    ip,
    ips,
    net,
)

POLICY = Policy()
Items = Answer[tuple[str, ...]]


def listing(items: str) -> Items:
    return Value(tuple(items))


def learn(known: Known[str], *answers: tuple[float, Items], listed: bool = True) -> Known[str]:
    for now, answer in answers:
        known = known.learn(answer, now, POLICY, listed=listed and answer != ABSENT)
    return known


KNOWN = learn(Known(), (0.0, listing("ab")))


@pytest.mark.parametrize(
    ("answers", "items"),
    [
        pytest.param([], "ab", id="as it was"),
        pytest.param([(1, listing("abc"))], "abc", id="more"),
        pytest.param([(1, listing("cab"))], "cab", id="IMDS's order"),
        pytest.param([(1, listing("a"))], "ab", id="missing once"),
        pytest.param([(1, listing("b"))], "ab", id="a doubted item keeps its place"),
        pytest.param([(1, listing("cb"))], "abc", id="... also beside a new one"),
        pytest.param([(1, listing("a")), (31, listing("a"))], "ab", id="twice is not enough"),
        pytest.param(
            [(1, listing("a")), (2, listing("a")), (30.9, listing("a"))],
            "ab",
            id="three times in less than 30 s is not enough",
        ),
        pytest.param(
            [(1, listing("a")), (2, listing("a")), (31, listing("a"))], "a", id="3 times in 30 s"
        ),
        pytest.param([(1, ABSENT), (2, ABSENT), (31, ABSENT)], "", id="all absent 3 times"),
        pytest.param(
            [(1, listing("a")), (10, listing("ab")), (20, listing("a")), (31, listing("a"))],
            "ab",
            id="seen in between: the doubt begins anew",
        ),
        pytest.param(
            [(1, listing("a")), (2, ERROR), (31, ERROR), (40, listing("a"))],
            "ab",
            id="an error counts for nothing",
        ),
        pytest.param([(t, ERROR) for t in range(1, 1000, 10)], "ab", id="errors for ever"),
        pytest.param(
            [(1, listing("a")), (2, listing("b")), (16, listing("b")), (32, listing("b"))],
            "b",
            id="each item has its own doubt",
        ),
        pytest.param(
            [
                (0, listing("abc")),
                (1, listing("c")),
                (10, listing("bc")),
                (20, listing("c")),
                (31, listing("c")),
            ],
            "bc",
            id="one is given up while another is doubted",
        ),
    ],
)
def test_a_known_list(answers: list[tuple[float, Items]], items: str) -> None:
    known = learn(KNOWN, *answers)
    assert "".join(known.items) == items
    if items:
        assert known.answer == listing(items)


def test_doubts_are_counted_from_the_first() -> None:
    known = learn(KNOWN, (1, listing("a")), (2, listing("a")))
    assert known.doubts == (("b", Doubt(2, 1)),)
    assert learn(known, (3, listing("ab"))).doubts == ()


def test_a_list_that_went_is_absent() -> None:
    assert learn(KNOWN, (1, ABSENT), (2, ABSENT), (31, ABSENT)).answer == ABSENT


def test_the_settings_say_how_much_doubt_is_enough() -> None:
    policy = Policy(doubts=2, doubt_span=5.0)
    known = KNOWN.learn(ABSENT, 1.0, policy, listed=False)
    assert known.learn(ABSENT, 5.9, policy, listed=False).items == ("a", "b")
    assert known.learn(ABSENT, 6.0, policy, listed=False).items == ()


@pytest.mark.parametrize(
    ("before", "answer", "listed", "believed"),
    [
        pytest.param(NOT_ASKED, ERROR, False, ERROR, id="never known: the newest why"),
        pytest.param(Unknown("401"), ERROR, True, ERROR, id="never known, and listed"),
        pytest.param(ABSENT, ERROR, False, ABSENT, id="absent stays absent at an error"),
        pytest.param(ABSENT, ERROR, True, ERROR, id="newly listed but unreadable is news"),
        pytest.param(listing("ab"), ERROR, True, listing("ab"), id="known stays known"),
        pytest.param(ERROR, ABSENT, False, ABSENT, id="at last an answer"),
    ],
)
def test_an_answer_that_tells_nothing(
    *,
    before: Items,
    answer: Items,
    listed: bool,
    believed: Items,
) -> None:
    known = learn(Known(), (0.0, before)).learn(answer, 1.0, POLICY, listed=listed)
    assert known.answer == believed


def test_what_is_given_up_leaves_the_list_and_nothing_else_does() -> None:
    known = learn(Known(), (0.0, listing("abcd")), (1, listing("ad")))
    left = known.without({"b", "d", "e"})
    assert left.items == ("a", "c", "d"), "what is listed is not given up"
    assert left.doubts == (("c", Doubt(1, 1)),)
    assert (left.definite, left.listed) == (known.definite, known.listed)


HAD = ("b", "c")


@pytest.mark.parametrize(
    ("answers", "items", "doubted"),
    [
        pytest.param([(0, ERROR)], "", "", id="an error says nothing of it"),
        pytest.param([(0, listing("bc"))], "bc", "", id="all is there still"),
        pytest.param([(0, listing("ab"))], "abc", "c", id="after what is listed"),
        pytest.param([(0, ABSENT)], "bc", "bc", id="absent is a doubt"),
        pytest.param([(0, ERROR), (1, listing("a"))], "abc", "bc", id="first an error"),
        pytest.param([(0, listing("a")), (1, listing("ac"))], "abc", "b", id="then one is seen"),
        pytest.param(
            [(0, listing("a")), (1, listing("a")), (30, listing("a"))], "a", "", id="gone"
        ),
        pytest.param([(0, listing("abc")), (1, listing("bc"))], "abc", "a", id="only the first"),
        pytest.param(
            [(0, listing("a")), (1, listing("a")), (30, listing("a")), (31, listing("a"))],
            "a",
            "",
            id="given up for good",
        ),
    ],
)
def test_a_restart_doubts_the_first_answer(
    answers: list[tuple[float, Items]], items: str, doubted: str
) -> None:
    known: Known[str] = Known()
    for now, answer in answers:
        known = known.learn(answer, now, POLICY, listed=answer != ABSENT, had=HAD)
    assert "".join(known.items) == items
    assert known.doubted == frozenset(doubted)


def test_a_key_listed_but_empty_is_no_news_when_it_cannot_be_read() -> None:
    known: Known[str] = Known().learn(ABSENT, 0.0, POLICY, listed=True)
    assert known.learn(ERROR, 1.0, POLICY, listed=True).answer == ABSENT


ANSWERS = st.one_of(
    st.just(ERROR),
    st.just(ABSENT),
    st.lists(st.sampled_from("abc"), min_size=1, unique=True).map(lambda x: Value(tuple(x))),
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 20), ANSWERS), max_size=20))
def test_nothing_is_lost_without_doubt(steps: list[tuple[float, Items]]) -> None:
    known: Known[str] = Known()
    now = 0.0
    seen: dict[str, float] = {}
    for wait, answer in steps:
        now += wait
        known = known.learn(answer, now, POLICY, listed=answer != ABSENT)
        if isinstance(answer, Value):
            seen.update(dict.fromkeys(answer.value, now))
            assert set(answer.value) <= set(known.items)
        recent = {item for item, at in seen.items() if now - at < POLICY.doubt_span}
        assert recent <= set(known.items)
        assert len(set(known.items)) == len(known.items)
        assert {item for item, _ in known.doubts} <= set(known.items)


def vars_of(metadata: FamilyMetadata) -> dict[str, Any]:
    return {name: getattr(metadata, name) for name in metadata.__dataclass_fields__}


# --- readings --------------------------------------------------------------------------------


def after(*readings: tuple[float, EniMetadata]) -> Memory:
    memory = Memory()
    for now, reading in readings:
        memory = remember(memory, reading, MAC, now, POLICY)
    return memory


FULL = eni(FULL4, FULL6, interface_id=Value("eni-1"), device_number=Value(1))
WRONG = replace(eni(family("10.9.9.9", cidrs="10.9.9.0/24"), NONE), mac=Value("02:99"))


def test_before_the_first_reading_nothing_is_known() -> None:
    unread: Known[Any] = Known(items=(), doubts=(), definite=NOT_ASKED, listed=False)
    assert Known() == unread
    memory = Memory()
    for which, known in ((Family.V4, memory.v4), (Family.V6, memory.v6)):
        assert known.lists == dict.fromkeys(KEYS[which].values(), unread)
    assert memory.believed == EniMetadata()
    assert (memory.first_listed, memory.unread, memory.doubted) == (None, True, False)


def test_a_first_reading_is_believed() -> None:
    memory = after((5.0, FULL))
    assert memory.believed == FULL
    assert memory.first_listed == 5.0
    assert not memory.doubted


def test_the_first_listing_is_remembered() -> None:
    assert after((1.0, UNLISTED)).first_listed is None
    assert after((1.0, UNREAD)).first_listed is None
    assert after((0.0, UNLISTED), (0.0, FULL), (9.0, FULL), (10.0, UNLISTED)).first_listed == 0.0


@pytest.mark.parametrize(
    "reading",
    [
        pytest.param(UNLISTED, id="MAC not listed"),
        pytest.param(UNREAD, id="directory unread"),
        pytest.param(WRONG, id="another interface's MAC"),
        pytest.param(
            eni(family(ERROR, ABSENT, ERROR), family(ERROR, ABSENT, ERROR)), id="leaves unread"
        ),
    ],
)
def test_such_readings_take_nothing_away(reading: EniMetadata) -> None:
    memory = after((0.0, FULL), *((float(t), reading) for t in range(1, 200, 5)))
    believed = memory.believed
    assert (believed.v4, believed.v6) == (FULL.v4, FULL.v6)
    assert believed.interface_id == Value("eni-1")
    assert believed.device_number == Value(1)
    assert not memory.doubted


def test_a_wrong_mac_gives_nothing_either() -> None:
    memory = after((0.0, WRONG))
    assert memory.believed.v4 == EniMetadata().v4
    assert memory.believed.mac == Value("02:99")
    assert memory.first_listed is None


def test_what_goes_is_doubted_for_each_family() -> None:
    half = eni(FULL4, family(cidrs=NET6))
    memory = after((0.0, FULL), (1.0, half))
    assert memory.doubted
    assert not memory.v4.doubted
    assert memory.believed.v6.addresses == Value(ips(IPV6))
    memory = after((0.0, FULL), (1.0, half), (2.0, half), (31.0, half))
    assert not memory.doubted
    assert memory.believed.v6 == half.v6


@pytest.mark.parametrize(
    ("short", "doubted"),
    [
        pytest.param(eni(FULL4), (True, False), id="IPv4 address"),
        pytest.param(
            eni(family(f"{IPV4} 10.0.2.11", cidrs="10.0.2.0/25")), (True, False), id="CIDR"
        ),
        pytest.param(eni(FULL4, family(cidrs=NET6)), (False, True), id="IPv6 prefix"),
    ],
)
def test_any_list_can_be_doubted(short: EniMetadata, doubted: tuple[bool, bool]) -> None:
    v6 = family(prefixes="2001:db8:0:2:1::/80", cidrs=NET6)
    start = eni(FULL4, v6) if doubted[1] else eni(family(f"{IPV4} 10.0.2.11", cidrs=NET4))
    memory = after((0.0, start), (1.0, short))
    assert (memory.v4.doubted, memory.v6.doubted) == doubted
    assert memory.doubted


def test_what_was_programmed_before_a_restart_is_doubted_where_it_belongs() -> None:
    """Of each kind and family one that is listed, and one that is not any more."""
    both4, both6 = (
        (f"{IPV4} 10.0.2.77", "10.0.2.32/28"),
        (f"{IPV6} 2001:db8:0:2::77", "2001:db8::/80"),
    )
    before = eni(family(*both4, NET4), family(*both6, NET6))
    had = (*(ip(a) for a in both4[0].split() + both6[0].split()), net(both4[1]), net(both6[1]))
    memory = remember(Memory(), FULL, MAC, 0.0, POLICY, had)
    assert memory.believed.v4 == before.v4
    assert memory.believed.v6 == before.v6
    doubted = [[part.doubted for part in of.assigned] for of in (memory.v4, memory.v6)]
    assert doubted == [
        [{ip("10.0.2.77")}, {net("10.0.2.32/28")}],
        [{ip("2001:db8:0:2::77")}, {net("2001:db8::/80")}],
    ]
    assert remember(Memory(), UNLISTED, MAC, 0.0, POLICY).v4 == Memory().v4
    silent = remember(Memory(), UNLISTED, MAC, 0.0, POLICY, had)
    assert silent.v4.believed == Memory().v4.believed
    assert not silent.listed | silent.missing


def test_what_another_eni_has_is_given_up_of_both_families_but_no_subnet_is() -> None:
    """Not even one that is a prefix elsewhere: other ENIs may be in the same subnet."""
    memory = after((0.0, FULL), (1.0, eni()))
    gone = {ip(IPV4), ip(IPV6), net(NET4), net(NET6)}
    left = memory.without(gone)
    assert memory.missing == {ip(IPV4), ip(IPV6)}
    assert left.missing == frozenset()
    for which, cidr in ((Family.V4, NET4), (Family.V6, NET6)):
        believed = left.believed.of(which)
        assert (believed.addresses, believed.cidrs) == (ABSENT, Value((net(cidr),)))
    later = remember(left, eni(), MAC, 2.0, POLICY)
    assert (later.believed.v4, later.believed.v6) == (left.believed.v4, left.believed.v6)


@pytest.mark.parametrize(
    ("reading", "unread"),
    [
        pytest.param(UNREAD, True, id="nothing"),
        pytest.param(FULL, False, id="everything"),
        pytest.param(eni(FULL4, family(ERROR, ABSENT, NET6)), True, id="but IPv6 addresses"),
        pytest.param(eni(family(IPV4, ERROR, NET4), FULL6), True, id="but IPv4 prefixes"),
    ],
)
def test_whether_something_was_never_read(reading: EniMetadata, *, unread: bool) -> None:
    assert after((0.0, reading)).unread is unread


def test_single_values_are_not_lost() -> None:
    vague = eni(interface_id=ABSENT, device_number=ERROR)
    memory = after((0.0, FULL), (1.0, vague))
    assert memory.believed.interface_id == Value("eni-1")
    assert memory.believed.device_number == Value(1)
    changed = after((0.0, FULL), (1.0, eni(FULL4, FULL6, device_number=Value(2))))
    assert changed.believed.device_number == Value(2)


@pytest.mark.parametrize(
    ("before", "now", "believed"),
    [
        pytest.param(ABSENT, ERROR, ABSENT, id="an error is less than absent"),
        pytest.param(ERROR, ABSENT, ABSENT, id="absent is more than an error"),
        pytest.param(ERROR, Unknown("x"), Unknown("x"), id="the newest error"),
    ],
)
def test_single_values_without_a_value(
    before: Answer[str], now: Answer[str], believed: Answer[str]
) -> None:
    memory = after((0.0, eni(subnet_id=before)), (1.0, eni(subnet_id=now)))
    assert memory.believed.subnet_id == believed


@pytest.mark.parametrize("key", KEYS[Family.V6])
def test_each_key_has_its_own_news(key: str) -> None:
    unread = FamilyMetadata(**{**vars_of(NONE), key: ERROR})
    assert after((0.0, eni()), (1.0, eni(v6=unread))).believed.v6 == unread
    unlisted = replace(eni(v6=unread), directory=Value(frozenset({"mac"})))
    assert after((0.0, eni()), (1.0, unlisted)).believed.v6 == NONE


def test_the_directory_and_refusals_are_the_last_readings() -> None:
    memory = after((0.0, FULL), (1.0, replace(UNLISTED, refused=("ipv6s: garbage",))))
    assert memory.believed.directory == ABSENT
    assert memory.believed.refused == ("ipv6s: garbage",)


@pytest.mark.parametrize(
    ("mac", "expected"),
    [(Value(MAC), False), (Value("02:99"), True), (ABSENT, False), (ERROR, False)],
)
def test_only_a_mac_contradicts_a_mac(*, mac: Answer[str], expected: bool) -> None:
    assert contradicts(EniMetadata(mac=mac), MAC) is expected
