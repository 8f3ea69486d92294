"""The output and the exit code of `nicwatchd status`, for canned answers of a daemon."""

from __future__ import annotations

import asyncio
import io
import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nicwatchd.cli import client
from nicwatchd.cli.explain_interface import lines
from nicwatchd.cli.judgement import is_well
from nicwatchd.cli.layout import Paint, width
from nicwatchd.cli.main import main
from nicwatchd.cli.overview import overview
from nicwatchd.core.evidence import Status
from nicwatchd.core.health import Health
from nicwatchd.core.lifecycle import State
from nicwatchd.service import journal
from nicwatchd.service.journal import JournalUnreadableError
from nicwatchd.service.status import (
    DeviceStatus,
    FamilyStatus,
    HostStatus,
    ImdsStatus,
    InterfaceStatus,
    ReasonStatus,
    UnlinkedStatus,
)
from tests.cli.statuses import (
    NO_IPV6S,
    NOW,
    Canned,
    alone,
    broken,
    degraded,
    eni,
    family,
    host,
    ipv4,
    ipv6,
    mixed,
    waiting,
    without_health,
)


async def run(directory: Path, *words: str) -> int:
    """Run the command in a thread: it blocks, and the server is in this loop."""
    return await asyncio.to_thread(main, [*words, "--runtime-directory", str(directory)])


def shown(status: HostStatus | dict[str, Any]) -> list[str]:
    """The lines of the overview, without a daemon between."""
    document = status.model_dump(mode="json") if isinstance(status, HostStatus) else status
    return list(overview(document, NOW, Paint()))


# --- the whole host ------------------------------------------------------------------------------


def test_all_works() -> None:
    assert shown(host(eni(0), eni(1, 50), imds=ImdsStatus(state="ok", asked=NOW - 12))) == [
        "nicwatchd 0.2.0   2 of 2 interfaces work   IMDS ok, asked 12 s ago",
        "",
        "LINK  ENI                    STATE    FOR  IPV4           IPV6",
        "eth0  eni-0a1b2c3d4e5f60701  primary  2 h  10.0.1.10      2001:db8:ec2:1::10",
        "eth1  eni-0a1b2c3d4e5f60702  working  2 h  10.0.2.10 +49  2001:db8:ec2:2::10 +49",
    ]


def test_what_waits_and_what_is_broken() -> None:
    lines = shown(host(eni(0), waiting(1), broken(2)))
    assert lines[0] == "nicwatchd 0.2.0   1 of 3 interfaces work   IMDS ok"
    assert [line.split()[2:4] for line in lines[3:6]] == [
        ["primary", "2"],
        ["waiting", "12"],
        ["NOT", "WORKING"],
    ]
    assert lines[4].split()[-2:] == ["10.0.2.10", "missing"]
    assert "0 of 1 answer" in lines[5]
    assert lines[6:] == [
        "",
        "eth1  waits for IPv6: IMDS lists no ipv6s yet. IPv4 works.",
        "eth2  packets from 10.0.2.10 leave by eth0 by rule 100 (from 10.0.2.0/24 lookup",
        "      100), not nicwatchd's, and EC2 drops them there. IPv6 works.",
        "      Mend: ip rule del pref 100 from 10.0.2.0/24 lookup 100",
        "      Why: nicwatchd explain eth2",
    ]


def test_what_waits_has_nothing_to_mend() -> None:
    part = waiting(1).ipv6
    assert part is not None
    passes = {"code": "undecided-ipv6", "remedy": 'families = ["ipv4"]'}
    remedy = NO_IPV6S.model_copy(update=passes)
    waits = waiting(1).model_copy(update={"ipv6": part.model_copy(update={"causes": [remedy]})})
    assert shown(host(eni(0), waits))[6:] == [
        "eth1  waits for IPv6: IMDS lists no ipv6s yet. IPv4 works."
    ]
    part = part.model_copy(update={"causes": [remedy], "waits": False})
    overdue = waits.model_copy(update={"ipv6": part, "waits": False, "overdue": True})
    assert '      Mend: families = ["ipv4"]' in shown(host(eni(0), overdue))


def causes(remedies: list[str]) -> HostStatus:
    """A host with an ENI, of whose addresses each has a cause with one of these remedies."""
    own = ipv4(1, len(remedies))
    each = [
        ReasonStatus(code="leaves-elsewhere", text=f"{ip} leaves by eth0", remedy=remedy)
        for ip, remedy in zip(own, remedies, strict=True)
    ]
    part = family(own, health=Health.NOT_WORKING, causes=each, answering=[], silent=own)
    return host(eni(0), eni(1, health=Health.NOT_WORKING, ipv4=part, ipv6=part))


def test_what_has_one_remedy_is_told_once() -> None:
    lines = shown(causes(["ip rule del pref 100"] * 50))
    assert lines[6:] == [
        "eth1  10.0.2.10 leaves by eth0 (49 more likewise).",
        "      Mend: ip rule del pref 100",
        "      Why: nicwatchd explain eth1",
    ]


def test_many_causes_are_told_in_measure() -> None:
    lines = shown(causes([f"ip addr add {n}" for n in range(50)]))
    assert lines[6:] == [
        *("eth1  10.0.2.10 leaves by eth0.", "      Mend: ip addr add 0"),
        *("      10.0.2.11 leaves by eth0.", "      Mend: ip addr add 1"),
        *("      10.0.2.12 leaves by eth0.", "      Mend: ip addr add 2"),
        "      And 47 more causes: nicwatchd status eth1.",
        "      Why: nicwatchd explain eth1",
    ]


def test_a_link_that_is_down() -> None:
    part = family(ipv4(1), health=Health.NOT_WORKING, answering=[])
    down = eni(1, link_up=False, health=Health.NOT_WORKING, ipv4=part, ipv6=part)
    assert shown(host(eni(0), down))[4].endswith("  link down  link down")


def test_some_addresses_answer() -> None:
    lines = shown(host(eni(0), degraded(1)))
    assert "DEGRADED" in lines[4]
    assert "2 of 3 answer" in lines[4]
    begin = "verylongname001  IMDS lists 10.0.2.11 here, but it is not on"
    assert [line for line in lines if line.startswith(begin)]


def test_what_is_left_alone_is_told_once_for_all() -> None:
    lines = shown(host(eni(0), *(alone(n) for n in range(1, 21))))
    assert lines[0].startswith("nicwatchd 0.2.0   1 of 1 interface works")
    assert lines[4].split()[2:4] == ["left", "alone"]
    told = lines[lines.index("", 3) + 1 :]
    assert told == [
        "eth1, eth2, eth3, eth4, eth5, eth6, 14 more: left alone: excluded by the",
        "      settings",
    ]


@pytest.mark.parametrize(
    ("answered", "words"),
    [
        (None, "asked 1.5 s ago, answered never since the daemon started"),
        (NOW - 240.0, "asked 1.5 s ago, answered 4 min ago"),
    ],
    ids=["never", "once"],
)
def test_an_imds_that_does_not_answer_says_since_when(answered: float | None, words: str) -> None:
    imds = ImdsStatus(state="failing", detail="500", asked=NOW - 1.5, answered=answered)
    lines = shown(host(eni(0), imds=imds))
    assert lines[0] == "nicwatchd 0.2.0   1 of 1 interface works"
    said = " ".join(lines[1 : lines.index("")])
    assert said == f"IMDS is failing: 500; {words} Why: nicwatchd doctor"


def test_the_longest_first_line_fits() -> None:
    status = mixed(64).model_copy(update={"version": "10.20.30"})
    asked = {"imds": ImdsStatus(state="ok", asked=NOW - 59.0)}
    for each in (status, host(alone(1)), host()):
        assert len(shown(each.model_copy(update=asked))[0]) <= 80


def test_a_note_has_its_remedy_in_status_and_explain_and_all_is_well() -> None:
    add = "sudo ip addr add 10.0.1.11/32 dev eth0"
    note = ReasonStatus(code="address-unconfigured", text="nobody configured it", remedy=add)
    status = host(eni(0, notes=[note]))
    assert shown(status)[-2:] == ["eth0  nobody configured it.", f"      Mend: {add}"]
    account = {"interface": status.model_dump(mode="json")["interfaces"][0]}
    told = "\n".join(lines(account, NOW, Paint()))
    assert "note: nobody configured it." in " ".join(told.split())
    assert f"mend: {add}" in " ".join(told.split())
    assert is_well(status.model_dump(mode="json"))


def test_trouble_comes_first() -> None:
    lines = shown(
        host(
            idle="no EC2",
            problems=["kernel: no answer"],
            container_network="Cilium",
            imds=ImdsStatus(state="disabled", detail="403 on the token"),
            released=True,
        )
    )
    assert lines == [
        "nicwatchd 0.2.0   idle",
        "problem: kernel: no answer",
        "idle: no EC2",
        "released: nicwatchd leaves this host alone, including interfaces that are",
        "          attached later; to have it managed again: sudo nicwatchd reconcile",
        "IMDS is disabled: 403 on the token",
        "Why: nicwatchd doctor",
        "container network: Cilium owns this host's secondary interfaces",
    ]


def test_a_host_without_interfaces() -> None:
    assert shown(host()) == ["nicwatchd 0.2.0   no EC2 network interfaces on this host   IMDS ok"]


def test_a_note_that_is_no_trouble_is_for_the_view_in_depth() -> None:
    quiet = ReasonStatus(code="no-sign-of-ipv6", text="without IPv6")
    loud = ReasonStatus(code="fought-over", text="a rule was removed 3 times", remedy="bpftrace")
    lines = shown(host(eni(0), eni(1, notes=[quiet, loud])))
    assert lines[5:] == ["", "eth1  a rule was removed 3 times.", "      Mend: bpftrace"]


@pytest.mark.parametrize(("remedy", "is_told"), [("", False), ("nicwatchd doctor", True)])
def test_the_hosts_own_traffic_elsewhere_is_told_where_it_can_be_mended(
    remedy: str, *, is_told: bool
) -> None:
    """By somebody's choice it is quiet."""
    note = ReasonStatus(code="egress-elsewhere", text="leaves by another ENI", remedy=remedy)
    lines = shown(host(eni(0, notes=[note])))
    assert ("eth0  leaves by another ENI." in lines) is is_told
    assert (f"      Mend: {remedy}" in lines) is is_told


AWAY = UnlinkedStatus(mac="02:00:00:00:00:03", eni="eni-3", name="eth2", since=NOW, remembered=True)
VFIO = DeviceStatus(address="0000:00:06.0", driver="vfio-pci")
ONE_OF_TWO = "it may be one of 2 Amazon network devices without a link"
BARE = DeviceStatus(address="0000:00:07.0")


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ([], "nor is there an Amazon network device without a link"),
        ([VFIO], "the one Amazon network device without a link is 0000:00:06.0 (vfio-pci)"),
        (
            [VFIO, BARE],
            f"{ONE_OF_TWO}: 0000:00:06.0 (vfio-pci), 0000:00:07.0 (no driver)",
        ),
    ],
)
def test_an_eni_without_a_link(devices: list[DeviceStatus], words: str) -> None:
    lines = shown(host(eni(0), unlinked=[AWAY], devices=devices))
    told = lines[lines.index("", 3) + 1 :]
    assert re.fullmatch(r"no link \(was eth2\) for \d\.\d s: 02:00:00:00:00:03 eni-3", told[0])
    assert words in " ".join(line.strip() for line in told[1:])
    assert told[-1].endswith("back.")


# --- widths --------------------------------------------------------------------------------------

LONG_V6 = "2001:db8:1234:5678:9abc:def0:1234:5678"
NAMES = ["e", "verylongname123", r"\xff" * 15, "網路網路網", "e\u0301" * 5, "-" * 15]


def widest(interface: InterfaceStatus, name: str) -> InterfaceStatus:
    """The same with texts and addresses that are as long as can be."""
    text = " ".join(["word"] * 60 + ["x" * 100])
    wide = family([LONG_V6] * 3)
    reason = ReasonStatus(code="excluded", text=text, remedy=text)
    notes = [ReasonStatus(code="foreign-group", text=text, remedy=f"ip link set {name} down")]
    ways = {"notes": notes, "reasons": [reason, *interface.reasons], "ipv6": wide}
    return interface.model_copy(
        update={"name": name, "ipv4": family(["255.255.255.255"] * 99)} | ways
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 5, 20, 64])
def test_nothing_is_wider_than_80_columns(count: int, name: str) -> None:
    status = mixed(count, 100)
    named = [widest(each, name) for each in status.interfaces]
    lines = shown(status.model_copy(update={"interfaces": named, "problems": ["x " * 200]}))
    assert max(map(width, lines)) <= 80
    table = lines[lines.index("") + 1 :][: count + 2]
    assert len({width(line[: line.rindex("  ")]) for line in table[1:]}) >= 1
    for heading in ("STATE", "FOR"):
        place = table[0].index(heading)
        assert all(_before(line, place).endswith("  ") for line in table)


def _before(line: str, columns: int) -> str:
    """The part of a line before a column of the terminal."""
    taken = ""
    for each in line:
        if width(taken) >= columns and width(each) > 0:
            break
        taken += each
    return taken


# --- one interface -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        *("eth1", "ETH1", "02:00:00:00:00:02", "eni-0a1b2c3d4e5f60702", "10.0.2.10"),
        *("2001:DB8:ec2:2:0::10", "10.0.9.70", "2001:db8:9::7"),
    ],
)
async def test_one_interface(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    prefixes = {
        "ipv4": family(ipv4(1), prefixes=["10.0.9.64/28"]),
        "ipv6": family(["2001:db8:ec2:2::10"], prefixes=["2001:db8:9::/80"]),
    }
    service.said = host(eni(0), eni(1).model_copy(update=prefixes), broken(2))
    assert await run(tmp_path, "status", "--json", key) == 0
    said = json.loads(capsys.readouterr().out)
    assert [interface["name"] for interface in said["interfaces"]] == ["eth1"]


async def test_in_depth(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert service.said.interfaces
    assert await run(tmp_path, "status", "eth1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "eth1  eni-0a1b2c3d4e5f60702  working for 2 h; it worked after 0.5 s"
    )
    assert lines[-3:] == [
        "    Routing: applied; its table is 1000959",
        "  If it does not answer all the same: routes, rules and sources are right: look",
        "  at security groups and network ACLs.",
    ]
    assert max(map(len, lines)) <= 80


async def test_in_depth_a_cause_is_told_once_with_its_remedy(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.said = host(eni(0), broken(1), eni(2))
    assert await run(tmp_path, "status", "eth1") == 1
    out = capsys.readouterr().out
    assert out.count("leave by eth0 by rule 100") == 1
    assert "    mend:    ip rule del pref 100 from 10.0.2.0/24 lookup 100\n" in out
    assert "10.0.2.10 (SILENT)" in out
    assert out.endswith("  Why: nicwatchd explain eth1\n")


@pytest.mark.parametrize(
    ("addresses", "added", "primary", "words"),
    [
        (2, [0, 1], False, ["all but the first are"]),
        (2, [1], False, ["added ones are"]),  # the first is DHCPv6's
        (2, [0, 1], True, ["added ones are"]),
        (1, [0], False, []),
        (2, [], False, []),
    ],
)
async def test_which_addresses_are_deprecated(
    service: Canned,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    addresses: int,
    added: list[int],
    primary: bool,
    words: list[str],
) -> None:
    every = ipv6(1, addresses)
    part = family(every, added=[every[n] for n in added])
    service.said = host(eni(0), eni(1, ipv6=part, primary=primary))
    assert await run(tmp_path, "status", "eth1") == 0
    said = re.findall(r'\[(.*) "deprecated" in', " ".join(capsys.readouterr().out.split()))
    assert said == words


async def test_one_interface_is_judged_alone(service: Canned, tmp_path: Path) -> None:
    service.said = host(eni(0), broken(1), alone(2), problems=["kernel: no answer"])
    assert [await run(tmp_path, "status", f"eth{n}") for n in range(3)] == [0, 1, 0]
    assert await run(tmp_path, "status") == 1


async def test_an_interface_that_is_not_there(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert service.said.interfaces
    for key in ("eth7", "10.0.7.1", ""):
        assert await run(tmp_path, "status", key) == 3
        said = capsys.readouterr().err
        assert said == f"nicwatchd: no interface {key!r}; there are: eth0, eth1\n"
        if key:
            assert await run(tmp_path, "explain", key) == 3
            assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("protected", "words"),
    [
        (False, "its link is left alone"),
        (True, "its link is left alone, its addresses are protected"),
    ],
)
async def test_the_primary_is_not_called_ignored(
    service: Canned,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: str,
    *,
    protected: bool,
) -> None:
    service.said = host(eni(0, protected=protected))
    for command in ("status", "explain"):
        assert await run(tmp_path, command, "eth0") == 0
        out = " ".join(capsys.readouterr().out.split())
        assert words in out
        assert ("are protected" in out) is protected
        assert "ignored" not in out


async def test_what_history_calls_bypassed_is_called_so(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.said = host(eni(0), eni(1, shadowed=True, fought_over=True))
    await run(tmp_path, "status", "eth1")
    assert "(bypassed, fought over)" in capsys.readouterr().out


def test_no_key_is_asked_for_that_imds_does_not_list() -> None:
    key = {"key": "ipv6s", "answer": "unknown", "why": "not asked yet", "since": NOW - 11}
    key |= {"values": [], "unconfirmed": []}
    interface = host(eni(0)).model_dump(mode="json")["interfaces"][0]
    account = {"ipv6": {"keys": [key]}, "asked": NOW - 0.8, "listed_since": None}
    for code, words in (
        ("primary-unknown", "unknown: not asked yet (for 11 s)"),
        ("mac-unlisted", "unknown: IMDS does not list the MAC"),
    ):
        reasons = [{"code": code, "text": "x", "remedy": ""}]
        told = list(_family_lines(account | {"interface": interface | {"reasons": reasons}}))
        assert told == [f"  IMDS   {'ipv6s':25}{words}"]


def _family_lines(account: dict[str, Any]) -> Iterator[str]:
    whole = {"next_look": NOW, "next_look_why": "poll", "next_question": None, "undone": []}
    whole |= {"throttled": [], "table": 7, "routes": 0, "rules": 0}
    return (line for line in lines(account | whole, NOW, Paint()) if "ipv6s" in line)


async def test_explain_tells_the_notes(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = ReasonStatus(code="lease-unlisted-ipv4", text="not in IMDS", remedy="renew the lease")
    service.said = host(eni(0), eni(1, notes=[note]))
    assert await run(tmp_path, "explain", "eth1") == 0
    out = capsys.readouterr().out
    assert "  note:      not in IMDS.\n    mend:    renew the lease\n" in out
    assert "To do:    See `mend` above. If it does not answer" in out


# --- exit codes, and JSON ------------------------------------------------------------------------

UNKNOWN = eni(1, health=None, state=State.DETECTED, ipv4=None, ipv6=None)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (host(eni(0), eni(1)), 0),
        (host(eni(0), alone(1)), 0),
        (host(), 0),
        (host(eni(0), waiting(1)), 1),
        (host(eni(0), broken(1)), 1),
        (host(eni(0), degraded(1)), 1),
        (host(eni(0), UNKNOWN), 1),
        (host(eni(0), problems=["kernel: no answer"]), 1),
        (host(eni(0), ready=False, unready=["the primary interface is not known yet"]), 1),
    ],
)
async def test_exit_codes(service: Canned, tmp_path: Path, status: HostStatus, code: int) -> None:
    service.said = status
    assert await run(tmp_path, "status") == code
    assert await run(tmp_path, "status", "--json") == code


async def test_what_is_not_ready_is_told(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.said = host(eni(0), ready=False, unready=["the primary interface is not known yet"])
    assert await run(tmp_path, "status") == 1
    assert "not ready: the primary interface is not known yet\n" in capsys.readouterr().out


async def test_settings_that_cannot_be_used_are_told_once(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = "x.toml: unknown key"
    service.said = host(eni(0), ready=False, problems=[wrong], bad_settings=wrong, unready=[wrong])
    assert await run(tmp_path, "status") == 1
    assert capsys.readouterr().out.count(wrong) == 1


async def test_json_is_the_document_as_served(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.said = mixed(5, 3)
    assert await run(tmp_path, "status", "--json") == 1
    assert json.loads(capsys.readouterr().out) == service.said.model_dump(mode="json")


def test_an_older_daemon_is_judged_by_the_state() -> None:
    document = without_health(mixed(5, 2).model_dump(mode="json"))
    lines = shown(document)
    states = [line.split()[2] for line in lines[3:9]]
    assert states == ["primary", "applied", "waiting", "applied", "applied", "left"]
    assert lines[0] == "nicwatchd 0.2.0   3 of 4 interfaces work   IMDS ok"
    assert "eth2  waits: IMDS lists no ipv6s yet." in lines


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"state": "detected"}, "starting"),
        ({"state": "validated"}, "waiting"),
        ({"state": "awaiting-imds", "overdue": True}, "OVERDUE"),
        ({"fought_over": True}, "FOUGHT OVER"),
    ],
)
def test_states_of_an_older_daemon(changes: dict[str, Any], word: str) -> None:
    document = without_health(host(eni(1)).model_dump(mode="json"))
    document["interfaces"][0] |= changes
    assert f"  {word}  " in shown(document)[3]


def test_a_family_that_it_does_not_have_is_a_dash() -> None:
    none = FamilyStatus(verdict=Status.ABSENT)
    assert shown(host(eni(0), eni(1, ipv6=none)))[4].endswith("10.0.2.10  -")


# --- a daemon that is dead, or hangs -------------------------------------------------------------


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal knows of an ENI that worked, 180 s ago."""
    now = time.time()  # and not the time at which this module was imported
    worked = family(ipv4(1), health_since=now - 180.0)
    status = eni(1, since=now - 3600.0, ipv4=worked, ipv6=family(()))
    monkeypatch.setattr(journal, "read_statuses", lambda: [status])


@pytest.fixture
def hung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A daemon that accepts connections, and answers nothing."""
    monkeypatch.setattr(client, "TIMEOUT", 0.05)
    monkeypatch.setattr(client.ask, "__defaults__", (0.05,))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "nicwatchd.sock"))
        listening.listen()
        yield


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("words", [(), ("--journal",), ("eth1",), ("--journal", "eth1")])
async def test_no_daemon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert await run(tmp_path, "status", *words) == 4
    said = capsys.readouterr()
    assert said.err.startswith("nicwatchd: the daemon is not running (nothing listens on ")
    assert said.err.count("\n") == 1
    first = said.out.split("\n\n")[0].replace("\n", " ")
    assert first.startswith(
        "THE DAEMON DOES NOT RUN: below is what the journal of this boot knows; the last change"
        " was 3 min ago. Meanwhile what is in the kernel stays, but nothing heals it"
    )
    assert first.endswith(
        "Mend: sudo systemctl start nicwatchd Why:  journalctl -u nicwatchd -n 20"
    )
    assert "eth1  eni-0a1b2c3d4e5f60702  working" in said.out


@pytest.mark.usefixtures("known", "hung")
async def test_a_daemon_that_hangs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run(tmp_path, "status") == 4
    said = capsys.readouterr()
    assert "the daemon hangs: no answer on " in said.err
    assert said.out.startswith("THE DAEMON HANGS: ")
    assert "sudo systemctl restart nicwatchd" in said.out


@pytest.mark.usefixtures("known")
async def test_no_daemon_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run(tmp_path, "status", "--json") == 4
    said = json.loads(capsys.readouterr().out)
    assert said["source"] == "journal"
    assert said["problems"][0].startswith("the daemon is not running")
    assert [each["name"] for each in said["interfaces"]] == ["eth1"]


async def test_no_daemon_and_no_journal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable() -> list[InterfaceStatus]:
        raise JournalUnreadableError("the journal has no entry")

    monkeypatch.setattr(journal, "read_statuses", unreadable)
    assert await run(tmp_path, "status") == 4
    assert capsys.readouterr().err.splitlines()[1:] == ["nicwatchd: the journal has no entry"]


@pytest.mark.usefixtures("known")
async def test_the_journal_of_a_daemon_that_runs(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.said = host(eni(0), broken(1))  # the journal says otherwise
    assert await run(tmp_path, "status", "--journal") == 0
    assert capsys.readouterr().out.startswith("nicwatchd   1 of 1 interface works\n")


# --- what it costs -------------------------------------------------------------------------------

COSTLY = {"pydantic", "aiohttp", "pyroute2", "http", "asyncio", "rich", "dataclasses", "textwrap"}
if sys.version_info >= (3, 14):
    COSTLY -= {"dataclasses"}  # argparse itself imports it, for its colours
LOADED = """\
import sys
from nicwatchd.cli.main import main
main(sys.argv[1:])
sys.stderr.write(" ".join(sys.modules))
"""


@pytest.mark.parametrize("words", [("status",), ("status", "eth1"), ("explain", "eth1")])
async def test_nothing_costly_is_imported(
    service: Canned, tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert service.said.interfaces
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LOADED, *words, "--runtime-directory", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, loaded = await process.communicate()
    assert b"eth1" in out
    assert {name.partition(".")[0] for name in loaded.decode().split()} & COSTLY == set()


# --- the rest ------------------------------------------------------------------------------------


async def test_reconcile(
    service: Canned, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(tmp_path, "reconcile", "--json") == 0
    assert len(service.said.interfaces) == 1
    said = json.loads(capsys.readouterr().out)
    assert [interface["name"] for interface in said["interfaces"]] == ["eth0"]


async def test_a_locale_without_the_letters_and_a_closed_output(
    tmp_path: Path, service: Canned, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.said = host(eni(0, name="\xfc"))
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, "ascii", write_through=True))
    assert await run(tmp_path, "status") == 0
    assert b"\n\\xfc" in printed.getvalue()
    monkeypatch.setattr("sys.stdout", None)  # as Python starts with `>&-`
    assert await run(tmp_path, "status") == 0
    assert sys.stdout is not None
    sys.stdout.close()


@pytest.mark.parametrize(
    ("variables", "is_coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, is_coloured: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    plain = shown_plainly = shown(mixed(5))
    assert any("\x1b[" in line for line in plain) is is_coloured
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    shown_plainly = shown(mixed(5))
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in plain] == shown_plainly


def test_health_counts_before_the_state() -> None:
    assert "NOT WORKING" in shown(host(eni(1, health=Health.NOT_WORKING)))[3]
