"""What changes in place on ENIs at rest: how soon it is seen, what that costs, and who waits.

The real core, prober and reader, over trees of texts; the clock is invented.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Protocol

import pytest

from nicwatchd.core.backoff import Schedule
from nicwatchd.core.lifecycle import State
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import Family
from nicwatchd.core.policy import AddressMode, Policy, Section
from nicwatchd.core.rota import DIRECTORY, requests, rota
from nicwatchd.core.sections import keys_named
from nicwatchd.imds.budget import Budget
from tests.core.build import ETH0, ETH1, MAC, PRIMARY
from tests.core.fast_motion import FastMotion
from tests.core.strict_kernel import StrictKernel
from tests.imds.trees import LISTS4, LISTS6, Tree, branch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nicwatchd.core.model import Link
    from nicwatchd.imds.eni import EniReader

MINUTE: Final = 60.0
SETTLED: Final = 300.0  # s: whatever is plugged at 0 is at rest
PREFIX4, PREFIX6 = "10.0.2.64/28", "2001:db8:0:2:3::/80"
CIDR6: Final = "2001:db8:0:9::/64"


class Asked(FastMotion):
    """A host whose IMDS is a tree; `requests` are when and for what it was asked, in order."""

    def __init__(self, *links: Link, policy: Policy | None = None) -> None:
        self.tree = Tree({PRIMARY: branch(PRIMARY, subnet=1)})
        self.requests: list[tuple[float, str, str]] = []
        self._loop = asyncio.new_event_loop()
        self._readers: dict[str, EniReader] = {}
        super().__init__(policy, StrictKernel(ETH0, *links))

    def close(self) -> None:
        self._loop.close()

    def _ask(self) -> None:
        if self.turn.asks_primary and self.host.primary_mac != self.primary:
            self._answer_primary()
        for question in self.turn.questions(self.now):
            reader = self._readers.setdefault(question.mac, self.tree.reader(question.mac))
            self.tree.asked.clear()
            poll = reader.poll(depth=question.depth, named=question.named)
            reading = self._loop.run_until_complete(poll)
            for path in self.tree.asked:
                self.requests.append((self.now, question.mac, path.partition("/")[2] or DIRECTORY))
            self._readings[question.mac] = [(self.now, reading)]
            self._answer(question.index, question.mac)

    def count(self, mac: str, since: float, until: float) -> int:
        """The requests about one ENI."""
        return sum(m == mac and since <= at < until for at, m, _ in self.requests)

    def times(self, mac: str, key: str) -> list[float]:
        """When one key of an ENI was read."""
        return [at for at, m, name in self.requests if (m, name) == (mac, key)]


def eth(number: int) -> Link:
    mac = f"02:00:00:00:01:{number:02x}"
    return replace(ETH1, index=10 + number, mac=mac, name=f"eth{number}")


class Make(Protocol):
    """Makes a host, with eth1 as a usual ENI in IMDS, and `more`; and with other links."""

    def __call__(
        self, *links: Link, more: dict[str, str] | None = None, policy: Policy | None = None
    ) -> Asked: ...


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Asked] = []

    def host(
        *links: Link, more: dict[str, str] | None = None, policy: Policy | None = None
    ) -> Asked:
        motion = Asked(ETH1, *links, policy=policy)
        made.append(motion)
        motion.tree.branches[MAC] = branch(MAC, more={**(more or {})})
        for number, link in enumerate(links, 3):
            motion.tree.branches[link.mac] = branch(link.mac, subnet=number)
        return motion

    yield host
    for motion in made:
        motion.close()


BOTH: Final = {"ipv4-prefix": PREFIX4, "ipv6-prefix": PREFIX6}
V4, V6 = "10.0.2.16", "2001:db8:0:2::10"
# What an ENI has beside the usual, what changes then, and within how many polls that is seen.
CHANGES = [
    pytest.param({}, "local-ipv4s", (V4, "10.0.2.17"), 1, id="an IPv4 address"),
    pytest.param({}, "ipv6s", (V6, "2001:db8:0:2::11"), 1, id="an IPv6 address"),
    pytest.param(BOTH, "local-ipv4s", (V4, "10.0.2.17"), 1, id="an address beside prefixes"),
    pytest.param({}, "ipv4-prefix", (PREFIX4,), 2, id="a first prefix"),
    pytest.param({"ipv4-prefix": PREFIX4}, "ipv6-prefix", (PREFIX6,), 2, id="a first one of IPv6"),
    pytest.param(BOTH, "ipv4-prefix", (PREFIX4, "10.0.2.96/28"), 2, id="another IPv4 prefix"),
    pytest.param(BOTH, "ipv6-prefix", (PREFIX6, "2001:db8:0:2:4::/80"), 2, id="another of IPv6"),
    pytest.param(
        {}, "subnet-ipv6-cidr-blocks", ("2001:db8:0:2::/64", CIDR6), 4, id="a second network"
    ),
]


def known(motion: Asked) -> set[str]:
    """All that eth1 is believed to have, as text."""
    believed = motion.host.interfaces[ETH1.index].facts.memory.believed
    answers = (answer for family in Family for _, answer in believed.lists(family))
    return {str(i) for answer in answers if isinstance(answer, Value) for i in answer.value}


def interval(motion: Asked, mac: str = MAC, interfaces: int = 2) -> float:
    """Seconds between the polls of one ENI at rest."""
    listed = motion.tree.branches[mac].texts.keys()
    named = keys_named(motion.host.policy.sections)
    return Schedule().at_rest(requests(rota(listed, named)), interfaces)


def set_list(motion: Asked, key: str, items: tuple[str, ...]) -> None:
    texts = motion.tree.branches[MAC].texts
    if items:
        texts[key] = "\n".join(items)
    else:
        del texts[key]


@pytest.mark.parametrize(("more", "key", "items", "polls"), CHANGES)
def test_what_is_assigned_in_place_is_seen_after_so_many_polls(
    make: Make, more: dict[str, str], key: str, items: tuple[str, ...], polls: int
) -> None:
    """Whenever it comes; and it is gone 30 s after it was first seen to be."""
    motion = make(more=more)
    before = tuple(filter(None, (motion.tree.branches[MAC].texts.get(key) or "").split("\n")))
    motion.run(SETTLED)
    for turn in range(6):
        at = SETTLED + turn * 203.7
        bound = polls * interval(motion) + 0.1
        motion.run(at)
        set_list(motion, key, items)
        motion.run(at + bound)
        assert known(motion) >= {*items}
        assert motion.state() is State.APPLIED
        motion.run(at + 100.0)
        bound = polls * interval(motion) + 0.1
        set_list(motion, key, before)
        motion.run(at + 100.0 + 29.9)
        assert known(motion) >= {*items}
        motion.run(at + 100.0 + bound + 30.1)
        assert not known(motion) & {*items} - {*before}
        assert motion.state() is State.APPLIED


def test_an_address_that_goes_is_gone_within_41_s(make: Make) -> None:
    """Of an ENI with both families: one poll, and two more readings within 30 s."""
    motion = make(more={"local-ipv4s": f"{V4}\n10.0.2.17"})
    assert interval(motion) < 11.2
    for turn in range(20):
        at = SETTLED + turn * 101.3
        motion.run(at)
        set_list(motion, "local-ipv4s", (V4,))
        motion.run(at + 41.3)
        assert "10.0.2.17" not in known(motion)
        set_list(motion, "local-ipv4s", (V4, "10.0.2.17"))


def test_security_groups_are_seen_where_a_section_names_them(make: Make) -> None:
    section = Section(security_group="sg-2", addresses=AddressMode.NONE)
    motion = make(more={"security-group-ids": "sg-1"}, policy=Policy(sections=(section,)))
    motion.run(SETTLED)
    assert motion.host.interfaces[ETH1.index].own.policy.section is None
    set_list(motion, "security-group-ids", ("sg-1", "sg-2"))
    motion.run(SETTLED + 4 * interval(motion) + 0.1)
    assert motion.host.interfaces[ETH1.index].own.policy.section is section


@pytest.mark.parametrize(
    ("more", "without"),
    [
        pytest.param({}, (), id="both families"),
        pytest.param({"ipv4-prefix": PREFIX4}, (), id="... and a prefix"),
        pytest.param(BOTH, (), id="... and prefixes of both"),
        pytest.param({}, LISTS6, id="IPv4 only"),
        pytest.param({}, LISTS4, id="IPv6 only"),
    ],
)
def test_fifteen_requests_a_minute_and_every_key_in_turn(
    make: Make, more: dict[str, str], without: tuple[str, ...]
) -> None:
    """The primary is asked about like the others."""
    motion = make(more=more)
    for key in without:
        del motion.tree.branches[MAC].texts[key]
    minutes = 30
    end = SETTLED + minutes * MINUTE
    motion.run(end)
    for mac in (MAC, PRIMARY):
        assert motion.count(mac, SETTLED, end) <= 15 * minutes + 6
        assert motion.count(mac, SETTLED, end) >= 15 * minutes - 6
        for key, polls in rota(motion.tree.branches[mac].texts.keys()).items():
            times = [at for at in motion.times(mac, key) if at >= SETTLED]
            gaps = {b - a for a, b in pairwise(times)}
            assert gaps, key
            assert max(gaps) == pytest.approx(polls * interval(motion, mac)), key
    at = {at for at, mac, _ in motion.requests if at >= SETTLED and mac == MAC}
    assert len(at) <= minutes * MINUTE / interval(motion) + 1, "and no more wake-ups than polls"


def test_ipv6_that_comes_late_to_an_eni_with_ipv4_only_is_seen_within_two_polls(
    make: Make,
) -> None:
    motion = make()
    texts = motion.tree.branches[MAC].texts
    ipv6 = {key: texts.pop(key) for key in LISTS6}
    motion.run(SETTLED)
    bound = 2 * interval(motion) + 0.1
    assert bound < 12.4
    texts |= ipv6
    motion.run(SETTLED + bound)
    assert V6 in known(motion)


def test_a_key_that_fails_holds_no_other_up(make: Make) -> None:
    motion = make()
    motion.run(SETTLED)
    motion.tree.branches[MAC].failing.add("ipv6s")
    set_list(motion, "local-ipv4s", (V4, "10.0.2.17"))
    motion.run(SETTLED + interval(motion) + 0.1)
    assert {"10.0.2.17", V6} <= known(motion)
    end = SETTLED + 10 * MINUTE
    motion.run(end)
    assert motion.count(MAC, SETTLED, end) <= 15 * 10 + 12
    set_list(motion, "ipv6s", (V6, "2001:db8:0:2::11"))
    motion.tree.branches[MAC].failing.clear()
    motion.run(end + interval(motion) + 0.1)
    assert "2001:db8:0:2::11" in known(motion)


def test_where_imds_is_silent_it_is_asked_once_a_minute(make: Make) -> None:
    """Then about the directory only; and for everything once it answers."""
    motion = make()
    motion.run(SETTLED)
    motion.tree.branches[MAC].failing |= {"", *motion.tree.branches[MAC].texts}
    motion.run(SETTLED + MINUTE)
    end = SETTLED + 61 * MINUTE
    motion.run(end)
    assert motion.count(MAC, SETTLED + MINUTE, end) <= 61
    assert motion.state() is State.APPLIED
    motion.tree.branches[MAC].failing.clear()
    set_list(motion, "ipv4-prefix", (PREFIX4,))
    motion.run(end + MINUTE + 0.1)
    assert PREFIX4 in known(motion)
    assert motion.times(MAC, DIRECTORY)[-1] > end


# --- many on one host --------------------------------------------------------------------------

BRIEF: Final = Policy(schedule=Schedule(keep=5.0))  # so that many ENIs come to rest soon


@pytest.mark.long
def test_64_at_rest_share_what_16_may_ask_and_none_starves(make: Make) -> None:
    others = [eth(number) for number in range(1, 64)]
    motion = make(*others, policy=BRIEF)
    start = 60.0
    motion.run(start)
    minutes = 10
    end = start + minutes * MINUTE
    motion.run(end)
    asked = Counter(mac for at, mac, _ in motion.requests if at >= start)
    assert len(asked) == 65
    assert sum(asked.values()) <= 16 * 15 * minutes + 65 * 3
    lists = {MAC: interval(motion, interfaces=65)} | {
        link.mac: interval(motion, link.mac, 65) for link in others
    }
    for mac, seconds in lists.items():
        times = [at for at in motion.times(mac, "local-ipv4s") if at >= start]
        gaps = [b - a for a, b in pairwise(times)]
        assert len(gaps) >= minutes * MINUTE / seconds - 2
        assert max(gaps) == pytest.approx(seconds, rel=0.01)
    moments = {at for at, _, _ in motion.requests if at >= start}
    assert len(moments) <= 16 * minutes, "few wake-ups for all of them"


def plugged(motion: Asked, at: float) -> tuple[float, list[float]]:
    """Hot-plug one that IMDS lists after 3 s: how long after it is applied, and when it asked."""
    new = eth(99)
    motion.plug(at, new)
    motion.run(at + 3.0)
    motion.tree.branches[new.mac] = branch(new.mac, subnet=99)
    motion.run(at + 20.0)
    times = [when - at for when, mac, _ in motion.requests if mac == new.mac]
    return motion.first("eth99", State.APPLIED) - at - 3.0, times


@pytest.mark.long
def test_a_hot_plug_among_64_is_as_fast_as_alone(make: Make) -> None:
    """And the budget of the host holds none of its requests back."""
    policy = replace(BRIEF, address_wait=0.0)
    alone = plugged(make(policy=policy), 60.0)
    host = make(*(eth(number) for number in range(1, 63)), policy=policy)
    among = plugged(host, 60.0)
    assert alone[0] < 0.15
    assert among[0] == pytest.approx(alone[0])
    first = len([at for at in alone[1] if at < 5.0])  # then it is at rest, as one of two or of 64
    assert first > 35
    assert among[1][:first] == pytest.approx(alone[1][:first])
    times = [at for at, _, _ in host.requests if at >= 60.0]
    clock = iter((60.0, *times))
    budget = Budget(50.0, 500.0, lambda: next(clock))
    assert {budget.reserve(0.0) for _ in times} == {0.0}
