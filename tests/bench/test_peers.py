"""The judging of the comparison with others: what counts as reachable, missing, left behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.peers import judge, table, unbound
from tests.bench.peers.measure import Found


@pytest.mark.parametrize(
    ("answers", "stays"),
    [
        ([], None),
        ([5.0, 6.0, 7.0, 8.0, 9.0], 5.0),
        ([1.0, 2.0, 6.0, 7.0, 9.0], 6.0),  # an outage of 4 s
        ([1.0, 2.5, 4.4, 6.0, 8.0, 9.5], 1.0),  # a lost probe is none
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], None),  # gone in the end
        ([9.9], 9.9),
    ],
)
def test_reachable_is_who_answers_until_the_end(answers: list[float], stays: float | None) -> None:
    assert judge.stays_from(answers, end=10.0) == stays


def test_all_are_reachable_when_the_last_one_is() -> None:
    assert judge.latest([1.0, 3.0, 2.0]) == 3.0
    assert judge.latest([1.0, None]) is None
    assert judge.latest([]) is None


def test_a_counter_is_read_between_its_samples() -> None:
    samples = [(10.0, 1.0), (20.0, 3.0), (30.0, 3.0)]
    assert judge.at_moment(samples, 5.0) == 1.0
    assert judge.at_moment(samples, 15.0) == 2.0
    assert judge.at_moment(samples, 25.0) == 3.0
    assert judge.at_moment(samples, 99.0) == 3.0


def test_cpu_is_the_machines_less_the_benchmarks_own() -> None:
    said = "/a:usage_usec 9000000\n/b:usage_usec 500000\n/a/own:usage_usec 1000000\n"
    assert judge.usage(said, ["/a/own"]) == 8.5


RULE = "32765:\tfrom 10.0.5.0/24 iif lo lookup 1000959 proto 236"
LOG = """\
[2026-11-23T16:00:01.000000] Deleted 32765:\tfrom 10.0.5.0/24 iif lo lookup 1000959 proto 236
[2026-11-23T16:00:01.050000] Deleted 10001:\tfrom 10.0.9.1 lookup 10001
[2026-11-23T16:00:01.250000] 32765:\tfrom 10.0.5.0/24 iif lo lookup 1000959 proto 236
[2026-11-23T16:00:02.000000] Deleted 32765: from 10.0.5.0/24 iif lo lookup 1000959 proto 236
[2026-11-23T16:00:02.125000] 32765: from 10.0.5.0/24 iif lo lookup 1000959 proto 236
"""


def test_a_rule_is_missing_from_its_deletion_until_it_is_back() -> None:
    assert judge.missing(LOG, [RULE]) == 0.25
    assert judge.missing(LOG, ["32765:\tfrom all oif ens6 lookup 1000959 proto 236"]) == 0.0


def test_a_rule_that_does_not_come_back_is_missing_for_good() -> None:
    assert judge.missing(LOG.splitlines()[0], [RULE]) is None


def test_what_is_left_behind_is_what_was_not_there() -> None:
    lease = "2: ens5 inet 10.0.1.10/24 metric 512 valid_lft {}sec preferred_lft {}sec"
    before = {"addresses": [lease.format(3000, 3000)], "rules": ["0: from all lookup local"]}
    after = {
        "addresses": [lease.format(2000, 2000)],
        "rules": ["0:\tfrom all lookup local", "10001:\tfrom 10.0.2.10 lookup 10001"],
        "files": [],
    }
    assert judge.left_behind(before, after) == {"rules": ["10001: from 10.0.2.10 lookup 10001"]}


def test_an_address_is_not_found_within_another() -> None:
    text = "3: ens6 inet 10.0.5.110/24\n10001: from 2001:db8:0:5::11 lookup 10001"
    things = ["10.0.5.11", "2001:db8:0:5::11", "db8:0:5::11", "10.0.5.110"]
    assert judge.mentioned(text, things) == {"2001:db8:0:5::11", "10.0.5.110"}


UNBOUND = """\
100.000 IPv4 ens5
100.000 IPv6 ens5
107.000 IPv6 ens5,ens6
107.250 IPv6 ens6
108.500 IPv6 ens5
109.000 IPv4 nothing
109.125 IPv4 ens5
120.000 looks 400 0.081
"""


def test_a_stretch_lasts_until_all_leaves_by_the_primary_again() -> None:
    assert judge.stretch(UNBOUND, "IPv6", "ens5") == 1.5
    assert judge.stretch(UNBOUND, "IPv4", "ens5") == 0.125
    assert judge.looks(UNBOUND) == (400, 0.081)


def test_a_stretch_without_an_end_is_none() -> None:
    first, *_ = UNBOUND.partition("108.500")
    assert judge.stretch(first, "IPv6", "ens5") is None
    assert judge.stretch(first, "IPv4", "ens5") == 0.0


def test_a_program_that_died_has_seen_nothing() -> None:
    with pytest.raises(ValueError, match="not ended in good order"):
        judge.looks(UNBOUND.rpartition("120.000")[0])


def test_the_program_asks_for_all_far_hosts(tmp_path: Path) -> None:
    program = tmp_path / "look.py"
    program.write_text(unbound.LOOK)
    words = [sys.executable, str(program), "0.01", "127.0.0.1", "127.1.2.3", "::1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as looking:
        assert looking.stdout is not None
        lines = [looking.stdout.readline() for _ in range(2)]
        looking.terminate()
        lines += looking.stdout.readlines()
    assert [line.split()[1:] for line in lines[:2]] == [["IPv4", "lo"], ["IPv6", "lo"]]
    assert judge.stretch("".join(lines), "IPv4", "lo") == 0.0
    assert judge.looks("".join(lines))[0] >= 1


def outcome(ipv4: float | None, ipv6: float | None) -> Found:
    cost = {"requests until then": 12, "requests": 34, "cpu until then": 1.5, "cpu": 2.5}
    return {"IPv4": ipv4, "IPv6": ipv6, "silence of the primary": 0.3, **cost}


ADDED = {"address, IPv4": 30.0, "address, IPv6": 30.0, "prefix, IPv4": 30.0, "prefix, IPv6": 30.0}
FOUND: dict[str, Found] = {
    "race": outcome(1.5, 2.5),
    "race without DHCPv6": outcome(1.5, 21.0),
    "complete": outcome(1.5, 2.5),
    "flush": {"IPv4": 0.5, "IPv6": 0.5, "flushing took": 0.2},
    "in place": {
        **ADDED,
        "left": {"address 10.0.5.11": 31.0, "prefix 10.0.5.64/28": None},
    },
    "neighbour": {"IPv4": True, "IPv6": True},
    "unbound": {"IPv4": 0.0, "IPv6": 0.3, "looks": 4000, "between looks": 0.2, "changes": []},
    "published port": {"IPv4": True, "IPv6": True},
    "address of the primary": {"IPv4": 30.0, "IPv6": 30.0},
    "second": {**outcome(1.0, 1.0), "rules missing": 0.4},
    "detach": {"silence of the primary": 0.2, "left behind": {}},
}


def test_who_is_in_time_keeps_every_budget() -> None:
    assert [str(b) for b in table.budgets({"nicwatchd": FOUND}) if not b.kept] == []


@pytest.mark.parametrize(
    ("scenario", "key", "value"),
    [
        ("race", "IPv6", 20.5),
        ("race without DHCPv6", "IPv6", None),
        ("complete", "silence of the primary", 0.6),
        ("flush", "IPv4", 9.0),
        ("in place", "prefix, IPv6", None),
        ("second", "rules missing", 1.1),
        ("detach", "left behind", {"rules": ["32765: from 10.0.5.0/24"]}),
        ("neighbour", "IPv6", False),
        ("unbound", "IPv4", 1.1),
        ("unbound", "IPv6", None),
        ("published port", "IPv4", False),
        ("address of the primary", "IPv6", None),
    ],
)
def test_who_is_not_misses_that_one(scenario: str, key: str, value: object) -> None:
    found = {**FOUND, scenario: {**FOUND[scenario], key: value}}
    assert len([b for b in table.budgets({"nicwatchd": found}) if not b.kept]) == 1


def test_peers_are_held_to_nothing() -> None:
    assert table.budgets({"none": {}}) == []


def test_rows_about_the_rest_of_the_host_have_budgets_of_their_own() -> None:
    alone = {scenario: FOUND[scenario] for scenario in table.BESIDE}
    assert len(table.budgets({"nicwatchd": alone})) == 2 * len(table.BESIDE)


def test_the_table_has_a_column_for_each_and_says_never() -> None:
    none: dict[str, Found] = {
        "race": outcome(None, None),
        "unbound": {"IPv4": None, "IPv6": 20.0},
        "published port": {"IPv4": False, "IPv6": False},
    }
    text = table.markdown({"nicwatchd": FOUND, "none": none})
    assert "| nicwatchd | no agent |" in text
    assert "| 1.50 s, 2.50 s | never, never |" in text
    assert "| 12 of 34 | 34 |" in text
    assert "| 31.0 s | - |" in text
    assert "| stays | - |" in text
    assert "| 0.00 s, 0.30 s | stays there, 20.0 s |" in text
    assert "| yes, yes | no, no |" in text


def test_what_was_compared_is_named_with_its_versions() -> None:
    versions = {"kernel": "6.12.1", "systemd": "257.9"}
    text = table.described({"none": {"versions": versions}}, {"CPU": "2 x 486", "QEMU": "7.2"})
    assert text == "CPU 2 x 486, QEMU 7.2.\n\n- no agent: kernel 6.12.1, systemd 257.9"


@pytest.mark.parametrize(
    "command",
    ["make bench", "make bench-boot", "make bench-growth", "make bench-idle", "make bench-peers"],
)
def test_the_page_has_a_place_for_it(command: str) -> None:
    page = report.PAGE.read_text()
    begin, end = report.markers(command)
    assert page.index(begin) < page.index(end)


def test_the_page_says_what_was_measured() -> None:
    """The tables are those of the data, and of nothing that a test has made up."""
    begin, end = report.markers("make bench-peers")
    written = report.PAGE.read_text().partition(begin)[2].partition(end)[0]
    data = json.loads(table.DATA.read_text())
    assert written.split() == " ".join(table.parts(data)).split()


def test_who_is_left_out_keeps_the_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "benchmarks.md"
    begin, end = report.markers("make bench-peers")
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(table, "DATA", tmp_path / "peers.json")
    here = {"CPU": "2 x 486"}
    versions = {"versions": {"kernel": "6.12.1"}}
    table.write({"none": {**versions, "race": outcome(None, None)}}, here)
    table.write({"nicwatchd": {**versions, **FOUND}}, here)
    text = page.read_text()
    assert text.startswith(f"before\n{begin}\n\nCPU 2 x 486.\n")
    assert text.endswith(f"{end}\nafter\n")
    assert "old" not in text
    assert "| nicwatchd | no agent |" in text
    table.write({"nicwatchd": {**versions, **FOUND}}, {"CPU": "another one"})
    assert "no agent" not in page.read_text()


def test_rows_about_the_rest_of_the_host_come_from_a_later_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("\n".join(report.markers("make bench-peers")))
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(table, "DATA", tmp_path / "peers.json")
    versions = {"versions": {"kernel": "6.12.1"}}
    early, late = {"CPU": "2 x 486"}, {"CPU": "2 x 586"}
    both = {"nicwatchd": {**versions, **FOUND}, "none": {**versions, **FOUND}}
    table.write(both, early)
    assert "Measured later" not in page.read_text()
    assert page.read_text().count("| yes, yes | yes, yes |") == 2
    table.write({"nicwatchd": {**versions, "neighbour": FOUND["neighbour"]}}, late, beside=True)
    text = page.read_text()
    assert "CPU 2 x 486. Measured later, on CPU 2 x 586: the new subnet's neighbour" in text
    assert "| 1.50 s, 2.50 s | 1.50 s, 2.50 s |" in text
    assert "| the new subnet's neighbour reaches the primary | yes, yes | - |" in text
    assert "a published port" not in text
    table.write({"none": {**versions, **FOUND}}, early)
    assert "| the new subnet's neighbour reaches the primary | - | yes, yes |" in page.read_text()
