"""docs/reliability.md names tests and figures that exist, and nothing without a test."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
COLUMNS = ["fault", "what happens", "tests", "right again"]
TEST = re.compile(r"`([\w/]+\.py)::([\w:]+)`")
FIGURE = re.compile(r"bench: `([^`]+)`(?:, (median|p99|max) (\d+) ms at most)?")


@dataclass(frozen=True)
class Row:
    fault: str
    happens: str
    tests: str
    time: str


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def rows() -> list[Row]:
    lines = (DOCS / "reliability.md").read_text().splitlines()
    tables = [cells(line) for line in lines if line.startswith("|") and set(line) - set("|-")]
    assert [row for row in tables if len(row) != len(COLUMNS)] == []
    return [Row(*row) for row in tables if row != COLUMNS]


def defined(nodes: list[ast.stmt]) -> Iterator[str]:
    """What pytest may call so: functions, classes, their methods, and cases of state machines."""
    for node in nodes:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name, body=body):
                yield name
                yield from (f"{name}::{inner}" for inner in defined(body))
            case ast.Assign(targets=[ast.Name(id=name)]):
                yield name


def exists(file: str, test: str) -> bool:
    path = TESTS / file
    names = set(defined(ast.parse(path.read_text()).body)) if path.is_file() else set()
    return test in names and test.rsplit("::", maxsplit=1)[-1].lower().startswith("test")


def test_there_is_no_row_without_a_test() -> None:
    assert len(rows()) > 40
    assert [row.fault for row in rows() if not TEST.search(row.tests)] == []
    assert [row.fault for row in rows() if TEST.sub("", row.tests).strip()] == []


def test_every_test_in_it_exists() -> None:
    named = {match for row in rows() for match in TEST.findall(row.tests)}
    assert sorted("::".join(name) for name in named if not exists(*name)) == []


@pytest.mark.parametrize(
    ("file", "test"),
    [
        ("test_reliability_doc.py", "test_that_does_not_exist"),
        ("test_reliability_doc.py", "rows"),
        ("test_nowhere.py", "test_every_test_in_it_exists"),
    ],
)
def test_one_that_does_not_exist_would_be_seen(file: str, test: str) -> None:
    assert exists("test_reliability_doc.py", "test_every_test_in_it_exists")
    assert not exists(file, test)


def test_every_time_is_measured_or_bound() -> None:
    kinds = ("bench: `", "bound: ")
    assert [r.fault for r in rows() if r.time != "none" and not r.time.startswith(kinds)] == []


def test_every_figure_in_it_exists_with_its_limit() -> None:
    figures = json.loads((DOCS / "benchmarks.json").read_text())["figures"]
    for row in rows():
        for name, statistic, limit in FIGURE.findall(row.time):
            [figure] = [each for each in figures if each["what"].startswith(name)]
            if statistic:
                assert round(figure["limits"][statistic] * 1000) == int(limit), name
