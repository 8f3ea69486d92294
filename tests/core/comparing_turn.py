"""A turn that shows that nothing is missed where conclusions are kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nicwatchd.core.basis import Basis
from nicwatchd.core.decide import Decider
from nicwatchd.core.decision import Decision
from nicwatchd.core.host import Host
from nicwatchd.core.turn import Turn
from nicwatchd.core.view import View


class ComparingDecider(Decider):
    """Makes each second decision three times: that must make no difference.

    One may prepare the next, as it does without this. Then what was kept is compared with what is
    drawn from the facts anew.
    """

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._count = 0

    def decide(self, now: float) -> Decision:
        self._count += 1
        decision = super().decide(now)
        return decision if self._count % 2 else self.anew(super().decide(now), now)

    def anew(self, kept: Decision, now: float) -> Decision:
        """The decision from the facts alone; it must be the one that is kept."""
        before = self._shown()
        self.forget(now)
        anew = super().decide(now)
        assert (anew.operations, anew.throttled) == (kept.operations, kept.throttled)
        assert self._shown() == before
        return anew

    def _shown(self) -> dict[int, View]:
        """All of each interface but its age."""
        interfaces = self.host.interfaces.items()
        return {index: replace(i.view(), witness=None) for index, i in interfaces}


class ComparingTurn(Turn):
    """Decides anew also where the last decision holds, and compares what is kept elsewhere."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._comparing = ComparingDecider(self.host)
        self._decider, self._basis = self._comparing, Basis(self.host, self._comparing.forwarder)

    def _holds(self, now: float) -> bool:
        holds = super()._holds(now)
        if holds and self.decision:
            anew = self._comparing.anew(self.decision, now)
            assert (anew.operations, anew.throttled) == ((), ())
        return holds
