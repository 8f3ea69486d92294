"""The walk bites: each defect is found when it is planted, and nothing is when it is not."""

from __future__ import annotations

import re

import pytest

from tests.chaos import propose, run
from tests.chaos.defects import CASES, Case
from tests.chaos.walk import AstrayError

WITHIN = {case.seed: case.within for case in sorted(CASES, key=lambda case: case.within)}
ENDS = (min(WITHIN.values()), max(WITHIN.values()))  # the suite has time for these
SEEDS = [
    pytest.param(seed, marks=() if within in ENDS else pytest.mark.long)
    for seed, within in WITHIN.items()
]
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


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_found_where_nothing_is_wrong(seed: int) -> None:
    run.walk(seed, WITHIN[seed], proposed=propose.action)


def test_a_seed_leads_to_the_same_walk_to_the_last_write() -> None:
    assert run.walk(1, 30) == run.walk(1, 30) != run.walk(2, 30)
