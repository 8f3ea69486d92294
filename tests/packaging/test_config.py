"""The shipped configuration file: every setting, commented, at its default."""

import re
import tomllib
from pathlib import Path
from typing import Any

from nicwatchd.service.section_settings import InterfaceSection
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
    settings = Settings().model_dump()
    assert settings.pop("interface") == []  # sections have no default
    assert keys(tomllib.loads(uncommented())) == keys(settings)


def test_it_explains_every_key_of_a_section() -> None:
    explained = FILE.read_text().rpartition("[kernel]")[2]
    words = set(re.findall(r"(?m)^#   (\w[\w, ]*?)(?:  |$)", explained))
    named = {key for part in words for key in part.split(", ")}
    assert named == set(InterfaceSection.model_fields)


def test_the_example_of_a_section_is_one(tmp_path: Path) -> None:
    lines = re.findall(r"(?m)^#     (\S.*)$", FILE.read_text())
    (tmp_path / "nicwatchd.toml").write_text("\n".join(lines))
    (section,) = load(tmp_path / "nicwatchd.toml").interface
    assert (section.subnet, section.manage) == ("subnet-0123456789abcdef0", True)


def test_every_other_comment_is_prose() -> None:
    lines = [line for line in FILE.read_text().splitlines() if line.startswith("#")]
    prose = [line for line in lines if not re.match(r"#\w+ = ", line)]
    assert [line for line in prose if not re.match(r"#($| )", line)] == []
