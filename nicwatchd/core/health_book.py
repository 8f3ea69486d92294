"""The verdicts on all ENIs of one host, from turn to turn.

Reads: the interfaces, and what the last look-ups showed. Gives: each interface's health, and news
where it changed. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

from nicwatchd.core.diagnosis import judge
from nicwatchd.core.health import FamilyHealth, follow
from nicwatchd.core.host import Host
from nicwatchd.core.interface import Interface
from nicwatchd.core.model import Family
from nicwatchd.core.news import HealthChanged
from nicwatchd.core.reach import NOTHING_AMISS, Reached


class HealthBook:
    """Concludes at the end of each turn whether each ENI works."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def conclude(self, reached: Mapping[tuple[int, Family], Reached], now: float) -> None:
        """Judge every interface, and report what changed."""
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
        if before == after:
            return
        interface.take_health(after)
        told = interface.view()
        for family in Family:
            was, is_now = before.get(family), after.get(family)
            if _told(was) != _told(is_now):
                self._host.report(HealthChanged(told, family, was, is_now, now))


def _told(health: FamilyHealth | None) -> object:
    """What of a verdict is news when it changes: waiting for other facts is none."""
    if health is None or health.waits:
        return health and (health.health, True)
    return health.health, frozenset(cause.code for cause in health.causes)
