"""The status: one format for the socket, the journal and the command line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from nicwatchd.core.evidence import Status
from nicwatchd.core.health import Health, worst
from nicwatchd.core.interface import Interface
from nicwatchd.core.lifecycle import State
from nicwatchd.core.metadata import Answer, Value
from nicwatchd.core.model import Family, Reason, ours
from nicwatchd.core.remedies import assigns, remedy_of
from nicwatchd.core.treatment import Primary
from nicwatchd.core.unlinked import Unlinked
from nicwatchd.core.view import View
from nicwatchd.imds.condition import Condition
from nicwatchd.service.pci import Device
from nicwatchd.service.platform import instance_id

T = TypeVar("T")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class ReasonStatus(_Model):
    """A stable code, and a text for people; `remedy`: what mends it, if anything does."""

    code: str
    text: str
    remedy: str = ""


class FamilyStatus(_Model):
    """One family: does it work, are its facts complete, and what is it programmed for.

    `health` is null where the ENI does not have the family. `waits`: all `causes` are expected to
    end by themselves. Of its addresses, `answering` leave by the ENI as they must, and `silent` do
    not. `verdict` is on the facts; `reasons` is what is missing of them. `added` are by nicwatchd.
    `health_since` and `worked_after` (seconds from `seen` until it worked first) are null before.
    """

    health: Health | None = None
    health_since: float | None = None
    waits: bool = False
    causes: list[ReasonStatus] = []
    answering: list[str] = []
    silent: list[str] = []
    worked_after: float | None = None
    verdict: Status
    reasons: list[ReasonStatus] = []
    addresses: list[str] = []
    prefixes: list[str] = []
    subnets: list[str] = []
    added: list[str] = []


class InterfaceStatus(_Model):
    """One interface. `since` and `seen` are seconds of the Unix epoch.

    `health` is the worst of its families'; null: it is left alone, or nothing is known yet.
    """

    name: str
    index: int
    mac: str
    eni: str | None = None
    subnet_id: str | None = None
    device_number: int | None = None  # for people only: it is wrong at first; nothing depends on it
    network_card: int | None = None
    driver: str | None = None
    section: str | None = None  # of the settings, that applies to it: what it matches by
    link_up: bool = True
    primary: bool = False
    protected: bool = False  # it is the primary, and has a table and rules of nicwatchd
    health: Health | None = None
    waits: bool = False  # all causes of both families are expected to end by themselves
    state: State
    since: float
    seen: float
    overdue: bool = False
    shadowed: bool = False
    fought_over: bool = False
    fight: ReasonStatus | None = None  # what is fought over, and with whom
    reasons: list[ReasonStatus] = []
    notes: list[ReasonStatus] = []
    table: int
    ipv4: FamilyStatus | None = None
    ipv6: FamilyStatus | None = None


class ImdsStatus(_Model):
    """The state of IMDS: unasked, ok, disabled, unreachable, throttled or failing; and why.

    `device`: the link that requests are bound to, where the host's routes do not lead to IMDS.
    `asked` and `answered`: when it was asked, and when it answered with 200, last (Unix epoch).
    """

    state: str
    detail: str = ""
    endpoint: str | None = None
    device: str | None = None
    requests: int = 0
    asked: float | None = None
    answered: float | None = None


class UnlinkedStatus(_Model):
    """An ENI that IMDS lists, and of which the kernel has no link, since then (Unix epoch).

    `name` is that of its last link. `remembered`: it is served at once when a link of it is back.
    """

    mac: str
    eni: str | None = None
    name: str | None = None
    since: float
    remembered: bool = False


class DeviceStatus(_Model):
    """A PCI device of Amazon's for networks that has no link here; which ENI it is, nobody knows.

    `driver` has it: vfio-pci, say, or EC2's own while the link is in another network namespace.
    """

    address: str
    driver: str | None = None


class HostStatus(_Model):
    """The whole host. `idle` says why nicwatchd manages nothing, if so.

    `problems` are the daemon's own. One of them may be `bad_settings`: what the files say cannot be
    used, so those before stay in use. `ready`: every family of every ENI that we judge works, and
    there are no problems; `unready` says of what is not.
    `devices` are those without a link, told while there are ENIs without one. `released`: the
    operator released the whole host, including interfaces attached later. `surprises` counts
    internal errors that were caught: each is a bug.
    """

    version: str
    pid: int
    started: float
    idle: str | None = None
    primary_mac: str | None = None
    container_network: str | None = None
    imds: ImdsStatus
    problems: list[str] = []
    bad_settings: str | None = None
    ready: bool = True
    unready: list[str] = []
    released: bool = False
    surprises: int = 0
    interfaces: list[InterfaceStatus] = []
    unlinked: list[UnlinkedStatus] = []
    devices: list[DeviceStatus] = []


def find(interfaces: list[InterfaceStatus], key: str) -> InterfaceStatus | None:
    """The interface with this name, MAC or ENI id."""
    wanted = key.lower()
    return next((i for i in interfaces if wanted in (i.name.lower(), i.mac, i.eni)), None)


def of_condition(
    condition: Condition, requests: int, asked: float | None, answered: float | None
) -> ImdsStatus:
    """The status of IMDS; `asked` and `answered` as in `ImdsStatus`."""
    return ImdsStatus(
        state=condition.state,
        detail=shown(condition.detail),
        endpoint=condition.endpoint,
        device=None if condition.device is None else shown(condition.device),
        requests=requests,
        asked=asked,
        answered=answered,
    )


def of_view(view: View, epoch: float) -> InterfaceStatus:
    """The status of one interface; `epoch` is the Unix time at the monotonic clock's 0."""
    link, believed = view.link, view.memory.believed
    return InterfaceStatus(
        name=shown(link.name),
        index=link.index,
        mac=link.mac,
        eni=_value(believed.interface_id),
        subnet_id=_value(believed.subnet_id),
        device_number=_value(believed.device_number),
        network_card=_value(believed.network_card),
        driver=link.driver,
        section=None if view.section is None else str(view.section),
        link_up=link.up,
        primary=isinstance(view.treatment, Primary),
        protected=view.is_protected,
        health=worst(each.health for each in view.health.values()),
        waits=_waits(view),
        state=view.state,
        since=round(epoch + view.since, 3),
        seen=round(epoch + view.seen, 3),
        overdue=view.overdue,
        shadowed=bool(view.shadows),
        fought_over=view.fight is not None,
        fight=_reason_status(view.fight, view) if view.fight else None,
        reasons=reason_statuses(view.reasons, view),
        notes=reason_statuses(view.notes, view),
        table=view.numbers.table_of(link.index),
        ipv4=_family(view, Family.V4, epoch),
        ipv6=_family(view, Family.V6, epoch),
    )


def of_unlinked(unlinked: Unlinked, epoch: float) -> list[UnlinkedStatus]:
    """The ENIs without a link; `epoch` as above."""
    found = []
    for mac in sorted(unlinked.listed.keys() | unlinked.formers.keys()):
        former = unlinked.formers.get(mac)
        since = former.gone if former else unlinked.listed[mac]
        entry = UnlinkedStatus(
            mac=mac, since=round(epoch + since, 3), remembered=former is not None
        )
        if former:
            eni, name = _value(former.memory.believed.interface_id), shown(former.name)
            entry = entry.model_copy(update={"eni": eni, "name": name})
        found.append(entry)
    return found


def of_devices(devices: Iterable[Device]) -> list[DeviceStatus]:
    """The devices without a link."""
    return [DeviceStatus(address=each.address, driver=each.driver) for each in devices]


def _waits(view: View) -> bool:
    """Whether something does not work, and all of it is expected to by itself."""
    amiss = [each for each in view.health.values() if each.health is not Health.WORKING]
    return bool(amiss) and all(each.waits for each in amiss)


def _family(view: View, family: Family, epoch: float) -> FamilyStatus | None:
    verdict, health = view.verdicts.get(family), view.health.get(family)
    if verdict is None:
        return None
    usable = verdict.usable
    found = FamilyStatus(
        verdict=verdict.status,
        reasons=reason_statuses(verdict.reasons, view),
        addresses=[str(ip) for ip in usable.addresses],
        prefixes=[str(prefix) for prefix in usable.prefixes],
        subnets=[str(subnet) for subnet in usable.subnets],
        added=[str(a.ip) for a in view.addresses if a.family is family and ours(a)],
    )
    if health is None:
        return found
    after = health.worked_after
    return found.model_copy(
        update={
            "health": health.health,
            "health_since": round(epoch + health.since, 3),
            "waits": health.waits,
            "causes": reason_statuses(health.causes, view),
            "answering": [str(ip) for ip in health.answering],
            "silent": [str(ip) for ip in health.silent],
            "worked_after": None if after is None else round(after, 3),
        }
    )


def problem_of(view: View) -> str | None:
    """What is wrong with the daemon itself in handling an interface; None: nothing."""
    return f"{shown(view.link.name)}: {shown(view.surprise.text)}" if view.surprise else None


def reason_statuses(reasons: Iterable[Reason], view: View) -> list[ReasonStatus]:
    """Reasons for display, each with its remedy for this interface, if it is time for that."""
    return [_reason_status(reason, view) for reason in reasons]


def _reason_status(reason: Reason, view: View) -> ReasonStatus:
    eni = _value(view.memory.believed.interface_id)
    device = _value(view.memory.believed.device_number)
    remedy = remedy_of(
        reason,
        name=view.link.name,
        mac=view.link.mac,
        eni=eni,
        device="" if device is None else str(device),
        instance=instance_id(),
    )
    if view.is_young and assigns(remedy):
        remedy = ""  # most of it mends itself: what is waited for is waited for
    return ReasonStatus(code=reason.code, text=shown(reason.text), remedy=shown(remedy))


def shown(text: str) -> str:
    """A text, safe for terminals and JSON: the kernel allows nearly any byte in a link's name."""
    if text.isascii() and text.isprintable():
        return text
    decoded = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in decoded)


def _value(answer: Answer[T]) -> T | None:
    return answer.value if isinstance(answer, Value) else None


def headline(interfaces: Iterable[Interface]) -> str:
    """One line for `systemctl status`: how many of the ENIs work, and the states of all."""
    found = [(interface.lifecycle.state, interface.worst) for interface in interfaces]
    judged = [health for _, health in found if health]
    working = judged.count(Health.WORKING)
    parts = [f"{working} of {len(judged)} interfaces work"] if judged else []
    counts = Counter(state for state, _ in found)
    parts += [f"{counts[state]} {state}" for state in State if counts[state]]
    return ", ".join(parts) or "no interfaces"
