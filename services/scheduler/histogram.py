"""Histogram: a Prometheus histogram that takes whole arrays at once."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

import numpy as np
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString


def one_two_five(limit: int) -> list[float]:
    """1, 2, 5, 10, 20, 50 ... up to `limit`."""
    bounds: list[float] = []
    decade = 1
    while True:
        for mantissa in (1, 2, 5):
            if mantissa * decade > limit:
                return bounds or [1.0]
            bounds.append(float(mantissa * decade))
        decade *= 10


class Histogram:
    """Counts per bucket, `bounds` being their inclusive upper ends."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = np.asarray(bounds, np.float64)
        self._bound_list = list(bounds)
        self._names = [*map(floatToGoString, bounds), "+Inf"]
        self._counts = np.zeros(len(self._names), np.int64)
        self._sum = 0.0

    @property
    def count(self) -> int:
        return int(self._counts.sum())

    @property
    def sum(self) -> float:
        return self._sum

    def observe(self, value: float) -> None:
        self._counts[bisect.bisect_left(self._bound_list, value)] += 1
        self._sum += value

    def observe_many(self, values: Any) -> None:
        """values: float array of any length."""
        if not len(values):
            return
        self._sum += float(values.sum())
        # Tokens of one step mostly fall into one bucket, which two comparisons tell.
        first = bisect.bisect_left(self._bound_list, values.min())
        if first == bisect.bisect_left(self._bound_list, values.max()):
            self._counts[first] += len(values)
            return
        buckets = self._bounds.searchsorted(values)
        self._counts += np.bincount(buckets, minlength=len(self._counts))

    def family(self, name: str, labels: dict[str, str], help_text: str) -> HistogramMetricFamily:
        family = HistogramMetricFamily(name, help_text, labels=list(labels))
        cumulated = np.cumsum(self._counts).tolist()
        buckets = list(zip(self._names, map(float, cumulated), strict=True))
        family.add_metric(list(labels.values()), buckets=buckets, sum_value=self._sum)
        return family
