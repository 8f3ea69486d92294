"""Makes the status of the host, and the counts, from what the turn and the IMDS client know."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from nicwatchd import __version__
from nicwatchd.core.leadership import primary_leads
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import Key
from nicwatchd.core.turn import Turn
from nicwatchd.core.view import View
from nicwatchd.imds.client import ImdsClient
from nicwatchd.service import pci
from nicwatchd.service.counts import Counters, Counts, InUse
from nicwatchd.service.readiness import unready
from nicwatchd.service.status import (
    HostStatus,
    InterfaceStatus,
    of_condition,
    of_devices,
    of_unlinked,
    of_view,
    problem_of,
)

CLOCK_STEP: Final = 1.0  # s; the time of day was set: the times of all interfaces are made anew


class Reporting:
    """One host's. `epoch` gives the Unix time at 0 of the monotonic clock."""

    def __init__(
        self,
        turn: Turn,
        imds: ImdsClient,
        counters: Counters,
        started: float,
        epoch: Callable[[], float],
    ) -> None:
        self._turn = turn
        self._imds = imds
        self._counters = counters
        self.started = started
        self._epoch = epoch
        self.entries_lost: Callable[[], int] = int  # how many the journal did not take
        self._interfaces: list[InterfaceStatus] | None = None
        self._known: dict[Key, tuple[View, InterfaceStatus]] = {}
        self._known_epoch = 0.0
        self._problems: list[str] = []  # with single interfaces
        self._unready: list[str] = []

    def changed(self) -> None:
        """Something happened, so what is said of the interfaces is to be made anew."""
        self._interfaces = None

    def status(self, problems: Iterable[str], bad_settings: str | None) -> HostStatus:
        """The status as of now; `problems` are the daemon's, and `bad_settings` one of them."""
        host, decision, imds = self._turn.host, self._turn.decision, self._imds
        interfaces = self._made()
        knows_primary = host.releases.everything or isinstance(host.primary_mac, Value)
        lacking = self._unready if knows_primary else unready(interfaces, knows_primary=False)
        everything = [*problems, *self._problems]
        lacking = [*lacking, *everything]
        unlinked = of_unlinked(host.unlinked, self._epoch())
        return HostStatus(
            version=__version__,
            pid=os.getpid(),
            started=self.started,
            primary_mac=host.primary_mac.value if isinstance(host.primary_mac, Value) else None,
            container_network=decision.container_network if decision else None,
            imds=of_condition(imds.condition, imds.requests, imds.last_request, imds.last_success),
            problems=everything,
            bad_settings=bad_settings,
            ready=not lacking,
            unready=lacking,
            released=host.releases.everything,
            surprises=host.surprises,
            interfaces=interfaces,
            unlinked=unlinked,
            devices=of_devices(pci.without_link()) if unlinked else [],
        )

    def counts(self, settings: InUse, since_turn: float) -> Counts:
        """The counters since the start; what else the metrics need is given."""
        counters, imds, losses = self._counters, self._imds, self._turn.host.losses
        return Counts(
            transitions=counters.transitions,
            heals=losses.heals,
            heals_of=losses.of_link,
            fights_of=counters.fights_of,
            to_working=counters.to_working,
            operations=counters.operations,
            imds=imds.outcomes,
            imds_durations=imds.durations,
            imds_success=imds.last_success,
            overruns=self._turn.picture.overruns,
            since_turn=since_turn,
            entries_lost=self.entries_lost(),
            settings=settings,
            leads=primary_leads(self._turn.host),
        )

    def _made(self) -> list[InterfaceStatus]:
        """All interfaces: made once, however many ask, until something happens."""
        if self._interfaces is None:
            views = [each.view() for _, each in sorted(self._turn.host.interfaces.items())]
            self._interfaces = self._statuses(views)
            self._problems = [problem for view in views if (problem := problem_of(view))]
            self._unready = unready(self._interfaces)
        return self._interfaces

    def _statuses(self, views: Sequence[View]) -> list[InterfaceStatus]:
        """The status of each; what did not change is not made anew: addresses are slow to write."""
        epoch = self._epoch()
        if abs(epoch - self._known_epoch) > CLOCK_STEP:
            self._known, self._known_epoch = {}, epoch
        before, self._known = self._known, {}
        for each in views:
            view = replace(each, witness=None)  # has ages, and nothing that the status shows
            known = before.get(view.key)
            same = known is not None and known[0] == view
            self._known[view.key] = known if same and known else (view, of_view(view, epoch))
        return [self._known[view.key][1] for view in views]
