"""The verdicts on all ENIs of one host, from turn to turn.

Reads: the interfaces, and what the last look-ups showed. Gives: each interface's health; the
chronicle tells where it changed. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from nicwatchd.core.diagnosis import judge
from nicwatchd.core.health import FamilyHealth, follow
from nicwatchd.core.host import Host
from nicwatchd.core.interface import Interface
from nicwatchd.core.model import Family, Reason
from nicwatchd.core.reach import NOTHING_AMISS, Reached
from nicwatchd.core.view import View

_Basis: TypeAlias = tuple[View, Mapping[Family, Reached]]  # of the verdicts on an interface


class HealthBook:
    """Concludes at the end of each turn whether each ENI works."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._reached: Mapping[tuple[int, Family], Reached] = {}
        self._surprises: tuple[Reason | None, ...] = ()
        self._is_timed = True  # whether a verdict may change with time alone
        self._judged: dict[int, _Basis] = {}  # by ifindex

    def conclude(
        self, reached: Mapping[tuple[int, Family], Reached], now: float, *, held: bool
    ) -> bool:
        """Judge every interface; False if there was nothing to judge anew.

        `held`: the last decision still holds, so the interfaces are as they were.
        """
        interfaces = self._host.interfaces
        surprises = tuple(interface.surprised for interface in interfaces.values())
        is_known = reached is self._reached and surprises == self._surprises
        if held and is_known and not self._is_timed:
            return False
        self._reached, self._surprises = reached, surprises
        self._judged = {i: basis for i, basis in self._judged.items() if i in interfaces}
        self._host.for_each(lambda each: self._judge(each, now), "judging whether it works")
        self._is_timed = any(map(_is_timed, interfaces.values()))
        return True

    def views(self, *, judged: bool) -> dict[int, View]:
        """All interfaces as they are now, by ifindex. `judged`: which was just when they were."""
        known = {index: view for index, (view, _) in self._judged.items()} if judged else {}
        return {i: known.get(i) or it.view() for i, it in self._host.interfaces.items()}

    def _judge(self, interface: Interface, now: float) -> None:
        index, view, before = interface.link.index, interface.view(), interface.health
        looked = {family: self._reached.get((index, family), NOTHING_AMISS) for family in Family}
        known = self._judged.pop(index, None)  # so that there is none if it raises
        if known == (view, looked) and not _is_timed(interface):
            self._judged[index] = known
            return
        after: dict[Family, FamilyHealth] = {}
        for family in Family:
            found = judge(view, family, looked[family], now)
            if found:
                after[family] = follow(before.get(family), found, self._host.policy.patience)
        if before != after:
            interface.take_health(after)
            view = interface.view()
        self._judged[index] = (view, looked)


def _is_timed(interface: Interface) -> bool:
    """Whether its verdicts may change with time alone."""
    waits = any(each.waits for each in interface.health.values())
    return waits or interface.fights.reason is not None
