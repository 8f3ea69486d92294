"""Defects about the host's own traffic, each planted by itself, that a walk has to find where
default routes compete."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nicwatchd.core import egress, leadership
from nicwatchd.core.egress import Egress
from nicwatchd.core.floating import Floating
from nicwatchd.core.lead import Defaults, Lead
from nicwatchd.core.picture import Picture


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
    right = leadership.egress

    def wrong(leader: Any, lead: Any, standing: Any) -> Egress:
        found = right(leader, lead, standing)
        return replace(found, routes=(*found.routes, *standing.values()))

    patch.setattr(leadership, "egress", wrong)


def off_taken_for_removed(patch: pytest.MonkeyPatch) -> None:
    """Addresses that went with IPv6 were taken away by somebody."""
    patch.setattr(Picture, "_note_ipv6_end", lambda *_: None)
    patch.setattr(Floating, "flapped", lambda *_: None)
