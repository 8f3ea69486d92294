"""What may happen next on a host of all kinds: with sections, with competing default routes, and
with what only the verdict tells.

The narrower walks (`propose` and `propose_sections`) keep their seeds when something is added here.
"""

from __future__ import annotations

from random import Random
from typing import Final

from tests.chaos import propose_egress, propose_sections, propose_verdicts
from tests.chaos.actions import Action
from tests.chaos.truth import Truth

# The share of what happens that is about these.
SECTIONS: Final = 0.08
EGRESS: Final = 0.15
VERDICTS: Final = 0.05


def action(truth: Truth, random: Random) -> Action:
    """Something that is possible now."""
    while True:
        share = random.random()
        if share < SECTIONS:
            proposed = propose_sections.about_sections(truth, random)
        elif share < SECTIONS + EGRESS:
            proposed = propose_egress.about_egress(truth, random)
        elif share < SECTIONS + EGRESS + VERDICTS:
            proposed = propose_verdicts.about_verdicts(truth, random)
        else:
            proposed = propose_sections.other(truth, random)
        if proposed is not None:
            return proposed
