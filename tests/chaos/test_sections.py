"""Walks on hosts whose settings have sections that change, and where a container network comes."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.chaos import run, section_defects
from tests.chaos.propose_sections import action
from tests.chaos.walk import AstrayError

pytestmark = pytest.mark.long


STEPS = 200
# A defect, the seed of a walk that finds it, within so many steps, and a part of what tells of it.
CASES = [
    (section_defects.owner_wins, 7, 25, "RemoveRule.* took"),
    (section_defects.families_forgotten, 4, 35, "left rule"),
    (section_defects.gap_at_a_reload, 1, 15, "is to be"),
    (section_defects.unknown_id_is_anothers, 71, 40, "is to be"),
]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_walks_with_sections(seed: int) -> None:
    run.walk(seed, STEPS, proposed=action)


def test_whatever_sections_say_all_is_right_again_at_the_next_quiet_point() -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    try:
        run.walk(seed, STEPS, proposed=action)
    except AssertionError as error:
        error.add_note(f"seed {seed}, with the actions of tests.chaos.propose_sections")
        raise


@pytest.mark.parametrize(
    ("plant", "seed", "within", "said"), CASES, ids=[case[0].__name__ for case in CASES]
)
def test_a_planted_defect_is_found(
    plant: Callable[[pytest.MonkeyPatch], None],
    seed: int,
    within: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run.walk(seed, within, proposed=action)  # nothing is found where nothing is wrong
    plant(monkeypatch)
    with pytest.raises(AstrayError, match=said):
        run.walk(seed, within, proposed=action)
