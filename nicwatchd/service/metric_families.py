"""Metrics of one name: shorthands for prometheus_client's families, with our prefix."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from nicwatchd.imds.histogram import Histogram

Labels = tuple[str, ...]


def gauge(name: str, text: str, value: float) -> Metric:
    """A gauge of one series."""
    return GaugeMetricFamily(f"nicwatchd_{name}", text, value)


def gauges(name: str, text: str, labels: Labels, values: Iterable[tuple[Labels, float]]) -> Metric:
    """A gauge with labels."""
    metric = GaugeMetricFamily(f"nicwatchd_{name}", text, labels=labels)
    for value, number in values:
        metric.add_metric(value, number)
    return metric


def counter(name: str, text: str, value: float) -> Metric:
    """A counter of one series; `name` is without `_total`."""
    return CounterMetricFamily(f"nicwatchd_{name}", text, value)


def counters(
    name: str, text: str, labels: Labels, values: Iterable[tuple[Labels, float]]
) -> Metric:
    """A counter with labels."""
    metric = CounterMetricFamily(f"nicwatchd_{name}", text, labels=labels)
    for value, number in values:
        metric.add_metric(value, number)
    return metric


def histogram(
    name: str, text: str, labels: Labels, values: Iterable[tuple[Labels, Histogram]]
) -> Metric:
    """A histogram."""
    metric = HistogramMetricFamily(f"nicwatchd_{name}", text, labels=labels)
    for value, counted in values:
        metric.add_metric(value, list(counted.buckets()), counted.sum)
    return metric
