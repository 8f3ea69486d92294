"""Defects of the verdict, each planted by itself, that a walk has to find."""

from __future__ import annotations

from typing import Any, Final

import pytest

from nicwatchd.core import diagnosis, reach
from nicwatchd.core.picture import Picture
from nicwatchd.core.port import Event, RouteEvent
from nicwatchd.core.reach import NOTHING_AMISS, Reached
from tests.chaos.defects import Case


def look_ups_ignored(patch: pytest.MonkeyPatch) -> None:
    """What is programmed counts as working, whatever rules of others come before it."""
    patch.setattr(reach, "conclude", lambda *_: NOTHING_AMISS)


def subnets_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What answers the internet counts as answering everybody."""
    right = reach.conclude
    patch.setattr(reach, "conclude", lambda *arguments: Reached(right(*arguments).silent))


def link_down_is_fine(patch: pytest.MonkeyPatch) -> None:
    """A link that an operator has set down counts as one that leads somewhere."""
    patch.setattr(diagnosis, "_of_link", lambda _: None)


def missing_address_is_fine(patch: pytest.MonkeyPatch) -> None:
    """An address that is on no link counts as one that answers."""
    right = diagnosis._silent

    def wrong(view: Any, *rest: Any, **named: Any) -> Any:
        there = {address.ip for address in view.addresses}
        return {ip: why for ip, why in right(view, *rest, **named).items() if ip in there}

    patch.setattr(diagnosis, "_silent", wrong)


def unconfigured_is_a_failure(patch: pytest.MonkeyPatch) -> None:
    """What nobody configured on a primary that is alone counts as broken."""
    patch.setattr(diagnosis, "unconfigured", lambda *_: ())


def default_routes_are_no_news(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks again when a default route of others' comes or goes."""
    right = Picture.take_event

    def wrong(self: Picture, event: Event, now: float, *, by_us: bool) -> float | None:
        before = self.stale.ways_changed
        due = right(self, event, now, by_us=by_us)
        if isinstance(event, RouteEvent) and event.wide:
            self.stale.ways_changed = before
        return due

    patch.setattr(Picture, "take_event", wrong)


def narrow_routes_are_no_news(patch: pytest.MonkeyPatch) -> None:
    """... or when a route to a network does, in a table that a foreign rule leads to."""
    right = Picture.take_event

    def wrong(self: Picture, event: Event, now: float, *, by_us: bool) -> float | None:
        if isinstance(event, RouteEvent) and event.heeded and not event.wide:
            return None
        return right(self, event, now, by_us=by_us)

    patch.setattr(Picture, "take_event", wrong)


CASES: Final = (
    Case(look_ups_ignored, 2, 15, "is called working"),
    Case(subnets_forgotten, 10, 40, "is called working"),
    Case(link_down_is_fine, 4, 36, "is called working"),
    Case(missing_address_is_fine, 105, 97, "these do not answer"),
    Case(unconfigured_is_a_failure, 1, 16, "is called Said"),
    Case(default_routes_are_no_news, 14, 12, "is called working"),
)
# ... and on a walk beside tables of others.
NARROW: Final = Case(narrow_routes_are_no_news, 62, 22, "is called working")
