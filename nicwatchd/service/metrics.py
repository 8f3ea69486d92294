"""`GET /metrics`: the text format of Prometheus.

All metrics are made from the status and the counts of that moment; nothing is counted twice. Every
series is there from the beginning, a counter at 0, so that `rate()` sees its first event.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from nicwatchd.core.fights import KINDS
from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import Operation
from nicwatchd.core.port import Result
from nicwatchd.imds.condition import State as ImdsState
from nicwatchd.service.build import commit
from nicwatchd.service.counts import Counts, verb
from nicwatchd.service.interface_metrics import interface_metrics
from nicwatchd.service.metric_families import counter, counters, gauge, gauges, histogram
from nicwatchd.service.readiness import not_ready, of_host, stuck
from nicwatchd.service.status import HostStatus

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
LIVING: Final = tuple(state for state in State if state is not State.GONE)
# The answers that IMDS is known to give.
IMDS_CODES: Final = ("200", "401", "403", "404", "429", "500", "503", "none")


def render(status: HostStatus, counts: Counts, *, process: bool = True) -> bytes:
    """All metrics: ours, and those of the process."""
    return b"".join(parts(status, counts, process=process))


def parts(status: HostStatus, counts: Counts, *, process: bool = True) -> Iterator[bytes]:
    """The same in parts, one for each metric, so that other work can be done between them."""
    for metric in _Snapshot(status, counts).collect():
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_One(metric))
        yield generate_latest(registry)
    if process:
        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        yield generate_latest(registry)


class _One(Collector):
    """One metric."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        yield self._metric


class _Snapshot:
    """A status and its counts, as metrics."""

    def __init__(self, status: HostStatus, counts: Counts) -> None:
        self._status = status
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """All of them, each made when it is asked for."""
        build = {"version": self._status.version} | ({"commit": commit()} if commit() else {})
        yield InfoMetricFamily("nicwatchd_build", "The running version.", build)
        yield from self._host()
        yield from self._settings()
        yield from self._interfaces()
        yield from interface_metrics(self._status.interfaces, self._counts)
        yield from self._work()
        yield from self._loop()
        yield from self._imds()

    def _host(self) -> Iterator[Metric]:
        status = self._status
        lacking = [*not_ready(status.interfaces), *of_host(status)]
        for name, text, holds in (
            ("ready", "1 while /readyz says so: all interfaces work.", not lacking),
            ("healthy", "1 while every part of the daemon makes progress.", not stuck(status)),
            ("released", "1 while the whole host is released.", status.released),
            ("idle", "1 where nothing is managed, since this is not EC2.", bool(status.idle)),
        ):
            yield gauge(name, text, holds)
        yield gauges(
            "primary_default_route",
            "1 while main's best default route is the primary's.",
            ("family",),
            (((f.label.lower(),), is_its) for f, is_its in self._counts.leads.items()),
        )

    def _settings(self) -> Iterator[Metric]:
        settings = self._counts.settings
        yield gauge(
            "config_last_reload_successful",
            "0 while the settings of the files are not in use, since they are wrong.",
            not settings.failed,
        )
        yield gauge(
            "config_last_reload_success_timestamp_seconds",
            "When the settings in use were read.",
            settings.at,
        )

    def _interfaces(self) -> Iterator[Metric]:
        interfaces = self._status.interfaces
        states = [interface.state for interface in interfaces]
        yield gauges(
            "interfaces",
            "Interfaces by state.",
            ("state",),
            (((state,), states.count(state)) for state in LIVING),
        )
        used = [i for i in interfaces if i.primary or i.state is not State.IGNORED]
        for mark, text, marked in (
            ("overdue", "that have waited for too long", [i.overdue for i in interfaces]),
            ("shadowed", "for which a foreign rule wins", [i.shadowed for i in interfaces]),
            (
                "fought_over",
                "whose objects others keep removing",
                [i.fought_over for i in interfaces],
            ),
            ("link_down", "that are to work and whose link is down", [not i.link_up for i in used]),
        ):
            yield gauge(f"{mark}_interfaces", f"Interfaces {text}.", sum(marked))

    def _work(self) -> Iterator[Metric]:
        counts = self._counts
        yield counters(
            "transitions",
            "Transitions of interfaces, by the new state.",
            ("state",),
            (((state,), counts.transitions[state]) for state in State),
        )
        yield counters(
            "heals",
            "Objects that others removed and nicwatchd puts back, by kind.",
            ("kind",),
            (((kind,), counts.heals[kind]) for kind in KINDS.values()),
        )
        verbs = [verb(kind) for kind in get_args(Operation)]
        yield counters(
            "operations",
            "Changes requested from the kernel, by operation and result.",
            ("operation", "result"),
            (((v, result.value), counts.operations[v, result]) for v in verbs for result in Result),
        )

    def _loop(self) -> Iterator[Metric]:
        counts = self._counts
        yield counter(
            "netlink_overruns",
            "How often the kernel dropped notifications; each time everything was read again.",
            counts.overruns,
        )
        yield counter(
            "surprises",
            "Internal errors that were caught; each is a bug.",
            self._status.surprises,
        )
        yield counter(
            "journal_entries_lost",
            "Entries given up because journald took none for too long.",
            counts.entries_lost,
        )
        yield gauge(
            "last_pass_age_seconds",
            "Time since the last turn of the loop ended.",
            counts.since_turn,
        )
        yield gauge(
            "last_pass_timestamp_seconds",
            "When the last turn of the loop ended.",
            time.time() - counts.since_turn,
        )

    def _imds(self) -> Iterator[Metric]:
        counts = self._counts
        codes = dict.fromkeys(IMDS_CODES, 0) | counts.imds
        yield counters(
            "imds_requests",
            'Requests to the metadata service, by HTTP status; "none": no usable answer.',
            ("code",),
            (((code,), n) for code, n in sorted(codes.items())),
        )
        yield histogram(
            "imds_request_duration_seconds",
            "Time that requests to the metadata service took, however they ended.",
            (),
            [((), counts.imds_durations)],
        )
        if counts.imds_success is not None:
            yield gauge(
                "imds_last_success_timestamp_seconds",
                "When the metadata service last answered a request with 200.",
                counts.imds_success,
            )
        yield gauges(
            "imds_state",
            "1 for the current state of the metadata service, 0 for the others.",
            ("state",),
            (((state,), state == self._status.imds.state) for state in get_args(ImdsState)),
        )
