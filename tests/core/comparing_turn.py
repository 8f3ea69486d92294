"""A turn that shows that nothing is missed where the last decision holds."""

from __future__ import annotations

from dataclasses import replace

from nicwatchd.core.turn import Turn
from nicwatchd.core.view import View


class ComparingTurn(Turn):
    """Decides anew also where the last decision holds: that must make no difference."""

    def _holds(self, now: float) -> bool:
        holds = super()._holds(now)
        if holds:
            before = self._shown()
            anew = self._decider.decide(now)
            assert (anew.operations, anew.throttled) == ((), ())
            assert self._shown() == before
        return holds

    def _shown(self) -> dict[int, View]:
        """All of each interface but its age."""
        interfaces = self.host.interfaces.items()
        return {index: replace(i.view(), witness=None) for index, i in interfaces}
