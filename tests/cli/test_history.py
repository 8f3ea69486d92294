"""`nicwatchd history` on the files of a real systemd-journald, over boots."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self
from uuid import UUID
from xml.etree import ElementTree as ET

import pytest

from nicwatchd.cli.history import NOTHING
from nicwatchd.service import journal
from nicwatchd.service.journal_reader import Entry, last_entry
from tests.cli.journal_entries import BOOT, ENI, LATER_BOOT, STORY, WORKS, about, entry
from tests.journald import Journald, send

NICWATCHD = (sys.executable, "-m", "nicwatchd.cli.main")
# The same without systemd's library, as on Amazon Linux.
WITHOUT_LIBRARY = (
    "import sys; sys.modules['systemd'] = None; "
    "from nicwatchd.cli.main import main; sys.exit(main())"
)
WAYS = {"library": NICWATCHD, "journalctl": (sys.executable, "-c", WITHOUT_LIBRARY)}
NOBODY = ("setpriv", "--reuid=65534", "--clear-groups")
SEND = "import json, sys; from tests.journald import send\nsend(json.loads(sys.argv[1]))"
KILLED = (STORY[0], STORY[5])
SECOND = (
    entry(0.0, journal.STARTED, "nicwatchd 0.2.0 started"),
    about(0.1, journal.TRANSITION, " is applied", ipv4=WORKS),
    entry(0.2, journal.STOPPED, "nicwatchd stopped"),
    entry(0.3, journal.STARTED, "nicwatchd 0.2.0 started"),
)


def sendable(each: Entry) -> dict[str, str]:
    """What the daemon sends: all but what journald adds itself."""
    return {name: value for name, value in each.items() if not name.startswith("_")}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "journal"


class Boot:
    """A host that is up: its journald, which keeps its files in one directory."""

    def __init__(self, files: Path, boot: str) -> None:
        self.journald = Journald(files, UUID(boot))

    def __enter__(self) -> Self:
        self.journald.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.journald.sync()
        self.journald.close()

    def write(self, entries: Sequence[Entry]) -> None:
        for each in entries:
            send(sendable(each), self.journald.socket)
        self.journald.sync()

    def run(self, *words: str, way: str = "library") -> subprocess.CompletedProcess[str]:
        """`nicwatchd history`, where this boot is the present one."""
        return self.journald.inside(*WAYS[way], "history", *words)


@pytest.fixture
def two_boots(files: Path) -> Iterator[Boot]:
    """The second of two boots; the first ended with its power."""
    with Boot(files, BOOT) as first:
        first.write(KILLED)
    with Boot(files, LATER_BOOT) as second:
        second.write(SECOND)
        yield second


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What `--json` printed."""
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_this_boot_is_what_is_shown(two_boots: Boot, way: str) -> None:
    found = told(two_boots.run("--json", way=way))
    assert [each["what"] for each in found["events"]] == [
        *("started", "configured", "stopped", "started"),
    ]
    assert {each["boot"] for each in found["events"]} == {LATER_BOOT}


@pytest.mark.parametrize("way", WAYS)
def test_with_a_time_it_is_all_boots_and_the_end_of_the_first_is_a_gap(
    two_boots: Boot, way: str
) -> None:
    found = told(two_boots.run("--since", "-1h", "--json", way=way))
    assert [each["what"] for each in found["events"]] == [
        *("started", "working", "died", "started", "configured", "stopped", "started"),
    ]
    conditions = [each["condition"] for each in found["intervals"]]
    assert conditions == ["working", "no daemon", "working", "no daemon"]
    first, second = found["without_daemon"]
    assert first["why"] == "the host went down with the daemon running"
    assert second["why"] == "the daemon was stopped"
    assert {each["eni"] for each in found["intervals"]} == {ENI}


def test_people_see_a_line_for_each_boot(two_boots: Boot) -> None:
    done = two_boots.run("--since", "-1h")
    assert (done.returncode, done.stderr) == (0, "")
    boots = [line for line in done.stdout.splitlines() if ", boot " in line]
    assert [line[-12:-4] for line in boots] == [BOOT[:8], LATER_BOOT[:8]]
    assert "  eth1  working" in done.stdout
    assert "  eth1  configured" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_one_interface_by_any_of_its_names(two_boots: Boot) -> None:
    for name in ("eth1", "ETH1", ENI, "02:00:00:00:00:02"):
        found = told(two_boots.run(name, "--json"))
        assert "configured" in {each["what"] for each in found["events"]}
    done = two_boots.run("eth9")
    assert (done.returncode, done.stdout) == (3, "")
    assert "the journal has nothing about an interface 'eth9'" in done.stderr


def test_the_picture_is_written(two_boots: Boot, tmp_path: Path) -> None:
    picture = tmp_path / "history.svg"
    done = two_boots.run("--since", "-1h", "--svg", str(picture))
    assert (done.returncode, done.stdout) == (0, f"{picture}: 1 interface, 60 min\n")
    bars = [each.get("class") for each in ET.parse(picture).iter() if each.find("*") is not None]
    assert {"bar working", "bar none"} <= set(bars)
    done = two_boots.run("--svg", "/nowhere/history.svg")
    assert (done.returncode, done.stderr) == (
        2,
        "nicwatchd: /nowhere/history.svg: No such file or directory\n",
    )


def test_the_files_of_another_host_are_read_where_they_are(two_boots: Boot, files: Path) -> None:
    two_boots.journald.sync()
    done = subprocess.run(
        [*NICWATCHD, "history", "--directory", str(files), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = told(done)
    assert len(found["events"]) == 7
    assert found["events"][-1]["what"] == "started"
    assert found["until"] == last_entry(LATER_BOOT, files), "where the files end"


@pytest.mark.parametrize("way", WAYS)
def test_what_others_write_is_not_believed(files: Path, way: str) -> None:
    with Boot(files, BOOT) as boot:
        boot.write(KILLED)
        forged = sendable(about(2.0, journal.LOST, " lost everything", NICWATCHD_OBJECTS="all"))
        sent = boot.journald.inside(sys.executable, "-c", SEND, json.dumps(forged), before=NOBODY)
        assert (sent.returncode, sent.stderr) == (0, "")
        assert len(boot.journald.entries(f"MESSAGE_ID={journal.LOST.hex}")) == 1
        found = told(boot.run("--json", way=way))
    assert [each["what"] for each in found["events"]] == ["started", "working"]


@pytest.mark.parametrize("way", WAYS)
def test_odd_entries_of_root_are_shown_as_far_as_they_go(files: Path, way: str) -> None:
    with Boot(files, BOOT) as boot:
        boot.write(
            [
                *KILLED,
                {"MESSAGE_ID": journal.TRANSITION.hex, "MESSAGE": "?", "NICWATCHD_STATUS": "{"},
                {"MESSAGE_ID": journal.LOST.hex, "NICWATCHD_CAUSE": "x" * 100_000},
                {"MESSAGE_ID": journal.HEALTH_CHANGED.hex, "MESSAGE": "\x1b[31m\nred"},
            ]
        )
        done = boot.run(way=way)
    assert (done.returncode, done.stderr) == (0, "")
    assert "changed" in done.stdout
    assert "\x1b" not in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


@pytest.mark.parametrize("way", WAYS)
def test_an_empty_journal_is_said_to_be_one(files: Path, way: str) -> None:
    with Boot(files, BOOT) as boot:
        done = boot.run(way=way)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"nicwatchd: {NOTHING}\n"
        boot.write(KILLED)
        done = boot.run("--since=-2h", "--until=-1h", way=way)
        assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--since", "soon"], "'soon' is not a time; times are like -1h, -2d, 10:00, "),
        (["--until", "1 2 3"], "'1 2 3' is not a time"),
        (["--since", "-1h", "--until", "-2h"], "--since is not before --until"),
    ],
)
def test_wrong_times_are_wrong_usage(words: list[str], complaint: str) -> None:
    done = subprocess.run(
        [*NICWATCHD, "history", *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    for way in WAYS.values():
        done = subprocess.run(
            [*way, "history", "--directory", str(tmp_path / "none")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert "Traceback" not in done.stderr
