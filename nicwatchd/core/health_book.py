"""The verdicts on all ENIs of one host, from turn to turn.

Reads: the interfaces, and what the last look-ups showed. Gives: each interface's health, and news
where it changed. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

from nicwatchd.core.backoff import Pace
from nicwatchd.core.diagnosis import judge
from nicwatchd.core.health import FamilyHealth, follow
from nicwatchd.core.host import Host
from nicwatchd.core.interface import Interface
from nicwatchd.core.model import Family, Key
from nicwatchd.core.news import HealthChanged
from nicwatchd.core.reach import NOTHING_AMISS, Reached

TOLD, SPAN = 20, 60.0  # changes of one family are told in so many seconds


class HealthBook:
    """Concludes at the end of each turn whether each ENI works."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._told: dict[tuple[Key, Family], FamilyHealth | None] = {}
        self._paces: dict[tuple[Key, Family], Pace] = {}

    def conclude(self, reached: Mapping[tuple[int, Family], Reached], now: float) -> None:
        """Judge every interface, and report what changed; not everything, where that is much."""
        keys = self._host.keys
        self._told = {of: told for of, told in self._told.items() if of[0] in keys}
        self._paces = {of: pace for of, pace in self._paces.items() if of[0] in keys}
        for interface in self._host.interfaces.values():
            try:
                self._judge(interface, reached, now)
            except Exception as error:
                if self._host.strict:
                    raise
                self._host.caught(interface, "judging whether it works", error)

    def _judge(
        self, interface: Interface, reached: Mapping[tuple[int, Family], Reached], now: float
    ) -> None:
        view, before = interface.view(), interface.health
        after: dict[Family, FamilyHealth] = {}
        for family in Family:
            looked = reached.get((interface.link.index, family), NOTHING_AMISS)
            found = judge(view, family, looked, now)
            if found:
                after[family] = follow(before.get(family), found)
        if before != after:
            interface.take_health(after)
        for family in Family:
            self._tell(interface, family, after.get(family), now)

    def _tell(
        self, interface: Interface, family: Family, health: FamilyHealth | None, now: float
    ) -> None:
        of = (interface.key, family)
        before = self._told.get(of)
        if _news(before) != _news(health):
            if not self._paces.setdefault(of, Pace(TOLD, SPAN)).allows(now):
                return  # a later turn tells it, if it is still so
            self._host.report(HealthChanged(interface.view(), family, before, health, now))
        self._told[of] = health


def _news(health: FamilyHealth | None) -> object:
    """What of a verdict is news when it changes: waiting for other facts is none."""
    if health is None or health.waits:
        return health and (health.health, True)
    return health.health, frozenset(cause.code for cause in health.causes)
