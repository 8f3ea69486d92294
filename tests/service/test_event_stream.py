"""/v1/events: today's keys, and type, time, previous state and cause."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import pytest

from nicwatchd.core.health import FamilyHealth, Health
from nicwatchd.core.interface import Interface
from nicwatchd.core.lifecycle import State, Transition
from nicwatchd.core.model import Family, Reason, SetGroup
from nicwatchd.core.news import (
    Bypassed,
    EgressMoved,
    FamilyGivenUp,
    FightChanged,
    HealthChanged,
    LinkChanged,
    Lost,
    Restored,
    StateChanged,
    Surprised,
    Wrote,
)
from nicwatchd.core.policy import Policy
from nicwatchd.core.written import IMDS
from nicwatchd.service.event_stream import AT_ONCE, PENDING, PENDING_BYTES, TYPES, EventStreams
from nicwatchd.service.status import HostStatus, ImdsStatus, InterfaceStatus, ReasonStatus
from nicwatchd.service.telling import ImdsChanged, Observer, Started, Stopped, Told
from tests.core.build import ETH1
from tests.service.test_readiness import NOT, RULE, family, interface

VIEW = Interface(ETH1, 5.0, Policy()).view()
NO_IPV6S = ReasonStatus(code="no-ipv6s", text="...")
FIGHT = ReasonStatus(code="fought-over", text="a rule was removed")
WAITS = Transition(
    State.DETECTED, State.AWAITING, (Reason("no-ipv6s", "..."),), overdue=False, at=9.0, elapsed=4.0
)
FIRST = Transition(None, State.DETECTED, (), overdue=False, at=5.0, elapsed=0.0)
WAITING = interface(state=State.AWAITING, reasons=[NO_IPV6S])
GROUP = SetGroup(VIEW.link.index, 3778)
RULE_100 = Reason("shadowed", "rule 100 comes before ours", "ip rule del pref 100")
SHADOWED = ReasonStatus(code="shadowed", text=RULE_100.text, remedy=RULE_100.remedy)
WORKED = FamilyHealth(Family.V4, Health.WORKING, 5.0)
FAILS = FamilyHealth(Family.V4, Health.NOT_WORKING, 9.0)
BROKEN = interface(ipv4=family(NOT, RULE), ipv6=family(Health.WORKING))


class Source:
    """A host with these interfaces."""

    def __init__(self, *interfaces: InterfaceStatus) -> None:
        self.observers: list[Observer] = []
        self._interfaces = list(interfaces)

    def status(self) -> HostStatus:
        imds = ImdsStatus(state="ok")
        return HostStatus(version="1", pid=1, started=0.0, imds=imds, interfaces=self._interfaces)

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        self.observers.append(observer)
        return lambda: self.observers.remove(observer)

    def tell(self, told: Told) -> None:
        for observer in list(self.observers):
            observer(told)


def line_for(told: Told) -> dict[str, Any]:
    source = Source()
    lines = EventStreams(source).open()
    source.tell(told)
    found = json.loads(lines.next())
    assert isinstance(found, dict)
    return found


def test_each_interface_comes_first_as_it_is() -> None:
    broken = interface("eth2", ipv4=family(NOT, RULE))
    lines = EventStreams(Source(WAITING, broken)).open()
    before = time.time() - 60
    for expected, code in ((WAITING, "no-ipv6s"), (broken, RULE.code)):
        found = json.loads(lines.next())
        assert found.items() >= json.loads(expected.model_dump_json()).items()
        assert (found["type"], found["previous"], found["cause"]["code"]) == ("present", None, code)
        assert before < found["time"] < time.time() + 60
    assert len(lines) == 0


@pytest.mark.parametrize(
    ("told", "kind", "previous", "cause"),
    [
        (Told(StateChanged(VIEW, WAITS), WAITING), "transition", "detected", NO_IPV6S),
        (Told(StateChanged(VIEW, FIRST), interface()), "transition", None, None),
        (
            Told(FightChanged(VIEW, began=True), interface(fight=FIGHT, fought_over=True)),
            "fight",
            "applied",
            FIGHT,
        ),
        (Told(FightChanged(VIEW, began=False), interface()), "fight", "applied", None),
        (
            Told(HealthChanged(VIEW, Family.V4, WORKED, FAILS, 9.0), BROKEN),
            "health",
            "working",
            RULE,
        ),
        (Told(HealthChanged(VIEW, Family.V6, None, WORKED, 9.0), BROKEN), "health", None, None),
        (
            Told(LinkChanged(VIEW, carries=False), interface()),
            "link",
            "applied",
            ReasonStatus(code="link", text="the link has no carrier, not by nicwatchd"),
        ),
        (
            Told(Lost(VIEW, (GROUP,), ("ip (pid 7)",), 9.0), interface()),
            "lost",
            "applied",
            ReasonStatus(code="lost", text="removed by ip (pid 7)"),
        ),
        (
            Told(Restored(VIEW, (GROUP,), 0.1), interface()),
            "restored",
            "applied",
            ReasonStatus(code="restored", text="what was lost is there again"),
        ),
        (
            Told(Wrote(VIEW, (GROUP,), IMDS), interface()),
            "changed",
            "applied",
            ReasonStatus(code=IMDS.code, text=IMDS.text),
        ),
        (Told(Bypassed(VIEW, (RULE_100,), ()), interface()), "bypassed", "applied", SHADOWED),
        (Told(Bypassed(VIEW, (), (RULE_100,)), interface()), "bypassed", "applied", None),
        (
            Told(FamilyGivenUp(VIEW, Family.V6, RULE_100, 180.0), interface()),
            "family-given-up",
            "applied",
            SHADOWED,
        ),
        (
            Told(EgressMoved(VIEW, Family.V4, ("eth0",), ("eth1",), by_us=False), interface()),
            "egress",
            "eth0",
            ReasonStatus(code="egress", text="main's best default route changed, not by nicwatchd"),
        ),
        (
            Told(Surprised(VIEW, "judging", "KeyError(3)", "Traceback"), WAITING),
            "internal-error",
            "awaiting-imds",
            ReasonStatus(code="internal-error", text="judging: KeyError(3)"),
        ),
    ],
)
def test_what_happens_has_its_type_and_cause(
    told: Told, kind: str, previous: str | None, cause: ReasonStatus | None
) -> None:
    found = line_for(told)
    assert (found["type"], found["previous"]) == (kind, previous)
    assert found["cause"] == (cause and cause.model_dump())
    changed = getattr(told.news, "family", None)
    assert found["family"] == (changed and changed.label.lower())
    assert found["changed"] == ("group 3778" if kind == "changed" else None)
    assert told.status is not None
    assert found.items() >= json.loads(told.status.model_dump_json()).items()


def test_whatever_is_told_of_an_interface_has_a_type() -> None:
    told = get_args(get_type_hints(Told)["news"])
    of_interfaces = {each for each in told if "view" in inspect.signature(each).parameters}
    assert of_interfaces == set(TYPES)
    assert len(set(TYPES.values())) == len(TYPES)


@pytest.mark.parametrize("news", [Started("1"), Stopped()])
def test_what_is_about_no_interface_is_no_event(news: Started | Stopped | ImdsChanged) -> None:
    source = Source()
    lines = EventStreams(source).open()
    source.tell(Told(news))
    assert len(lines) == 0


def test_many_streams_are_one_observer_and_the_last_ends_it() -> None:
    source = Source(WAITING)
    streams = EventStreams(source)
    first, second = streams.open(), streams.open()
    assert (len(streams), len(source.observers)) == (2, 1)
    source.tell(Told(StateChanged(VIEW, WAITS), WAITING))
    assert len(first) == len(second) == 2
    streams.close(first)
    source.tell(Told(StateChanged(VIEW, WAITS), WAITING))
    assert (len(first), len(second)) == (2, 3)
    streams.close(second)
    assert source.observers == []
    assert len(streams.open()) == 1
    assert len(source.observers) == 1


async def test_who_reads_too_slowly_begins_anew_and_costs_nobody_else_a_line() -> None:
    source = Source(WAITING, BROKEN)
    streams = EventStreams(source)
    slow, quick = streams.open(), streams.open()
    for _ in range(2):
        quick.next()
    for _ in range(PENDING + 1):
        source.tell(Told(StateChanged(VIEW, WAITS), WAITING))
        assert json.loads(quick.next())["missed"] == 0
    assert len(quick) == 0
    await slow.wait()
    first, second = json.loads(slow.next()), json.loads(slow.next())
    assert (first["type"], first["missed"]) == ("present", PENDING + 3)
    assert (second["type"], second["missed"]) == ("present", 0)
    assert len(slow) == 0
    source.tell(Told(StateChanged(VIEW, WAITS), WAITING))
    assert json.loads(slow.next())["type"] == "transition"


def test_what_waits_for_a_slow_reader_is_bounded_in_bytes() -> None:
    source = Source()
    stream = EventStreams(source).open()
    long = WAITING.model_copy(update={"name": "x" * 100_000})
    for _ in range(100):
        source.tell(Told(StateChanged(VIEW, WAITS), long))
        assert stream._size <= PENDING_BYTES


def test_a_few_lines_come_in_one_piece_and_none_is_left_out() -> None:
    source = Source(*(interface(f"eth{number}") for number in range(AT_ONCE + 1)))
    stream = EventStreams(source).open()
    source.tell(Told(StateChanged(VIEW, WAITS), WAITING))
    assert stream.some().count(b"\n") == AT_ONCE
    types = [json.loads(line)["type"] for line in stream.some().splitlines()]
    assert types == ["present", "transition"]


async def test_one_waits_for_a_line_and_where_there_is_nothing_anew() -> None:
    source = Source()
    stream = EventStreams(source).open()
    waiting = asyncio.create_task(stream.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    source.tell(Told(StateChanged(VIEW, WAITS), WAITING))
    await waiting
    stream.next()
    for _ in range(PENDING + 1):
        source.tell(Told(StateChanged(VIEW, WAITS), WAITING))
    waiting = asyncio.create_task(stream.wait())
    await asyncio.sleep(0)
    assert not waiting.done()  # there is no interface
    source.tell(Told(StateChanged(VIEW, WAITS), WAITING))
    await waiting
    assert json.loads(stream.next())["type"] == "transition"
