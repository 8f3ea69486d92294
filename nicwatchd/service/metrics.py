"""`GET /metrics`: the text format of Prometheus.

A separate module, so that prometheus_client is imported only if somebody asks for metrics. All
metrics are made from the status and the counts of that moment; nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from nicwatchd.core.fights import KINDS
from nicwatchd.core.lifecycle import State
from nicwatchd.imds.condition import State as ImdsState
from nicwatchd.service.counts import Counts
from nicwatchd.service.status import HostStatus

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
LIVING: Final = tuple(state for state in State if state is not State.GONE)


def render(status: HostStatus, counts: Counts) -> bytes:
    """All metrics: ours, and those of the process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(status, counts))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Snapshot(Collector):
    """A status and its counts, as metrics."""

    def __init__(self, status: HostStatus, counts: Counts) -> None:
        self._status = status
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        yield InfoMetricFamily(
            "nicwatchd_build", "The running version.", {"version": self._status.version}
        )
        yield from self._interfaces()
        yield from self._work()
        yield from self._imds()

    def _interfaces(self) -> Iterator[Metric]:
        interfaces = self._status.interfaces
        states = [interface.state for interface in interfaces]
        yield _gauge(
            "interfaces",
            "Interfaces by state.",
            "state",
            ((state, states.count(state)) for state in LIVING),
        )
        for mark, text, marked in (
            ("overdue", "that have waited for too long", [i.overdue for i in interfaces]),
            ("shadowed", "for which a foreign rule wins", [i.shadowed for i in interfaces]),
            (
                "fought_over",
                "whose objects others keep removing",
                [i.fought_over for i in interfaces],
            ),
        ):
            name = f"nicwatchd_{mark}_interfaces"
            yield GaugeMetricFamily(name, f"Interfaces {text}.", sum(marked))

    def _work(self) -> Iterator[Metric]:
        counts = self._counts
        yield _counter(
            "transitions",
            "Transitions of interfaces, by the new state.",
            ("state",),
            (((state,), counts.transitions[state]) for state in State),
        )
        yield _counter(
            "heals",
            "Objects that others removed and nicwatchd puts back, by kind.",
            ("kind",),
            (((kind,), counts.heals[kind]) for kind in KINDS.values()),
        )
        yield _counter(
            "operations",
            "Changes requested from the kernel, by operation and result.",
            ("operation", "result"),
            (((what, result.value), n) for (what, result), n in counts.operations.items()),
        )
        yield CounterMetricFamily(
            "nicwatchd_netlink_overruns",
            "How often the kernel dropped notifications; each time everything was read again.",
            counts.overruns,
        )
        yield CounterMetricFamily(
            "nicwatchd_surprises",
            "Internal errors that were caught; each is a bug.",
            self._status.surprises,
        )
        yield GaugeMetricFamily(
            "nicwatchd_last_pass_age_seconds",
            "Time since the last turn of the loop ended.",
            counts.since_turn,
        )

    def _imds(self) -> Iterator[Metric]:
        yield _counter(
            "imds_requests",
            'Requests to the metadata service, by HTTP status; "none": no usable answer.',
            ("code",),
            (((code,), n) for code, n in sorted(self._counts.imds.items())),
        )
        yield _gauge(
            "imds_state",
            "1 for the current state of the metadata service, 0 for the others.",
            "state",
            ((state, state == self._status.imds.state) for state in get_args(ImdsState)),
        )


def _gauge(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    metric = GaugeMetricFamily(f"nicwatchd_{name}", text, labels=[label])
    for value, number in values:
        metric.add_metric([value], number)
    return metric


def _counter(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> Metric:
    metric = CounterMetricFamily(f"nicwatchd_{name}", text, labels=labels)
    for value, number in values:
        metric.add_metric(value, number)
    return metric
