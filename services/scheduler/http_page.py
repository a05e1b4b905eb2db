"""The frontends' counts of HTTP as metric families: of all that are here, and that ever were."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from prometheus_client.core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from octavo.shared.http_counts import FINE_SECONDS, SECONDS, RouteCounts, summed
from octavo.shared.messages import HttpCounts


class HttpPage:
    """Frontends say what they have counted since they started; what the last words of one that
    has ended were is kept."""

    def __init__(self) -> None:
        self._latest: dict[bytes, HttpCounts] = {}
        self._gone = HttpCounts([], [0] * (len(FINE_SECONDS) + 1), 0.0)

    def note(self, peer: bytes, counts: HttpCounts) -> None:
        self._latest[peer] = counts

    def leave(self, peer: bytes) -> None:
        if (last := self._latest.pop(peer, None)) is not None:
            self._gone = _sum([self._gone, last])

    def families(self) -> Iterator[Metric]:
        total = _sum([self._gone, *self._latest.values()])
        yield _requests(total.routes)
        yield _durations(total.routes)
        text = "Seconds until the answer was complete, of all requests."
        fine = HistogramMetricFamily("http_request_duration_highr_seconds", text)
        fine.add_metric([], _buckets(FINE_SECONDS, total.fine), total.seconds)
        yield fine
        for name, text in (("request", "Bytes of requests."), ("response", "Bytes of answers.")):
            yield _sizes(f"http_{name}_size_bytes", text, total.routes, name == "request")


def _sum(counts: list[HttpCounts]) -> HttpCounts:
    routes = summed(route for one in counts for route in one.routes)
    fine = np.sum([one.fine for one in counts], axis=0).tolist()
    return HttpCounts(routes, fine, sum(one.seconds for one in counts))


def _requests(routes: list[RouteCounts]) -> Metric:
    family = CounterMetricFamily(
        "http_requests", "Requests answered.", labels=["handler", "method", "status"]
    )
    for route in routes:
        for status, number in sorted(route.statuses.items()):
            family.add_metric([route.handler, route.method, status], number)
    return family


def _durations(routes: list[RouteCounts]) -> Metric:
    family = HistogramMetricFamily(
        "http_request_duration_seconds",
        "Seconds until the answer was complete.",
        labels=["handler", "method"],
    )
    for route in routes:
        buckets = _buckets(SECONDS, route.buckets)
        family.add_metric([route.handler, route.method], buckets, route.seconds)
    return family


def _sizes(name: str, text: str, routes: list[RouteCounts], received: bool) -> Metric:
    family = SummaryMetricFamily(name, text, labels=["handler"])
    numbers: dict[str, tuple[int, int]] = {}
    for route in routes:
        number, size = numbers.get(route.handler, (0, 0))
        size += route.received if received else route.sent
        numbers[route.handler] = (number + route.number, size)
    for handler, (number, size) in numbers.items():
        family.add_metric([handler], number, size)
    return family


def _buckets(bounds: tuple[float, ...], counts: list[int]) -> list[tuple[str, float]]:
    names = [*map(floatToGoString, bounds), "+Inf"]
    return list(zip(names, np.cumsum(counts).astype(float).tolist(), strict=True))
