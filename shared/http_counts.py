"""What a frontend counts, and how the counts of several become one page.

The names and buckets are those of prometheus-fastapi-instrumentator, which vLLM's dashboards read.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Sequence

import msgspec

SECONDS = (0.1, 0.5, 1.0)
FINE = (0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10)
FINE_SECONDS = (*FINE, 30, 60)
PARSER_CALLS = tuple(
    itertools.product(
        ("streaming", "non_streaming"),
        ("tool_call", "no_tool_call"),
        ("chat_completions", "responses", "other"),
    )
)
"""(mode, outcome, request type): what a parser of tool calls was asked, and what it found."""


class RouteCounts(msgspec.Struct, array_like=True):
    """Of one handler and method. `buckets` int[4]: by seconds, not cumulated."""

    handler: str
    method: str
    statuses: dict[str, int] = {}
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    seconds: float = 0.0
    received: int = 0
    """Bytes of request bodies, as announced."""
    sent: int = 0
    """Bytes of answers' bodies."""

    @property
    def number(self) -> int:
        return sum(self.buckets)

    def note(self, status: int, seconds: float, received: int, sent: int) -> None:
        group = f"{status // 100}xx"
        self.statuses[group] = self.statuses.get(group, 0) + 1
        self.buckets[bisect.bisect_left(SECONDS, seconds)] += 1
        self.seconds += seconds
        self.received += received
        self.sent += sent

    def add(self, other: RouteCounts) -> None:
        for group, number in other.statuses.items():
            self.statuses[group] = self.statuses.get(group, 0) + number
        self.buckets = [one + two for one, two in zip(self.buckets, other.buckets, strict=True)]
        self.seconds += other.seconds
        self.received += other.received
        self.sent += other.sent


class Counts(msgspec.Struct, array_like=True):
    """`fine` int[22]: requests of all routes, by FINE_SECONDS, and their `seconds`."""

    routes: list[RouteCounts] = []
    fine: list[int] = msgspec.field(default_factory=lambda: [0] * (len(FINE_SECONDS) + 1))
    seconds: float = 0.0
    calls: list[int] = msgspec.field(default_factory=lambda: [0] * len(PARSER_CALLS))
    """Of the parsers of tool calls, by PARSER_CALLS."""


def total(counts: Sequence[Counts]) -> Counts:
    return Counts(
        routes=summed(route for one in counts for route in one.routes),
        fine=[sum(column) for column in zip(*(one.fine for one in counts), strict=True)],
        seconds=sum(one.seconds for one in counts),
        calls=[sum(column) for column in zip(*(one.calls for one in counts), strict=True)],
    )


def summed(counts: Iterable[RouteCounts]) -> list[RouteCounts]:
    """One for each handler and method, sorted."""
    found: dict[tuple[str, str], RouteCounts] = {}
    for one in counts:
        known = found.setdefault((one.handler, one.method), RouteCounts(one.handler, one.method))
        known.add(one)
    return [found[name] for name in sorted(found)]
