"""docs/reliability.md names tests and figures that exist, and nothing without a test."""

import json
import re
from dataclasses import dataclass

import pytest

from tests.doc_tables import DOCS, exists, missing_tests, names_only_tests, table_rows

COLUMNS = ["fault", "what happens", "tests", "right again"]
FIGURE = re.compile(r"bench: `([^`]+)`(?:, (median|p99|max) (\d+) ms at most)?")


@dataclass(frozen=True)
class Row:
    fault: str
    happens: str
    tests: str
    time: str


def rows() -> list[Row]:
    return [Row(*row) for row in table_rows("reliability.md", COLUMNS)]


def test_there_is_no_row_without_a_test() -> None:
    assert len(rows()) > 40
    assert [row.fault for row in rows() if not names_only_tests(row.tests)] == []


def test_every_test_in_it_exists() -> None:
    assert missing_tests([row.tests for row in rows()]) == []


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
