"""Counters and gauges as metric families: one series, or one for each value of a label."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

Labels = Mapping[str, str]


def counter(name: str, text: str, labels: Labels, value: float) -> Metric:
    return counter_by(name, text, labels, "", {"": value})


def counter_by(
    name: str, text: str, labels: Labels, by: str, values: Mapping[str, float]
) -> Metric:
    """`by`: the label that `values` are of; empty: none, and there is one value."""
    family = CounterMetricFamily(name, text, labels=[*labels, by] if by else list(labels))
    _fill(family, labels, by, values)
    return family


def gauge(name: str, text: str, labels: Labels, value: float) -> Metric:
    return gauge_by(name, text, labels, "", {"": value})


def gauge_by(name: str, text: str, labels: Labels, by: str, values: Mapping[str, float]) -> Metric:
    """As `counter_by`."""
    family = GaugeMetricFamily(name, text, labels=[*labels, by] if by else list(labels))
    _fill(family, labels, by, values)
    return family


def _fill(
    family: CounterMetricFamily | GaugeMetricFamily,
    labels: Labels,
    by: str,
    values: Mapping[str, float],
) -> None:
    fixed = list(labels.values())
    for value, number in values.items():
        family.add_metric([*fixed, value] if by else fixed, number)
