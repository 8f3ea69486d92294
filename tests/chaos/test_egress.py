"""Walks on which default routes compete, and sections change: what only these can find."""

from __future__ import annotations

import pytest

from tests.chaos import run
from tests.chaos.defects import Case
from tests.chaos.egress_defects import CASES
from tests.chaos.walk import AstrayError


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=[case.plant.__name__ for case in CASES])
def test_a_planted_defect_is_found(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    run.walk(case.seed, case.within)  # nothing is found where nothing is wrong
    case.plant(monkeypatch)
    with pytest.raises(AstrayError, match=case.said):
        run.walk(case.seed, case.within)
