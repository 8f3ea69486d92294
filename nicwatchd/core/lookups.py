"""Whose rule wins: which packets to look up, and what the kernel's answers mean.

Reads: the plans, and the kernel's answers. Gives: a step of look-ups, and each interface's shadows.
"""

from __future__ import annotations

from nicwatchd.core import shadow
from nicwatchd.core.host import Host
from nicwatchd.core.model import Reason, Rule
from nicwatchd.core.steps import LookedUp, LookUp


class Lookups:
    """The look-ups of one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._planned: list[tuple[Rule, ...]] = []  # the rules that the last look-ups were for

    def wanted(self, *, changed: bool) -> LookUp:
        """What to look up, where the answer may be another than before; else nothing.

        `changed`: something was written, or rules came or went.
        """
        interfaces = self._host.interfaces.values()
        planned = [i.plan.rules for i in interfaces]  # a restart may adopt them without a write
        changed |= planned != self._planned
        self._planned = planned
        if not (changed or any(i.is_shadowed for i in interfaces)):
            return LookUp(())
        probes = (shadow.probes(i.plan, i.facts.addresses) for i in interfaces)
        step = LookUp(tuple(probe for each in probes for probe in each))
        if not step.probes:
            self.take(step, LookedUp(()))  # there is nothing left to win over
        return step

    def take(self, step: LookUp, found: LookedUp) -> None:
        """Take the kernel's answers, in the order of the step."""
        shadows: dict[int, list[Reason]] = {index: [] for index in self._host.interfaces}
        for probe, answer in zip(step.probes, found.answers, strict=True):
            reason = shadow.shadow(probe, answer, self._host.rules)
            if reason:
                shadows[probe.index].append(reason)
        for index, reasons in shadows.items():
            self._host.interfaces[index].shadow(tuple(dict.fromkeys(reasons)))
