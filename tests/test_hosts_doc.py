"""docs/hosts.md names tests that exist, and nothing without a test."""

from tests.doc_tables import missing_tests, names_only_tests, table_rows

COLUMNS = ["software or situation", "what nicwatchd does", "tried with", "tests"]


def test_there_is_no_row_without_a_test() -> None:
    rows = table_rows("hosts.md", COLUMNS)
    assert len(rows) > 30
    assert [what for what, _, _, tests in rows if not names_only_tests(tests)] == []


def test_every_row_says_what_is_done_and_what_was_tried() -> None:
    rows = table_rows("hosts.md", COLUMNS)
    assert [what for what, does, tried, _ in rows if not (what and does and tried)] == []


def test_every_test_in_it_exists() -> None:
    assert missing_tests([tests for *_, tests in table_rows("hosts.md", COLUMNS)]) == []
