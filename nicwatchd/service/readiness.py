"""What does not work: what /readyz, exit codes and metrics go by.

Made from the health of each family of each interface. What is left alone, and a family that an ENI
does not have, have no health and make nothing fail.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import ip_address, ip_network
from typing import Final

from nicwatchd.core.health import Health
from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import Family, IPAddress
from nicwatchd.service.answers import FamilyName, NotReady
from nicwatchd.service.status import (
    FamilyStatus,
    HostStatus,
    InterfaceStatus,
    ReasonStatus,
    find,
)

BOTH: Final = frozenset(Family)
NAMES: Final[dict[Family, FamilyName]] = {Family.V4: "ipv4", Family.V6: "ipv6"}
FAMILIES: Final = {name: family for family, name in NAMES.items()}
UNJUDGED: Final = ReasonStatus(code="not-judged", text="nicwatchd has just found the interface")
PRIMARY_UNKNOWN: Final = ReasonStatus(
    code="primary-unknown", text="the primary interface is not known yet"
)


def judged(
    interface: InterfaceStatus, families: Collection[Family] = BOTH
) -> Iterator[tuple[Family, FamilyStatus]]:
    """The families of an interface that have a verdict, out of these."""
    for family, status in _families(interface):
        if family in families and status.health is not None:
            yield family, status


def not_ready(
    interfaces: Iterable[InterfaceStatus], families: Collection[Family] = BOTH
) -> list[NotReady]:
    """What of these does not work, with its causes and remedies."""
    return [each for interface in interfaces for each in _of_interface(interface, families)]


def of_host(status: HostStatus) -> list[NotReady]:
    """What is wrong with the daemon itself, and that the primary is not known yet."""
    found = [
        NotReady(causes=[ReasonStatus(code="daemon-problem", text=text)])
        for text in status.problems
    ]
    if status.interfaces and not (status.released or status.idle or status.primary_mac):
        found.append(NotReady(waits=True, causes=[PRIMARY_UNKNOWN]))
    return found


def stuck(status: HostStatus) -> list[str]:
    """The problems of the daemon that a restart may mend: what /healthz goes by.

    Settings that cannot be used are none of them: no part stops, and a restart would fail.
    """
    return [each for each in status.problems if each != status.bad_settings]


def unready(
    interfaces: Collection[InterfaceStatus],
    families: Collection[Family] = BOTH,
    *,
    knows_primary: bool = True,
) -> list[str]:
    """One line for each family that does not work, with its causes and remedies.

    `knows_primary`: whether IMDS has told which interface is the primary.
    """
    lines = [line(each) for each in not_ready(interfaces, families)]
    return [*lines, PRIMARY_UNKNOWN.text] if interfaces and not knows_primary else lines


def line(entry: NotReady) -> str:
    """One line for people."""
    about = [entry.interface] if entry.interface else []
    about += [FAMILIES[entry.family].label] if entry.family else []
    parts = [" ".join(about), _words(entry)] if about else []
    return ": ".join([*parts, "; ".join(_cause(cause) for cause in entry.causes)])


def find_interface(interfaces: list[InterfaceStatus], key: str) -> InterfaceStatus | None:
    """The interface with this name, MAC or ENI id, or that has this address."""
    found = find(interfaces, key)
    if found is not None:
        return found
    try:
        address = ip_address(key)
    except ValueError:
        return None
    return next((i for i in interfaces if any(_has(f, address) for _, f in _families(i))), None)


def _has(family: FamilyStatus, address: IPAddress) -> bool:
    text = str(address)
    if text in family.answering or text in family.silent or text in family.addresses:
        return True
    return any(address in ip_network(prefix) for prefix in family.prefixes)


def _families(interface: InterfaceStatus) -> Iterator[tuple[Family, FamilyStatus]]:
    for family, status in ((Family.V4, interface.ipv4), (Family.V6, interface.ipv6)):
        if status is not None:
            yield family, status


def _of_interface(interface: InterfaceStatus, families: Collection[Family]) -> Iterator[NotReady]:
    entry = NotReady(interface=interface.name, eni=interface.eni, state=interface.state)
    for family, status in judged(interface, families):
        if status.health is not Health.WORKING:
            more = {"health": status.health, "waits": status.waits, "causes": status.causes}
            yield entry.model_copy(update={"family": NAMES[family], **more})
    # A new one has no verdict for a moment. Whoever waits for it must not take that for a good one.
    if interface.state is State.DETECTED and not any(judged(interface)):
        yield entry.model_copy(update={"waits": True, "causes": [UNJUDGED]})


def _words(entry: NotReady) -> str:
    """The verdict in words."""
    if entry.waits:
        return "waiting"
    return "degraded" if entry.health is Health.DEGRADED else "not working"


def _cause(cause: ReasonStatus) -> str:
    return f"{cause.text} (mend: {cause.remedy})" if cause.remedy else cause.text
