"""The metrics of single interfaces, by their name and ENI: so that an alert says which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric

from nicwatchd.core.health import Health
from nicwatchd.service.counts import Counts
from nicwatchd.service.metric_families import counters, gauges, histogram
from nicwatchd.service.readiness import FAMILIES, NAMES, judged
from nicwatchd.service.status import InterfaceStatus


def interface_metrics(interfaces: Sequence[InterfaceStatus], counts: Counts) -> Iterator[Metric]:
    """All of them. An interface that is gone has none."""
    yield gauges(
        "interface_info",
        "1 for each interface.",
        ("interface", "mac", "eni", "subnet", "state"),
        (((i.name, i.mac, i.eni or "", i.subnet_id or "", i.state), 1) for i in interfaces),
    )
    yield gauges(
        "interface_working",
        "1 while the family works; a family that the ENI does not have is missing.",
        ("interface", "eni", "family"),
        _working(interfaces),
    )
    named = [((i.name, i.eni or ""), i) for i in interfaces]
    yield counters(
        "interface_heals",
        "Objects of the interface that others removed and nicwatchd puts back.",
        ("interface", "eni"),
        ((labels, counts.heals_of[i.index]) for labels, i in named),
    )
    yield counters(
        "interface_fights",
        "How often others began to remove the interface's objects repeatedly.",
        ("interface", "eni"),
        ((labels, counts.fights_of[i.index]) for labels, i in named),
    )
    yield histogram(
        "time_to_working_seconds",
        "Time from the attach of an ENI until the family worked first.",
        ("family",),
        [((family,), counts.to_working[family]) for family in FAMILIES],
    )


def _working(
    interfaces: Sequence[InterfaceStatus],
) -> Iterator[tuple[tuple[str, ...], float]]:
    for interface in interfaces:
        for family, status in judged(interface):
            labels = (interface.name, interface.eni or "", NAMES[family])
            yield labels, status.health is Health.WORKING
