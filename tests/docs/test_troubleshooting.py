"""The page for people whose address does not answer."""

import re

import pytest

from nicwatchd.core.remedies import REMEDIES, STEMS
from tests.docs.shown import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
BY_CAUSE = PAGE.partition("## By cause")[2].partition("\n## ")[0]


@pytest.mark.parametrize("code", [*REMEDIES, *STEMS])
def test_it_has_each_cause_that_has_a_remedy(code: str) -> None:
    assert re.search(rf"`{code}", BY_CAUSE)


def test_every_symptom_leads_to_what_mends_it() -> None:
    table = PAGE.partition("## By symptom")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 18  # the hosts that operators were seen to be lost on
    for row in rows:
        _, _, see, mend = row.strip("| ").split(" | ")
        assert "`" in see
        assert "](" in mend or "`" in mend or "nothing" in mend or "unassign" in mend
