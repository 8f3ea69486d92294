"""Defects about the host's own traffic, each planted by itself, that a walk has to find where
default routes compete."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from nicwatchd.core import egress, leadership
from nicwatchd.core.egress import Egress
from nicwatchd.core.lead import Defaults, Lead
from tests.chaos.defects import Case


def egress_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Whoever has main's best default route leads."""
    patch.setattr(leadership, "egress", lambda *_: Egress())


def tie_left_to_chance(patch: pytest.MonkeyPatch) -> None:
    """Another ENI's default route counts only where it beats the primary's."""
    right = Defaults.elsewhere

    def wrong(self: Defaults, links: Any) -> Any:
        ties = any(route.links & links for route in self.best)
        return None if ties else right(self, links)

    patch.setattr(Defaults, "elsewhere", wrong)


def operators_word_ignored(patch: pytest.MonkeyPatch) -> None:
    """A default route by a link that is no ENI counts as another ENI's."""
    right = egress.egress

    def wrong(leader: Any, *rest: Any) -> Egress:
        return right(replace(leader, enis=leader.enis | set(range(100))), *rest)

    patch.setattr(leadership, "egress", wrong)


def choice_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Where another link led before there was a second ENI, nothing is done for the primary."""
    right = Lead.is_chosen

    def wrong(self: Lead, route: Any, enis: Any) -> bool:
        return bool(self._led.get(route.family)) or right(self, route, enis)

    patch.setattr(Lead, "is_chosen", wrong)


def copy_stays(patch: pytest.MonkeyPatch) -> None:
    """Our default route of main stays when it is not needed any more."""
    right = egress.egress

    def wrong(leader: Any, lead: Any, standing: Any) -> Egress:
        found = right(leader, lead, standing)
        return replace(found, routes=(*found.routes, *standing.values()))

    patch.setattr(leadership, "egress", wrong)


CASES: Final = (
    Case(egress_forgotten, 2, 25, "missing route"),
    Case(tie_left_to_chance, 4, 30, "missing route"),
    Case(operators_word_ignored, 15, 20, "left route"),
    Case(choice_for_ever, 51, 95, "missing route"),
    Case(copy_stays, 4, 36, "left route"),
)
