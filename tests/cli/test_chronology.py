"""What the journal tells: events, intervals, and when there was no daemon."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nicwatchd.cli.chronology import PROCESS_EXIT, READERS, Chronology, chronology, matches
from nicwatchd.cli.history import lines
from nicwatchd.cli.history_svg import svg
from nicwatchd.cli.timeline import Interval, condition, intervals
from nicwatchd.core.written import IMDS
from nicwatchd.service import journal
from nicwatchd.service.journal_reader import Entry, texts
from tests.cli.journal_entries import (
    BOOT,
    ENI,
    LATER_BOOT,
    MAC,
    START,
    STORY,
    WORKS,
    about,
    entry,
    family,
)


def nothing_more(_: str) -> None:
    """The end of a boot that nobody knows."""


def known(entries: Sequence[Entry]) -> Chronology:
    return chronology(entries, nothing_more, BOOT)


def of_family(found: Sequence[Interval], which: str = "ipv4") -> list[tuple[str, float, float]]:
    """The conditions of a family, with times since START."""
    return [
        (each.condition, round(each.begin - START, 3), round(each.end - START, 3))
        for each in found
        if each.family == which
    ]


def test_the_story_as_people_read_it() -> None:
    shown = [event for event in known(STORY).events if not event.quiet]
    told = [(round(e.at - START, 1), e.name, e.what, e.detail) for e in shown]
    assert told == [
        (0.0, "", "started", "nicwatchd 0.2.0 started"),
        (60.0, "eth1", "attached", ENI),
        (60.1, "eth1", "waiting", "IMDS does not list the MAC"),
        (61.1, "eth1", "configured", "after 1.1 s"),
        (61.2, "eth1", "working", "IPv4 works, 1.2 s after it was seen"),
        (120.0, "eth1", "lost", "8 rules; removed by port id 3388298734 (no process now)"),
        (120.1, "eth1", "restored", "8 rules, after 0.11 s"),
        (300.0, "eth1", "link down", "the link is down, not by nicwatchd"),
        (300.0, "eth1", "NOT WORKING", "IPv4 does not work: the link is down"),
        (360.0, "eth1", "working", "IPv4 works again, after 60 s not working"),
        (400.0, "", "stopped", "nicwatchd stopped"),
        (410.0, "", "started", "nicwatchd 0.2.0 started"),
        (410.1, "eth1", "found", ENI),
        (410.5, "eth1", "configured", ""),
    ]


def test_what_was_changed_is_told_with_its_cause() -> None:
    changed = about(61.1, journal.WROTE, state="applied", NICWATCHD_OBJECTS="+9 routes, -1 rule")
    told = {**changed, "NICWATCHD_CAUSE": IMDS.text, "NICWATCHD_REASON_CODES": IMDS.code}
    (event,) = (each for each in known([*STORY, told]).events if each.what == "changed")
    assert event.detail == f"+9 routes, -1 rule; {IMDS.text}"
    assert (event.as_json()["cause"], event.codes) == (IMDS.text, (IMDS.code,))


def test_what_the_first_look_sees_was_there_and_what_comes_is_attached() -> None:
    first = about(0.1, journal.TRANSITION, state="detected")
    second = {**about(0.1, journal.TRANSITION, state="detected"), "NICWATCHD_MAC": "x"}
    later = {**about(0.2, journal.TRANSITION, state="detected"), "NICWATCHD_MAC": "y"}
    events = known([STORY[0], first, second, later]).events
    assert [event.what for event in events] == ["started", "found", "found", "attached"]


def test_what_is_managed_after_a_release_was_not_attached() -> None:
    story = [
        entry(0.0, journal.STARTED, "nicwatchd 0.2.0 started"),
        about(60.0, journal.TRANSITION, state="detected"),
        about(90.0, journal.TRANSITION, state="ignored", NICWATCHD_PREVIOUS_STATE="applied"),
        about(95.0, journal.TRANSITION, state="detected", NICWATCHD_PREVIOUS_STATE="ignored"),
    ]
    assert [event.what for event in known(story).events] == [
        *("started", "attached", "left alone", "managed"),
    ]


@pytest.mark.parametrize(("after", "is_told"), [(0.05, False), (2.0, True)])
def test_that_imds_was_not_asked_for_a_moment_is_no_news(after: float, *, is_told: bool) -> None:
    why = "imds-unread: no usable answer from IMDS: not asked yet"
    story = [
        entry(0.0, journal.STARTED, "nicwatchd 0.2.0 started"),
        about(1.0, journal.TRANSITION, state="awaiting-imds", NICWATCHD_REASONS=why),
        about(1.0 + after, journal.TRANSITION, state="applied"),
    ]
    shown = [event.what for event in known(story).events if not event.quiet]
    assert shown == ["started", *["waiting"] * is_told, "configured"]


def test_the_primary_is_not_called_left_alone() -> None:
    why = "primary: this is the primary interface"
    story = [
        entry(0.0, journal.STARTED, "nicwatchd 0.2.0 started"),
        about(1.0, journal.TRANSITION, state="ignored", NICWATCHD_REASONS=why),
    ]
    assert [event.what for event in known(story).events] == ["started", "primary"]


def test_the_lines_are_aligned_and_fit() -> None:
    found = list(lines(event for event in known(STORY).events if not event.quiet))
    assert all(len(line) <= 80 for line in found)
    rows = [line for line in found if "eth1" in line]
    assert {line.index("eth1") for line in rows} == {12}
    assert found[0].startswith("--- 20")
    assert f"boot {BOOT[:8]} ---" in found[0]
    assert sum(line.startswith("---") for line in found) == 1


def test_each_kind_of_entry_is_read() -> None:
    asked = {match.partition("=")[2] for match in matches()}
    assert asked | {PROCESS_EXIT.hex} == set(READERS)


def test_the_intervals_of_the_story() -> None:
    found = intervals(known(STORY), START, START + 500)
    assert of_family(found) == [
        ("waiting", 60.1, 61.0),
        ("working", 61.0, 300.0),
        ("not working", 300.0, 360.0),
        ("working", 360.0, 400.0),
        ("no daemon", 400.0, 410.0),
        ("working", 410.5, 500.0),
    ]
    assert {(each.key, each.name) for each in found} == {(ENI, "eth1")}
    (broken,) = (each for each in found if each.condition == "not working")
    assert broken.cause == "the link is down"
    assert of_family(found, "ipv6") == []


def test_intervals_are_cut_to_what_is_asked_for() -> None:
    found = intervals(known(STORY), START + 310, START + 330)
    assert of_family(found) == [("not working", 310.0, 330.0)]


# --- without a daemon ----------------------------------------------------------------------------

STARTED, LATER = STORY[0], entry(500.0, journal.STARTED, _BOOT_ID=LATER_BOOT)
WELL = about(61.2, journal.HEALTH_CHANGED, ipv4=WORKS)
AGAIN = entry(100.0, journal.STARTED)
EXIT = entry(
    90.0, PROCESS_EXIT, "nicwatchd.service: Main process exited, code=killed, status=9/KILL"
)


@pytest.mark.parametrize(
    ("entries", "gap", "why"),
    [
        ([STARTED, WELL, AGAIN], (61.2, 100.0), "the daemon died: it was last heard of here"),
        (
            [STARTED, WELL, EXIT, AGAIN],
            (90.0, 100.0),
            "the daemon died: Main process exited, code=killed, status=9/KILL",
        ),
        ([STARTED, WELL, LATER], (450.0, 500.0), "the host went down with the daemon running"),
        (
            [STARTED, WELL, entry(70.0, journal.STOPPED), LATER],
            (70.0, 500.0),
            "the daemon was stopped",
        ),
        ([STARTED, WELL, entry(70.0, journal.STOPPED)], (70.0, None), "the daemon was stopped"),
        ([WELL, AGAIN], (61.2, 100.0), "the daemon died: it was last heard of here"),
    ],
    ids=["killed", "killed under systemd", "power", "stopped, boot", "stopped", "begins late"],
)
def test_a_daemon_that_is_gone_is_a_gap(
    entries: list[Entry], gap: tuple[float, float | None], why: str
) -> None:
    this_boot = entries[-1]["_BOOT_ID"]
    found = chronology(entries, lambda boot: START + 450.0 if boot == BOOT else None, this_boot)
    (only,) = found.gaps
    begin, end = gap
    assert (round(only.begin - START, 3), only.why) == (begin, why)
    assert (None if only.end is None else round(only.end - START, 3)) == end
    died = [event for event in found.events if event.what == "died"]
    assert len(died) == ("stopped" not in why)
    until = START + (600.0 if end is None else end)
    assert ("no daemon", begin, round(until - START, 3)) in of_family(
        intervals(found, START, until)
    )


def test_a_boot_that_ended_while_it_ran_is_a_gap_until_now() -> None:
    found = chronology([STARTED, WELL], lambda _: START + 450.0, LATER_BOOT)
    (gap,) = found.gaps
    assert (gap.begin, gap.end) == (START + 450.0, None)


def test_a_daemon_that_stops_well_under_systemd_is_stopped_once() -> None:
    entries = [STARTED, entry(70.0, journal.STOPPED), entry(70.1, PROCESS_EXIT, "x: exited")]
    assert [event.what for event in known(entries).events] == ["started", "stopped"]


def test_boots_are_marked() -> None:
    events = known([STARTED, WELL, entry(70.0, journal.STOPPED), LATER]).events
    headings = [line for line in lines(events) if line.startswith("---")]
    assert [heading[-12:-4] for heading in headings] == [BOOT[:8], LATER_BOOT[:8]]


# --- statuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "state", "expected"),
    [
        (WORKS, "applied", "working"),
        (family("degraded", cause="x"), "applied", "degraded"),
        (family("degraded", waits=True), "applied", "waiting"),
        (family("not-working"), "applied", "not working"),
        (family("not-working", waits=True), "awaiting-imds", "waiting"),
        (family(None), "applied", None),
        (None, "applied", None),
        ("what", "applied", None),
        # Of a version without health:
        ({"verdict": "ready"}, "applied", "working"),
        ({"verdict": "ready"}, "awaiting-imds", "working"),
        ({"verdict": "ready"}, "detected", "waiting"),
        ({"verdict": "waiting", "reasons": [{"text": "no"}]}, "awaiting-imds", "waiting"),
        ({"verdict": "absent"}, "applied", None),
        ({"verdict": "ready"}, "ignored", None),
    ],
)
def test_conditions(part: object, state: str, expected: str | None) -> None:
    assert condition({"ipv4": part, "state": state}, "ipv4")[0] == expected


# --- odd entries -------------------------------------------------------------------------------

STATUSES = [
    "",
    "{",
    "null",
    "[]",
    '"x"',
    "[" * 100_000,
    '{"ipv4": 3, "ipv6": []}',
    '{"ipv4": {"health": 7, "causes": 3, "reasons": [1, {"text": null}]}, "state": "applied"}',
    '{"ipv4": {"health": "not-working", "causes": [[], {}]}, "health": {}, "state": []}',
    '{"ipv4": {"verdict": [], "reasons": {}}, "state": {}}',
]
VALUE = (
    st.sampled_from([*STATUSES, "9" * 5000, "-1", "٣", MAC, "eth1", "\x1b[31m", None, [], [None]])
    | st.text(max_size=10)
    | st.lists(st.integers(-1, 300), max_size=3)
    | st.binary(max_size=5)
)
NAMES = sorted({name for each in STORY for name in each} | {"NICWATCHD_CAUSE", "UNIT"})
ODD = st.builds(
    lambda fields, message_id: {**STORY[2], "MESSAGE_ID": message_id, **fields},
    st.dictionaries(st.sampled_from(NAMES), VALUE, max_size=6),
    st.sampled_from([*READERS, "", "no id"]),
)


@given(st.lists(ODD, max_size=5), st.lists(st.sampled_from(STORY), max_size=5))
def test_odd_entries_never_raise(odd: list[dict[str, object]], even: list[Entry]) -> None:
    found = known([*map(texts, odd), *even])
    parts = intervals(found, START - 10.0, START + 1000.0)
    for line in lines(found.events):
        assert line.isprintable()
    picture = svg(parts, found.events, START - 10.0, START + 1000.0)
    assert picture.endswith("</svg>\n")
    json.dumps([event.as_json() for event in found.events])
