"""The catalog, as systemd reads it: a text for each message that nicwatchd writes."""

import re
import shutil
import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from nicwatchd.core.lifecycle import State
from nicwatchd.service import journal

CATALOG = Path(__file__).parents[2] / "systemd/nicwatchd.catalog"
IDS = {name: value for name, value in vars(journal).items() if isinstance(value, UUID)}
WRITTEN = {
    "INTERFACE",
    "NICWATCHD_IMDS",
    *re.findall(r'"(NICWATCHD_\w+)"', Path(journal.__file__).read_text()),
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


def test_it_tells_every_state() -> None:
    explained = set(re.findall(r"(?m)^(\w[\w-]*): ", CATALOG.read_text()))
    assert set(State) <= explained
