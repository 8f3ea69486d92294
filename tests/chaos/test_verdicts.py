"""Walks on which the verdict is judged: defects of it are found."""

from __future__ import annotations

import pytest

from tests.chaos import propose_all, propose_narrow, run
from tests.chaos.defects import Case
from tests.chaos.verdict_defects import CASES, NARROW
from tests.chaos.walk import AstrayError, Proposed

WALKS = [(case, propose_all.action) for case in CASES] + [(NARROW, propose_narrow.action)]


@pytest.mark.long
@pytest.mark.parametrize(
    ("case", "proposed"), WALKS, ids=[case.plant.__name__ for case, _ in WALKS]
)
def test_a_planted_defect_is_found(
    case: Case, proposed: Proposed, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.walk(case.seed, case.within, proposed=proposed)  # nothing is found where nothing is wrong
    case.plant(monkeypatch)
    with pytest.raises(AstrayError, match=case.said):
        run.walk(case.seed, case.within, proposed=proposed)
