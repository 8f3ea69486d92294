"""The shipped configuration file: every setting, commented, at its default."""

import re
import tomllib
from pathlib import Path
from typing import Any

from nicwatchd.service.settings import Settings, load

FILE = Path(__file__).parents[2] / "systemd/nicwatchd.toml"


def uncommented() -> str:
    return re.sub(r"(?m)^#(?=\w+ = )", "", FILE.read_text())


def keys(table: dict[str, Any], place: str = "") -> set[str]:
    found = set()
    for key, value in table.items():
        found |= keys(value, f"{place}{key}.") if isinstance(value, dict) else {place + key}
    return found


def test_as_shipped_it_changes_nothing() -> None:
    assert load(FILE) == Settings()


def test_uncommented_it_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "nicwatchd.toml").write_text(uncommented())
    assert load(tmp_path / "nicwatchd.toml") == Settings()


def test_it_names_every_setting() -> None:
    assert keys(tomllib.loads(uncommented())) == keys(Settings().model_dump())


def test_every_other_comment_is_prose() -> None:
    lines = [line for line in FILE.read_text().splitlines() if line.startswith("#")]
    prose = [line for line in lines if not re.match(r"#\w+ = ", line)]
    assert [line for line in prose if not re.match(r"#($| )", line)] == []
