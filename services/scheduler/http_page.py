"""The frontends' counts as metric families: of all that are here, and that ever were."""

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

from octavo.shared.http_counts import (
    FINE_SECONDS,
    PARSER_CALLS,
    SECONDS,
    Counts,
    RouteCounts,
    total,
)
from octavo.shared.messages import HttpCounts


class HttpPage:
    """Frontends say what they have counted since the scheduler of this epoch began; the last words
    of one that has ended are kept."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._latest: dict[bytes, Counts] = {}
        self._past = Counts()
        self._gone: set[bytes] = set()
        """Whose counts are in the past: a name is never used again."""

    def note(self, peer: bytes, message: HttpCounts) -> None:
        if message.epoch == self._epoch and peer not in self._gone:
            self._latest[peer] = message.counts

    def leave(self, peer: bytes) -> None:
        self._gone.add(peer)
        if (last := self._latest.pop(peer, None)) is not None:
            self._past = total([self._past, last])

    def families(self, model_name: str) -> Iterator[Metric]:
        every = total([self._past, *self._latest.values()])
        yield _requests(every.routes)
        yield _durations(every.routes)
        text = "Seconds until the answer was complete, of all requests."
        fine = HistogramMetricFamily("http_request_duration_highr_seconds", text)
        fine.add_metric([], _buckets(FINE_SECONDS, every.fine), every.seconds)
        yield fine
        for name, text in (("request", "Bytes of requests."), ("response", "Bytes of answers.")):
            yield _sizes(f"http_{name}_size_bytes", text, every.routes, name == "request")
        yield _parser_calls(every.calls, model_name)


def _requests(routes: list[RouteCounts]) -> Metric:
    family = CounterMetricFamily(
        "http_requests", "Requests answered.", labels=["handler", "method", "status"]
    )
    for route in routes:
        for status, number in sorted(route.statuses.items()):
            family.add_metric([route.handler, route.method, status], number)
    return family


def _parser_calls(calls: list[int], model_name: str) -> Metric:
    family = CounterMetricFamily(
        "vllm:tool_call_parser_invocations",
        "Questions to the parser of tool calls: of each choice, in streams of each delta.",
        labels=["model_name", "mode", "outcome", "request_type"],
    )
    for what, number in zip(PARSER_CALLS, calls, strict=True):
        family.add_metric([model_name, *what], number)
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
