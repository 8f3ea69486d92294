"""Walks on which the verdict is judged: defects of it are found."""

from __future__ import annotations

import pytest

from tests.chaos import run
from tests.chaos.defects import Case
from tests.chaos.verdict_defects import CASES
from tests.chaos.walk import AstrayError


@pytest.mark.parametrize("case", CASES, ids=[case.plant.__name__ for case in CASES])
def test_a_planted_defect_is_found(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    run.walk(case.seed, case.within)  # nothing is found where nothing is wrong
    case.plant(monkeypatch)
    with pytest.raises(AstrayError, match=case.said):
        run.walk(case.seed, case.within)
