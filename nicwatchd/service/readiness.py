"""What does not work: the answer of /readyz, and a metric.

Made from the health of each family of each interface. What is left alone, and a family that an ENI
does not have, have no health and make nothing fail.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import ip_address, ip_network
from typing import Final

from nicwatchd.core.health import Health
from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import IPAddress
from nicwatchd.service.answers import FamilyName, NotReady
from nicwatchd.service.status import (
    FamilyStatus,
    HostStatus,
    InterfaceStatus,
    ReasonStatus,
    find,
)

FAMILIES: Final[tuple[FamilyName, ...]] = ("ipv4", "ipv6")
LABELS: Final = {"ipv4": "IPv4", "ipv6": "IPv6"}


def unready(
    status: HostStatus,
    families: Collection[FamilyName] = FAMILIES,
    only: InterfaceStatus | None = None,
) -> list[NotReady]:
    """What does not work of these families: of the whole host, or of one interface."""
    interfaces = status.interfaces if only is None else [only]
    found = [each for interface in interfaces for each in _of_interface(interface, families)]
    return found if only else [*found, *_of_host(status)]


def line(entry: NotReady) -> str:
    """One line for people."""
    parts = [f"{entry.interface}: {entry.state}"] if entry.interface else []
    if entry.family and entry.health:
        parts.append(f"{LABELS[entry.family]} is {entry.health.replace('-', ' ')}")
    parts.append("; ".join(cause.text for cause in entry.causes) or "in progress")
    return ": ".join(parts)


def family_of(interface: InterfaceStatus, name: FamilyName) -> FamilyStatus | None:
    """One family of an interface."""
    return interface.ipv4 if name == "ipv4" else interface.ipv6


def find_interface(interfaces: list[InterfaceStatus], key: str) -> InterfaceStatus | None:
    """The interface with this name, MAC or ENI id, or that has this address."""
    found = find(interfaces, key)
    if found is not None:
        return found
    try:
        address = ip_address(key)
    except ValueError:
        return None
    return next((i for i in interfaces if any(_has(f, address) for f in _families(i))), None)


def _has(family: FamilyStatus, address: IPAddress) -> bool:
    text = str(address)
    if text in family.answering or text in family.silent or text in family.addresses:
        return True
    return any(address in ip_network(prefix) for prefix in family.prefixes)


def _families(interface: InterfaceStatus) -> Iterator[FamilyStatus]:
    for name in FAMILIES:
        family = family_of(interface, name)
        if family is not None:
            yield family


def _of_interface(
    interface: InterfaceStatus, families: Collection[FamilyName]
) -> Iterator[NotReady]:
    entry = NotReady(interface=interface.name, eni=interface.eni, state=interface.state)
    health = {name: family_of(interface, name) for name in FAMILIES}
    known = {name: each for name, each in health.items() if each and each.health}
    for name, each in known.items():
        if name in families and each.health is not Health.WORKING:
            more = {"health": each.health, "waits": each.waits, "causes": each.causes}
            yield entry.model_copy(update={"family": name, **more})
    if not known and not interface.is_settled:  # it was not judged yet
        reasons = interface.reasons if interface.state is not State.IGNORED else []
        causes = [*reasons, interface.fight] if interface.fight else reasons
        yield entry.model_copy(update={"causes": causes})


def _of_host(status: HostStatus) -> Iterator[NotReady]:
    """What is wrong with the daemon, and that the primary is not known yet."""
    for problem in status.problems:
        yield NotReady(causes=[ReasonStatus(code="daemon-problem", text=problem)])
    managed = status.interfaces and not (status.idle or status.released)
    if managed and status.primary_mac is None:
        text = "the primary interface is not known yet"
        yield NotReady(waits=True, causes=[ReasonStatus(code="primary-unknown", text=text)])
