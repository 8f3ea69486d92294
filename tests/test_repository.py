"""What is committed stays free of the machine that it was made on."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Made, not committed; all of it is in .gitignore. (Not asked of git, which need not be here.)
MADE = re.compile(r"__pycache__|\.egg-info$|^(build|dist)$|^\.(git|venv|hypothesis|\w+_cache)$")

# Paths of a developer's machine. The brackets keep the pattern from finding itself.
MACHINE_PATH = re.compile(r"(?<![\w.}])/([w]ork|[h]ome|[r]oot|[U]sers|[t]mp/w)/")

PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!]+")


def committed_files(folder: Path = ROOT) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if MADE.search(path.name):
            continue
        if path.is_dir():
            yield from committed_files(path)
        else:
            yield path


def test_constraints_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    assert [line for line in pins if not PIN.fullmatch(line)] == []


def test_every_dependency_is_pinned() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    wanted = {name.lower().replace("-", "_") for name in re.findall(r'"([\w-]+)>=', pyproject)}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("-", "_") for line in lines}
    assert wanted - pinned == {"setuptools"}  # the build's own, in its own environment


def test_no_file_names_a_path_of_its_author() -> None:
    files = {path: path.read_text(errors="replace") for path in committed_files()}
    assert ROOT / "pyproject.toml" in files
    assert [path for path, text in files.items() if MACHINE_PATH.search(text)] == []


@pytest.mark.parametrize("text", ["see /[h]ome/someone/x", '"/[t]mp/w/venv"', "(/[w]ork/main)"])
def test_such_a_path_would_be_found(text: str) -> None:
    assert MACHINE_PATH.search(text.replace("[", "").replace("]", ""))


def test_the_change_log_knows_what_is_unreleased() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
