"""Which requests a poll sends, as tables; and how many that is over time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from nicwatchd.core.backoff import JITTER, Schedule
from nicwatchd.core.metadata import ABSENT, NOT_ASKED, Unknown, Value
from nicwatchd.core.polling import Depth
from nicwatchd.core.rota import DIRECTORY
from nicwatchd.imds.parse import LEAVES
from nicwatchd.imds.probes import ESSENTIAL, LISTS, NAMED, Probes, is_news

if TYPE_CHECKING:
    from nicwatchd.core.metadata import Answer

MAC = "02:00:00:00:00:02"
V4 = {"local-ipv4s", "subnet-ipv4-cidr-block"}
V6 = {"ipv6s", "subnet-ipv6-cidr-blocks"}
IDS = {"mac", "interface-id", "subnet-id", "device-number"}
LAG = Unknown("listed, but 404")


def known(listed: set[str], **other: Answer[Any]) -> dict[str, Answer[Any]]:
    """Answers where each listed key has a value, but for `other` (with _ for -)."""
    answers: dict[str, Answer[Any]] = dict.fromkeys(LEAVES, ABSENT)
    answers |= dict.fromkeys(listed, Value("x"))
    answers |= {"mac": Value(MAC), DIRECTORY: Value(frozenset(listed))}
    return answers | {key.replace("_", "-"): answer for key, answer in other.items()}


def polls(
    probes: Probes,
    listed: set[str] | None,
    answers: dict[str, Answer[Any]],
    count: int,
    depth: Depth = Depth.AWAITED,
) -> list[str]:
    seen = None if listed is None else frozenset(listed)
    return [name for _ in range(count) for name in probes.probe(seen, answers, depth)]


@pytest.mark.parametrize(
    ("listed", "answers", "awaited"),
    [
        (None, known(set()), {DIRECTORY}),
        (IDS | V4, known(IDS | V4), {DIRECTORY}),
        (IDS | V4 | V6, known(IDS | V4 | V6, ipv6s=LAG), {"ipv6s"}),
        (IDS | V4 | V6, known(IDS | V4 | V6, ipv6s=ABSENT), {"ipv6s"}),
        (IDS | V4 | V6, known(IDS | V4 | V6, mac=Value("02:ff:ff:ff:ff:ff")), {"mac"}),
        (IDS | V4 | V6, known(IDS | V4 | V6, directory=Unknown("503")), {DIRECTORY}),
    ],
    ids=["unlisted", "no IPv6 yet", "lag", "empty", "wrong MAC", "directory failed"],
)
def test_what_is_awaited_is_asked_at_each_poll(
    listed: set[str] | None, answers: dict[str, Answer[Any]], awaited: set[str]
) -> None:
    probes = Probes(MAC)
    for _ in range(40):
        asked = probes.probe(None if listed is None else frozenset(listed), answers)
        assert awaited <= set(asked)
        assert len(asked) <= 2


def test_two_awaited_things_are_both_asked_at_each_poll_for_a_while() -> None:
    listed = IDS | V4
    answers = known(listed, local_ipv4s=LAG)
    probes = Probes(MAC)
    for _ in range(8):
        assert set(probes.probe(frozenset(listed), answers)) == {DIRECTORY, "local-ipv4s"}
    later = polls(probes, listed, answers, 400)
    assert len(later) <= 1.15 * 400 + 8
    assert abs(later.count(DIRECTORY) - later.count("local-ipv4s")) <= 1


def test_what_is_known_is_asked_in_turn() -> None:
    listed = IDS | V4 | V6
    asked = polls(Probes(MAC), listed, known(listed), 24)
    assert set(asked) == {DIRECTORY, "device-number"} | V4 | V6
    assert {asked.count(name) for name in set(asked)} == {4}


def test_known_keys_are_verified_while_others_are_awaited() -> None:
    listed = IDS | V4
    asked = polls(Probes(MAC), listed, known(listed), 100)
    assert asked.count(DIRECTORY) == 100
    assert set(asked) - {DIRECTORY} == V4 | {"device-number"}
    assert 112 <= len(asked) <= 115


@pytest.mark.parametrize(
    "answers",
    [known(IDS | V4), known(IDS | V4, local_ipv4s=LAG), known(IDS | V4 | V6, ipv6s=LAG)],
    ids=["no IPv6 yet", "nothing has a value", "IPv6 has none"],
)
@pytest.mark.parametrize("unlisted", [0, 1, 30, 80], ids=lambda polls: f"unlisted for {polls}")
def test_a_wait_stays_within_10_requests_per_second_at_first_and_then_5(
    answers: dict[str, Answer[Any]], unlisted: int
) -> None:
    """The reads when the MAC is first listed count, too; a round trip takes 2 ms."""
    schedule, probes = Schedule(), Probes(MAC)
    listed = {key for key, answer in answers.items() if answer is not ABSENT} - {DIRECTORY}
    fast = round(schedule.first_for / (schedule.first_interval * (1 - JITTER / 2) + 0.002))
    sent = len(polls(probes, None, known(set()), unlisted, Depth.MISSING))
    first = probes.after_news(listed, frozenset(listed), dict.fromkeys(LEAVES, LAG) | {})
    probes.asked(first)
    sent += 1 + len(first)  # the MAC's own directory comes in addition to the list of MACs
    sent += len(polls(probes, listed, answers, fast - unlisted, Depth.MISSING))
    assert sent <= 10 * schedule.first_for
    slow = round(10.0 / (schedule.interval * (1 - JITTER / 2) + 0.002))
    assert len(polls(probes, listed, answers, slow)) <= 5 * 10


def test_the_sweeps_of_an_overdue_eni() -> None:
    listed = IDS | {"network-card"} | set(LISTS)
    probes = Probes(MAC)
    minutes = 20
    sweeps = [
        probes.sweep(frozenset(listed), known(listed))
        for _ in range(round(minutes * 60 / (Schedule().refresh * (1 - JITTER / 2))))
    ]
    assert sum(len(sweep) + 1 for sweep in sweeps) <= 8 * minutes  # with the directory
    assert all(set(LISTS) <= set(sweep) for sweep in sweeps)
    numbers = [name for sweep in sweeps for name in sweep if name not in LISTS]
    assert numbers[:4] == ["device-number", "network-card"] * 2


def test_the_first_sweep_reads_all_that_is_needed() -> None:
    listed = frozenset(LEAVES) | {"vpc-ipv4-cidr-block", "owner-id"}
    nothing: dict[str, Answer[Any]] = dict.fromkeys(LEAVES, Unknown("not asked yet"))
    assert set(Probes(MAC).sweep(listed, nothing)) == set(LEAVES) - {*NAMED}


def test_what_sections_match_by_is_asked_at_once_until_known() -> None:
    listed = frozenset(IDS | V4 | V6 | {"vpc-id", "security-group-ids"})
    probes = Probes(MAC)
    probes.named = frozenset({"vpc-id", "subnet-id"})
    answers = known(set(listed), vpc_id=LAG, subnet_id=NOT_ASKED, security_group_ids=NOT_ASKED)
    assert set(probes.after_news({"mac"}, listed, answers)) == V4 | V6 | {"vpc-id", "subnet-id"}
    for _ in range(40):
        assert set(probes.probe(listed, answers)) & probes.named
    asked = polls(probes, set(listed), known(set(listed), security_group_ids=NOT_ASKED), 100)
    assert not {*asked} & {"vpc-id", "subnet-id", "security-group-ids"}


def test_security_groups_are_read_again_where_sections_match_by_them() -> None:
    """They change while the ENI is attached; what no section names is never asked."""
    listed = frozenset(LEAVES)
    probes = Probes(MAC)
    assert not {*probes.sweep(listed, known(set(listed)))} & {*NAMED}
    probes.named = frozenset({"vpc-id", "security-group-ids"})
    sweeps = [probes.sweep(listed, known(set(listed))) for _ in range(3)]
    assert [{*sweep} & {*NAMED} for sweep in sweeps] == [{"security-group-ids"}] * 3


def test_an_id_that_is_not_listed_yet_is_awaited() -> None:
    listed = IDS | V4 | V6
    probes = Probes(MAC)
    probes.named = frozenset({"vpc-id"})
    for _ in range(20):
        assert DIRECTORY in probes.probe(frozenset(listed), known(listed))


@pytest.mark.parametrize(
    ("news", "answers", "read"),
    [
        ({"ipv6s"}, known(IDS | V4 | V6), V6),
        ({"ipv6s"}, known(IDS | V4 | V6, local_ipv4s=LAG), V6 | {"local-ipv4s"}),
        ({"mac"}, known(IDS | V4 | V6), V4 | V6),
        ({"device-number"}, known(IDS | V4 | V6), set()),
        ({"device-number"}, known(IDS | V4 | V6, subnet_id=LAG), set()),  # has its turn later
    ],
)
def test_news_is_followed_by_what_goes_with_it(
    news: set[str], answers: dict[str, Answer[Any]], read: set[str]
) -> None:
    listed = frozenset(IDS | V4 | V6)
    assert set(Probes(MAC).after_news(news, listed, answers)) == read


@pytest.mark.parametrize(
    ("before", "now", "news"),
    [
        (LAG, Value(1), True),
        (ABSENT, Value(1), True),
        (Value(1), Value(2), True),
        (Value(1), ABSENT, True),
        (Value(1), Value(1), False),
        (Value(1), LAG, False),
        (LAG, ABSENT, False),
    ],
)
def test_is_news(before: Answer[int], now: Answer[int], news: bool) -> None:
    assert is_news(before, now) is news


def test_the_essential_keys_are_lists() -> None:
    assert set(ESSENTIAL) < set(LISTS)


# --- at rest -----------------------------------------------------------------------------------


def test_at_rest_each_key_comes_up_when_it_is_its_turn() -> None:
    listed = IDS | V4 | V6 | {"ipv4-prefix"}
    probes = Probes(MAC)
    asked = [polls(probes, listed, known(listed), 1, Depth.ROTA) for _ in range(241)]
    assert {*asked[0]} == {DIRECTORY, "device-number", "ipv4-prefix"} | V4 | V6, "never asked"
    counts = Counter(name for names in asked[1:] for name in names)
    assert counts == {
        "local-ipv4s": 240,
        "ipv6s": 240,
        "ipv4-prefix": 120,
        DIRECTORY: 120,
        "subnet-ipv6-cidr-blocks": 60,
        "subnet-ipv4-cidr-block": 4,
        "device-number": 4,
    }


def test_at_rest_a_wrong_mac_is_asked_each_time_and_a_missing_id_now_and_then() -> None:
    listed = IDS | V4
    answers = known(listed, mac=Value("02:ff:ff:ff:ff:ff"), subnet_id=LAG)
    asked = polls(Probes(MAC), listed, answers, 40, Depth.ROTA)
    assert asked.count("mac") == 40
    assert asked.count("subnet-id") == 10


def test_at_rest_what_is_no_longer_listed_is_looked_for() -> None:
    assert polls(Probes(MAC), None, known(set()), 3, Depth.ROTA) == [DIRECTORY] * 3
