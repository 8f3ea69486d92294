"""docs/security.md names tests that exist, and no attack without one."""

from tests.doc_tables import missing_tests, names_only_tests, table_of

COLUMNS = ["attack", "what holds", "shown by"]


def test_each_attack_has_its_tests() -> None:
    rows = table_of("security.md", COLUMNS)
    assert rows
    assert [attack for attack, _, tests in rows if not names_only_tests(tests)] == []
    assert missing_tests([tests for *_, tests in rows]) == []
