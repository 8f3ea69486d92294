"""The walk bites: each defect is found when it is planted, and nothing is when it is not."""

from __future__ import annotations

import re

import pytest

from tests.chaos import propose, run
from tests.chaos.defects import CASES, Case
from tests.chaos.walk import AstrayError

NAMES = [case.plant.__name__ for case in CASES]


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_a_planted_defect_is_found(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = case.plant(monkeypatch)
    with pytest.raises(AstrayError, match=case.said) as found:
        run.walk(case.seed, case.within, kernel, propose.action)
    step = re.search(r"step (\d+):", str(found.value))
    assert step
    assert int(step[1]) <= case.within


@pytest.mark.parametrize("seed", sorted({case.seed for case in CASES}))
def test_nothing_is_found_where_nothing_is_wrong(seed: int) -> None:
    within = max(case.within for case in CASES if case.seed == seed)
    run.walk(seed, within, proposed=propose.action)


def test_a_seed_leads_to_the_same_walk_to_the_last_write() -> None:
    assert run.walk(1, 30) == run.walk(1, 30) != run.walk(2, 30)
