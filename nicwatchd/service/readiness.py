"""Is the host ready? What /readyz, exit codes and metrics go by."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from nicwatchd.core.health import Health
from nicwatchd.core.model import Family
from nicwatchd.service.status import FamilyStatus, InterfaceStatus, ReasonStatus

BOTH = frozenset(Family)


def judged(
    interface: InterfaceStatus, families: Collection[Family] = BOTH
) -> Iterator[tuple[Family, FamilyStatus]]:
    """The families of an interface that have a verdict, out of these."""
    for family, status in ((Family.V4, interface.ipv4), (Family.V6, interface.ipv6)):
        if family in families and status is not None and status.health is not None:
            yield family, status


def unready(
    interfaces: Collection[InterfaceStatus],
    families: Collection[Family] = BOTH,
    *,
    knows_primary: bool = True,
) -> list[str]:
    """One line for each family that does not work, with its causes and remedies.

    `knows_primary`: whether IMDS has told which interface is the primary.
    """
    lines = [
        f"{interface.name} {family.label}: {_words(status)}: "
        + "; ".join(_cause(cause) for cause in status.causes)
        for interface in interfaces
        for family, status in judged(interface, families)
        if status.health is not Health.WORKING
    ]
    if interfaces and not knows_primary:
        lines.append("the primary interface is not known yet")
    return lines


def _words(status: FamilyStatus) -> str:
    """The verdict in words."""
    if status.waits:
        return "waiting"
    return "degraded" if status.health is Health.DEGRADED else "not working"


def _cause(cause: ReasonStatus) -> str:
    return f"{cause.text} (mend: {cause.remedy})" if cause.remedy else cause.text
