"""Canned answers of a daemon: hosts in all sorts of states, and a service that gives them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from nicwatchd.core.evidence import Status
from nicwatchd.core.health import Health
from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import IPAddress
from nicwatchd.imds.condition import Condition
from nicwatchd.service.counts import Counts
from nicwatchd.service.released import Released
from nicwatchd.service.status import (
    FamilyStatus,
    HostStatus,
    ImdsStatus,
    InterfaceStatus,
    ReasonStatus,
)
from nicwatchd.service.telling import ImdsChanged, Observer, Told

NOW: Final = time.time()
V4, V6 = int(IPv4Address("10.0.0.0")), int(IPv6Address("2001:db8:ec2::"))
NO_IPV6S: Final = ReasonStatus(code="no-ipv6s", text="IMDS lists no ipv6s yet")
RULE_100: Final = ReasonStatus(
    code="leaves-elsewhere",
    text="packets from 10.0.2.10 leave by eth0 by rule 100 (from 10.0.2.0/24 lookup 100), not "
    "nicwatchd's, and EC2 drops them there",
    remedy="ip rule del pref 100 from 10.0.2.0/24 lookup 100",
)


def family(addresses: Iterable[str], **changes: Any) -> FamilyStatus:
    """A family that works, unless the changes say otherwise."""
    own = list(addresses)
    fields: dict[str, Any] = {
        "health": Health.WORKING,
        "health_since": NOW - 7200.0,
        "answering": own,
        "worked_after": 0.5,
        "verdict": Status.READY,
        "addresses": own,
        "added": own[1:],
    }
    return FamilyStatus(**(fields | changes))


def ipv4(number: int, count: int = 1) -> list[str]:
    return [str(IPv4Address(V4 + (number + 1 << 8) + 10 + n)) for n in range(count)]


def ipv6(number: int, count: int = 1) -> list[str]:
    return [str(IPv6Address(V6 + (number + 1 << 64) + 0x10 + n)) for n in range(count)]


def eni(number: int, addresses: int = 1, **changes: Any) -> InterfaceStatus:
    """ethN, which works in both families; eth0 is the primary."""
    fields: dict[str, Any] = {
        "name": f"eth{number}",
        "index": number + 2,
        "mac": f"02:00:00:00:00:{number + 1:02x}",
        "eni": f"eni-0a1b2c3d4e5f607{number + 1:02x}",
        "subnet_id": f"subnet-{number:017x}",
        "device_number": number,
        "driver": "ena",
        "primary": number == 0,
        "health": Health.WORKING,
        "state": State.APPLIED if number else State.IGNORED,
        "reasons": [] if number else [ReasonStatus(code="primary", text="the primary interface")],
        "since": NOW - 7200.0,
        "seen": NOW - 7201.0,
        "table": 1_000_191 + 256 * (number + 2),
        "ipv4": family(ipv4(number, addresses)),
        "ipv6": family(ipv6(number, addresses)),
    }
    return InterfaceStatus(**(fields | changes))


def waiting(number: int, addresses: int = 1) -> InterfaceStatus:
    """IPv4 works, and IPv6 is not listed yet."""
    missing = family(
        (), health=Health.NOT_WORKING, waits=True, causes=[NO_IPV6S], verdict=Status.WAITING,
        reasons=[NO_IPV6S], health_since=NOW - 12.0, worked_after=None,
    )  # fmt: skip
    return eni(
        number, addresses, health=Health.NOT_WORKING, waits=True, state=State.AWAITING,
        reasons=[NO_IPV6S], since=NOW - 12.0, ipv6=missing,
    )  # fmt: skip


def broken(number: int, addresses: int = 1) -> InterfaceStatus:
    """A rule of others takes all IPv4."""
    silent = family(
        ipv4(number, addresses), health=Health.NOT_WORKING, causes=[RULE_100], answering=[],
        silent=ipv4(number, addresses), health_since=NOW - 200.0,
    )  # fmt: skip
    note = ReasonStatus(code="shadowed", text="packets from 10.0.2.10 are routed by table 100")
    return eni(
        number, addresses, health=Health.NOT_WORKING, ipv4=silent, shadowed=True, notes=[note]
    )


def degraded(number: int) -> InterfaceStatus:
    """One of three IPv4 addresses answers nobody; the link's name is as long as one can be."""
    own = ipv4(number, 3)
    gone = ReasonStatus(
        code="address-missing",
        text=f"IMDS lists {own[1]} here, but it is not on verylongname{number}",
        remedy=f"ip addr add {own[1]}/32 dev verylongname{number}",
    )
    part = family(
        own, health=Health.DEGRADED, causes=[gone], answering=[own[0], own[2]], silent=[own[1]]
    )
    return eni(number, name=f"verylongname{number:03}", health=Health.DEGRADED, ipv4=part)


def alone(number: int) -> InterfaceStatus:
    """Left alone by the settings."""
    reason = ReasonStatus(
        code="excluded", text="excluded by the settings", remedy="take it out of `exclude`"
    )
    return eni(
        number, health=None, state=State.IGNORED, reasons=[reason], ipv4=None, ipv6=None, eni=None
    )


def host(*interfaces: InterfaceStatus, **changes: Any) -> HostStatus:
    """A host with these interfaces."""
    fields: dict[str, Any] = {
        "version": "0.2.0", "pid": 1, "started": NOW - 9000.0, "imds": ImdsStatus(state="ok"),
        "primary_mac": "02:00:00:00:00:01", "interfaces": list(interfaces),
    }  # fmt: skip
    return HostStatus(**(fields | changes))


def mixed(count: int, addresses: int = 1) -> HostStatus:
    """A host with so many ENIs beside the primary, in all sorts of states, one after the other."""
    kinds: tuple[Callable[[int], InterfaceStatus], ...] = (
        lambda number: eni(number, addresses),
        lambda number: waiting(number, addresses),
        lambda number: broken(number, addresses),
        degraded,
        alone,
    )
    return host(eni(0), *(kinds[(n - 1) % len(kinds)](n) for n in range(1, count + 1)))


def without_health(document: Any) -> Any:
    """The JSON as a daemon of the first edition serves it: without the keys of the health."""
    new = {
        *("health", "health_since", "waits", "causes", "answering", "silent", "worked_after"),
        *("remedy", "ready", "unready"),
    }
    if isinstance(document, Mapping):
        kept = {key: without_health(value) for key, value in document.items() if key not in new}
        if "index" in kept:
            kept.pop("primary")
        return kept
    return [without_health(each) for each in document] if isinstance(document, list) else document


class Canned:
    """A service with a canned status. `change` tells the observers, as events do."""

    def __init__(self, status: HostStatus) -> None:
        self.said = status
        self._observers: list[Observer] = []

    def change(self, status: HostStatus) -> None:
        self.said = status
        for observer in self._observers:
            for interface in status.interfaces:
                observer(Told(ImdsChanged(Condition()), interface))

    def status(self) -> HostStatus:
        return self.said

    def counts(self) -> Counts:
        return Counts()

    async def reconcile(
        self, interface: str | None = None, adopt: Iterable[IPAddress] = ()
    ) -> None:
        del interface, adopt
        self.said = host(eni(0))

    async def release(self, interface: str | None = None) -> Released:
        del interface
        return Released()

    def subscribe(self, listener: Observer) -> Callable[[], None]:
        self._observers.append(listener)
        return lambda: self._observers.remove(listener)
