"""docs/interfaces.md has every message and every field of the journal."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import UUID

from nicwatchd.service import entries, journal, journal_sender, writes
from tests.source import ROOT

TEXT = (ROOT / "docs" / "interfaces.md").read_text("utf-8")
IDS = {value.hex for value in vars(journal).values() if isinstance(value, UUID)}
MODULES = (entries.__file__, journal.__file__, journal_sender.__file__, writes.__file__)


def test_each_message_is_in_the_table_and_no_other() -> None:
    assert set(re.findall(r"(?m)^\| `([0-9a-f]{32})` \|", TEXT)) == IDS


def test_each_field_is_in_the_table_and_no_other() -> None:
    written = {
        name
        for path in MODULES
        for name in re.findall(r'"(NICWATCHD_\w+)"', Path(path).read_text())
    }
    table = TEXT[TEXT.index("| field | content |") : TEXT.index("**Who did it**")]
    assert set(re.findall(r"`(NICWATCHD_\w+)`", table)) == written
