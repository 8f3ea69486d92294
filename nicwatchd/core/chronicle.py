"""What happened beside the transitions, told once: the causes that an operator looks for.

Each turn's end is compared with what was told before. So what comes and goes within a turn is not
told, and what changes too often is told as it is when there is time for it.

Reads: what became of operations; and the interfaces, main's default routes, and the losses, at the
end of each turn. Gives: news.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from nicwatchd.core.backoff import Pace
from nicwatchd.core.episodes import Loss
from nicwatchd.core.evidence import Status
from nicwatchd.core.facts import UDEV_PATIENCE
from nicwatchd.core.health import FamilyHealth
from nicwatchd.core.host import Host
from nicwatchd.core.interface import Interface
from nicwatchd.core.model import PROTOCOL, Family, Key, Operation, Reason
from nicwatchd.core.news import (
    Bypassed,
    Cause,
    EgressMoved,
    FamilyGivenUp,
    HealthChanged,
    LinkChanged,
    Lost,
    Restored,
    Wrote,
)
from nicwatchd.core.port import Outcome
from nicwatchd.core.treatment import Managed
from nicwatchd.core.written import Written

# So many of one kind about one interface are told in SPAN seconds; a hot-plug has a few verdicts.
TOLD, HEALTH_TOLD, SPAN = 10, 20, 60.0


@dataclass(frozen=True, slots=True)
class _Told:
    """What was told of an interface last."""

    carries: bool
    flaps: int
    broken: bool = False  # it was told that it carries nothing
    shadows: tuple[Reason, ...] = ()
    absent: frozenset[Family] = frozenset()
    health: Mapping[Family, FamilyHealth] = field(default_factory=dict)


class Chronicle:
    """What was told of one host, and what is still to be told. Times: monotonic seconds."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._told: dict[Key, _Told] = {}
        self._egress: dict[Family, tuple[int, ...]] = {}
        self._paces: dict[tuple[Key | None, type[Cause | HealthChanged]], Pace] = {}
        self._news: list[Cause | HealthChanged] = []
        self._held_back = False  # whether something is still to be told: there was too much of it
        self._written = Written()

    def take_outcomes(
        self, outcomes: Iterable[Outcome], owner_of: Callable[[Operation], int | None]
    ) -> None:
        """Operations of this turn were carried out, each for the interface with an ifindex."""
        host = self._host
        self._written.take(outcomes, owner_of, host.interfaces, host.losses.lost)

    def note(self, now: float, *, is_same: bool = False) -> None:
        """A turn is over: note what is new. `is_same`: all is as it was when the last one was."""
        self._host.losses.episodes.turned()
        if is_same and not self._held_back:
            return
        self._held_back = False
        interfaces = self._host.interfaces.values()
        keys = self._host.keys
        self._told = {key: told for key, told in self._told.items() if key in keys}
        self._paces = {k: pace for k, pace in self._paces.items() if k[0] is None or k[0] in keys}
        self._note_written(now)
        for interface in interfaces:
            told = self._told.get(interface.key, _Told(_carries(interface), interface.facts.flaps))
            told = self._note_link(interface, told, now)
            told = self._note_shadows(interface, told, now)
            told = self._note_families(interface, told, now)
            self._told[interface.key] = self._note_health(interface, told, now)
        self._note_egress(now)

    def drain(self) -> list[Cause | HealthChanged]:
        """What happened since the last call: what was lost and is back, and then what was noted."""
        news, self._news = self._news, []
        return [*self._episodes(), *news]

    def _episodes(self) -> Iterator[Cause | HealthChanged]:
        for episode in self._host.losses.episodes.drain():
            interface = self._host.interfaces.get(episode.index)
            if interface is None:
                continue
            if isinstance(episode, Loss):
                who, untold = episode.who, episode.untold
                yield Lost(interface.view(), episode.things, who, episode.at, untold)
            else:
                yield Restored(interface.view(), episode.things, episode.after)

    def _tell(self, key: Key | None, cause: Cause | HealthChanged, now: float) -> bool:
        """Tell it, unless there was too much of the kind lately."""
        if not self._pace(key, type(cause)).allows(now):
            self._held_back = True
            return False
        self._news.append(cause)
        return True

    def _pace(self, key: Key | None, kind: type[Cause | HealthChanged]) -> Pace:
        most = HEALTH_TOLD if kind is HealthChanged else TOLD
        return self._paces.setdefault((key, kind), Pace(most, SPAN))

    def _note_written(self, now: float) -> None:
        self._written.among(self._host.keys)
        for key in self._written.untold:
            if not self._pace(key, Wrote).allows(now):
                self._held_back = True  # it is told together with what comes
                continue
            interface = self._host.interfaces[key[0]] if key else None
            operations, why = self._written.drain(interface, self._host.policy)
            view = interface.view() if interface else None
            self._news.append(Wrote(view, operations, why))

    def _note_link(self, interface: Interface, told: _Told, now: float) -> _Told:
        carries, flaps = _carries(interface), interface.facts.flaps
        if (told.carries, told.flaps) == (carries, flaps):
            return told  # nearly always
        # Of a link that has just come, and that we set up, late events still say that it is down.
        is_new = interface.facts.age(now) < UDEV_PATIENCE
        flapped = carries and told.carries and flaps != told.flaps and not is_new
        lost, back = told.carries and not carries, told.broken and carries
        new = replace(told, carries=carries, flaps=flaps, broken=lost or (told.broken and not back))
        if not (flapped or lost or back):
            return new
        change = LinkChanged(interface.view(), carries, flapped=flapped)
        return new if self._tell(interface.key, change, now) else told

    def _note_shadows(self, interface: Interface, told: _Told, now: float) -> _Told:
        if not (told.shadows or interface.shadows):
            return told  # nearly always
        shadows = interface.view().shadows
        if shadows == told.shadows:
            return told
        change = Bypassed(interface.view(), shadows, told.shadows)
        return replace(told, shadows=shadows) if self._tell(interface.key, change, now) else told

    def _note_families(self, interface: Interface, told: _Told, now: float) -> _Told:
        if not isinstance(interface.treatment, Managed):
            return replace(told, absent=frozenset()) if told.absent else told
        verdicts = interface.verdicts
        absent = {f: v for f, v in verdicts.items() if v.status is Status.ABSENT and v.reasons}
        for family in sorted(absent.keys() - told.absent):
            reason, age = absent[family].reasons[0], interface.facts.age(now)
            given_up = FamilyGivenUp(interface.view(), family, reason, age)
            if not self._tell(interface.key, given_up, now):
                return told
        now_absent = frozenset(absent)
        return told if told.absent == now_absent else replace(told, absent=now_absent)

    def _note_health(self, interface: Interface, told: _Told, now: float) -> _Told:
        if told.health is interface.health:
            return told  # nearly always
        health: dict[Family, FamilyHealth] = {}
        for family in Family:
            before, after = told.health.get(family), interface.health.get(family)
            change = HealthChanged(interface.view(), family, before, after, now)
            is_news = _news(before) != _news(after)
            known = after if not is_news or self._tell(interface.key, change, now) else before
            if known:
                health[family] = known
        is_told = health == interface.health
        return replace(told, health=interface.health if is_told else health)

    def _note_egress(self, now: float) -> None:
        for family in Family:
            routes = [route for route in self._host.defaults if route.family is family]
            best = min((route.metric for route in routes), default=0)
            leading = [route for route in routes if route.metric == best]
            links = tuple(sorted({link for route in leading for link in route.links}))
            before = self._egress.setdefault(family, links)
            if links == before:
                continue
            by_us = any(route.protocol == PROTOCOL for route in leading)
            if self._tell(None, self._moved(family, before, links, by_us=by_us), now):
                self._egress[family] = links

    def _moved(
        self, family: Family, before: tuple[int, ...], after: tuple[int, ...], *, by_us: bool
    ) -> EgressMoved:
        interfaces = self._host.interfaces
        index = next((link for link in (*after, *before) if link in interfaces), None)
        view = None if index is None else interfaces[index].view()
        return EgressMoved(view, family, self._names(before), self._names(after), by_us)

    def _names(self, links: tuple[int, ...]) -> tuple[str, ...]:
        return tuple(self._host.name_of(link) or f"if{link}" for link in links)


def _carries(interface: Interface) -> bool:
    return interface.link.up and interface.link.running


def _news(health: FamilyHealth | None) -> object:
    """What of a verdict is news when it changes: waiting for other facts is none."""
    if health is None or health.waits:
        return health and (health.health, True)
    return health.health, frozenset(cause.code for cause in health.causes)
