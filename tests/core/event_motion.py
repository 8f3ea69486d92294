"""A host in fast motion that is told what happens by the simulated kernel's own events.

`FastMotion` has everything read anew at each change. So it does not show what nobody is told of,
or what is told and not taken note of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nicwatchd.core.port import AddressEvent, Overrun
from nicwatchd.sim.memory_kernel import PORT_ID
from tests.core.fast_motion import FastMotion

if TYPE_CHECKING:
    from nicwatchd.core.model import Route
    from nicwatchd.core.policy import Policy
    from nicwatchd.core.port import Event


class EventMotion(FastMotion):
    """The same, but with events. What was there before it began is read."""

    def __init__(self, policy: Policy) -> None:
        self._by_events = False
        super().__init__(policy)
        state = self.kernel.state
        state._emit = self._take
        state.heeds = self._heeds
        self.turn.take_event(Overrun(), self.now)
        self._by_events = True

    def _take(self, event: Event) -> None:
        by_us = isinstance(event, AddressEvent) and event.pid == PORT_ID
        self.turn.take_event(event, self.now, by_us=by_us)

    def _heeds(self, route: Route) -> bool:
        destinations = self.turn.picture.heeded.destinations
        return any(ip.version == route.dst.version and ip in route.dst for ip in destinations)

    def remove_link(self, index: int) -> None:
        """Take a link away; the kernel tells of its addresses, too."""
        gone = [address for address in self.kernel.addresses if address.index == index]
        self.kernel.unplug(index)
        for address in gone:
            self._take(AddressEvent(index, deleted=True, ip=address.ip))

    def all_anew(self) -> None:
        """Forget what was concluded, and read everything again."""
        self.turn._decider.forget(self.now)
        self.turn.take_event(Overrun(), self.now)

    def happened(self) -> None:
        """Nothing is to be added: the events have told."""
        if not self._by_events:
            super().happened()
