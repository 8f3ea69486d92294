"""The catalog, as systemd reads it: a text for each message that nicwatchd writes."""

import re
import shutil
import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from nicwatchd.core.lifecycle import State
from nicwatchd.service import entries, journal
from nicwatchd.service.status import InterfaceStatus, ReasonStatus
from tests.journald import Journald, send

CATALOG = Path(__file__).parents[2] / "systemd/nicwatchd.catalog"
IDS = {name: value for name, value in vars(journal).items() if isinstance(value, UUID)}
WRITTEN = {
    "INTERFACE",
    "NICWATCHD_IMDS",
    "NICWATCHD_LOST",
    *re.findall(r'"(NICWATCHD_\w+)"', Path(journal.__file__).read_text()),
    *re.findall(r'"(NICWATCHD_\w+)"', Path(entries.__file__).read_text()),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system with our catalog alone."""
    target = tmp_path / "usr/lib/systemd/catalog/nicwatchd.catalog"
    target.parent.mkdir(parents=True)
    shutil.copy(CATALOG, target)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    return tmp_path


def journalctl(root: Path, *words: str) -> str:
    command = ["journalctl", f"--root={root}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_systemd_takes_it(root: Path) -> None:
    journalctl(root, "--update-catalog")
    assert (root / "var/lib/systemd/catalog/database").stat().st_size > 0


def test_each_message_has_its_text() -> None:
    texts = dict(re.findall(r"(?m)^-- ([0-9a-f]{32})\n((?:(?!-- ).*\n?)*)", CATALOG.read_text()))
    assert {UUID(message_id) for message_id in texts} == set(IDS.values())
    for text in texts.values():
        header, _, body = text.partition("\n\n")
        assert re.match(r"Subject: .+\nDefined-By: nicwatchd\n", header)
        assert body.strip()


def test_its_placeholders_are_fields_that_we_write() -> None:
    assert set(re.findall(r"@(\w+)@", CATALOG.read_text())) <= WRITTEN


def test_it_tells_of_the_state_that_an_entry_is_about() -> None:
    assert "@NICWATCHD_MEANING@" in CATALOG.read_text()
    assert set(entries.MEANINGS) == set(State)


def test_its_lines_fit_where_nothing_is_filled_in() -> None:
    lines = CATALOG.read_text().splitlines()
    assert [line for line in lines if len(line) > 95 and line[0] != "#"] == []


@pytest.mark.parametrize("cause", ["IMDS lists no ipv6s yet", "x" * 1000], ids=["short", "long"])
def test_systemd_fills_in_what_an_entry_has(cause: str) -> None:
    """What is longer than 255 bytes it would leave as `NICWATCHD_CAUSE`."""
    status = InterfaceStatus(
        name="eth1",
        index=3,
        mac="02:00:00:00:00:02",
        eni="eni-1",
        state=State.AWAITING,
        since=1.0,
        seen=1.0,
        table=3,
    )
    reason = ReasonStatus(code="no-ipv6s", text=cause, remedy="aws ec2 assign-ipv6-addresses")
    fields = entries.interface_fields(status, [reason])
    text = filled_in(journal.TRANSITION, fields)
    assert "eth1 (eni-1, MAC 02:00:00:00:00:02) is awaiting-imds:" in text
    assert "facts are missing or contradict each other" in text
    assert f"Why: {cause[:200]}" in text
    assert "To do: aws ec2 assign-ipv6-addresses" in text
    assert "@" not in text
    assert "NICWATCHD_" not in text


def filled_in(message_id: UUID, fields: dict[str, str]) -> str:
    """What `journalctl -x` prints for an entry."""
    journald = Journald()
    try:
        journald.wait()
        entry = {"MESSAGE": "it is so", "MESSAGE_ID": message_id.hex, **fields}
        send(entry, journald.socket)
        journald.sync()
        match = f"MESSAGE_ID={message_id.hex}"
        steps = (
            "mount -t tmpfs tmpfs /var/lib/systemd/catalog",
            "mount -t tmpfs tmpfs /usr/lib/systemd/catalog",
            f"cp {CATALOG} /usr/lib/systemd/catalog",
            "journalctl --update-catalog",
            f"journalctl --quiet --catalog --directory=/run/log/journal {match}",
        )
        done = journald.inside("unshare", "--mount", "sh", "-e", "-c", "; ".join(steps))
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout
    finally:
        journald.close()
