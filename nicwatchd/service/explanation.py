"""GET /v1/explain/{interface}: why it is in its state, as JSON.

The interface is named by its name, MAC, ENI id, an address of it, or one in its delegated prefixes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict

from nicwatchd.core.account import Account, FamilyAccount, KeyAccount, account
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import Family
from nicwatchd.core.polling import NEVER
from nicwatchd.core.turn import Turn
from nicwatchd.core.view import View
from nicwatchd.core.words import NameOf, command, names_in
from nicwatchd.service.status import InterfaceStatus, of_view, shown


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class KeyStatus(_Model):
    """What IMDS says of one key: `answer` is value, absent or unknown, which `why` explains.

    `since` (Unix epoch): when that answer became what it is; null: it was never asked for. The last
    reading lacked the values that are `unconfirmed`; they are kept for now.
    """

    key: str
    answer: str
    values: list[str] = []
    why: str = ""
    since: float | None = None
    unconfirmed: list[str] = []


class KernelFactStatus(_Model):
    """What the kernel says: `fact` is a stable code; `proves` is for people."""

    fact: str
    values: list[str] = []
    proves: str


class FamilyExplanation(_Model):
    """The facts of one family, from IMDS and from the kernel."""

    keys: list[KeyStatus]
    kernel: list[KernelFactStatus] = []


class ThrottledStatus(_Model):
    """A change that is not made yet, since others keep undoing it; `until` is Unix epoch."""

    command: str
    until: float | None = None


class Explanation(_Model):
    """Why an interface is in its state. Times are seconds of the Unix epoch.

    `treatment` is managed, or the code of the reason why it is left alone; `settings` is the
    section that applies to it. IMDS was `asked` last, and is asked again at `next_question`; null:
    never. nicwatchd looks again at `next_look` at the latest, for the reason `next_look_why`.
    `undone` are the changes in the kernel that are still to be made, as commands.
    """

    interface: InterfaceStatus
    treatment: str
    treatment_why: str
    settings: str | None = None
    listed_since: float | None = None
    asked: float | None = None
    next_question: float | None = None
    next_look: float
    next_look_why: str
    keys: list[KeyStatus]
    ipv4: FamilyExplanation
    ipv6: FamilyExplanation
    table: int
    routes: int
    rules: int
    undone: list[str] = []
    throttled: list[ThrottledStatus] = []


Explain: TypeAlias = Callable[[str], Explanation | None]


def nobody(key: str) -> None:
    """Explains nothing: where there are no interfaces."""
    del key


def explainer(turn: Turn, clock: Callable[[], float], wall: Callable[[], float]) -> Explain:
    """Explains the interfaces that this turn is about; `wall` is the time of day."""

    def explain(key: str) -> Explanation | None:
        views = [interface.view() for _, interface in sorted(turn.host.interfaces.items())]
        view = find(views, key)
        return None if view is None else _explanation(turn, view, clock(), wall())

    return explain


def find(views: list[View], key: str) -> View | None:
    """The view of the interface that the key names."""
    wanted = key.lower()
    for view in views:
        link, eni = view.link, view.memory.believed.interface_id
        if wanted in (shown(link.name).lower(), link.mac) or eni == Value(wanted):
            return view
    try:
        address = ip_address(key)
    except ValueError:
        return None
    verdicts = ((view, verdict) for view in views for verdict in view.verdicts.values())
    items = ((view, item) for view, verdict in verdicts for item in verdict.usable.items)
    networks = (IPv4Network, IPv6Network)
    holds = None
    for view, item in items:
        if item == address:
            return view
        if holds is None and isinstance(item, networks) and address in item:
            holds = view
    on_link = (view for view in views if address in {each.ip for each in view.addresses})
    return holds or next(on_link, None)


def _explanation(turn: Turn, view: View, now: float, today: float) -> Explanation:
    epoch = today - now
    said, next_look = account(view, turn.decision), turn.next_at()
    polling = turn.host.interfaces[view.link.index].polling
    question = max(now, polling.next_at)  # it may be under way
    name_of = names_in(turn.decision.kernel.links if turn.decision else {})
    asks = turn.host.interfaces[view.link.index].is_polled
    first = view.memory.first_listed
    return Explanation(
        interface=of_view(view, epoch),
        treatment=said.treatment,
        treatment_why=shown(said.why),
        settings=None if view.section is None else str(view.section),
        listed_since=_epoch(first, epoch),
        asked=_epoch(polling.as_of, epoch),
        next_question=_epoch(question, epoch) if asks else None,
        next_look=round(epoch + next_look.at, 3),
        next_look_why=next_look.why,
        keys=_keys(said.keys, epoch),
        ipv4=_family(said.families[Family.V4], epoch),
        ipv6=_family(said.families[Family.V6], epoch),
        table=view.numbers.table_of(view.link.index),
        routes=len(view.plan.routes),
        rules=len(view.plan.rules),
        undone=[shown(command(operation, name_of)) for operation in said.undone],
        throttled=_throttled(said, epoch, name_of),
    )


def _throttled(said: Account, epoch: float, name_of: NameOf) -> list[ThrottledStatus]:
    return [
        ThrottledStatus(
            command=shown(command(each.operation, name_of)), until=_epoch(each.until, epoch)
        )
        for each in said.throttled
    ]


def _family(said: FamilyAccount, epoch: float) -> FamilyExplanation:
    facts = [
        KernelFactStatus(fact=each.code, values=list(each.values), proves=each.proves)
        for each in said.kernel
    ]
    return FamilyExplanation(keys=_keys(said.keys, epoch), kernel=facts)


def _keys(keys: Iterable[KeyAccount], epoch: float) -> list[KeyStatus]:
    return [
        KeyStatus(
            key=each.key,
            answer=each.answer,
            values=[shown(value) for value in each.values],
            why=shown(each.why),
            since=_epoch(each.since, epoch),
            unconfirmed=list(each.unconfirmed),
        )
        for each in keys
    ]


def _epoch(at: float | None, epoch: float) -> float | None:
    return None if at is None or abs(at) == NEVER else round(epoch + at, 3)
