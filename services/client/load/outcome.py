"""One run's outcome in the terms of `vllm bench serve`: its names, its units, its table."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from octavo.services.client.load.figures import Slo, percentile
from octavo.services.client.load.streams import Timing

METRICS = {
    "ttft": ("TTFT", "Time to First Token"),
    "tpot": ("TPOT", "Time per Output Token (excl. 1st token)"),
    "itl": ("ITL", "Inter-token Latency"),
    "e2el": ("E2EL", "End-to-end Latency"),
}
WIDTH, LABEL = 50, 40
MAX_ERRORS = 3


@dataclass(frozen=True)
class Run:
    """`goodput`: whether an Slo was given, for it is shown only then."""

    timings: Sequence[Timing]
    seconds: float
    slo: Slo
    goodput: bool
    percentiles: Sequence[float]
    rate: float
    concurrency: int | None

    @property
    def good(self) -> list[Timing]:
        return [timing for timing in self.timings if timing.error is None and timing.arrivals]

    @property
    def errors(self) -> list[str]:
        """The most frequent ones, shortened."""
        counts = Counter(timing.error or "no token came" for timing in self._failed)
        return [f"{count} x {text[:300]}" for text, count in counts.most_common(MAX_ERRORS)]

    @property
    def _failed(self) -> list[Timing]:
        good = {id(timing) for timing in self.good}
        return [timing for timing in self.timings if id(timing) not in good]

    def figures(self) -> dict[str, Any]:
        """As vLLM's result file names them."""
        good, seconds = self.good, max(self.seconds, 1e-9)
        into, out = sum(t.input_tokens for t in good), sum(t.output_tokens for t in good)
        met = sum(self.slo.met(timing) for timing in good) / seconds
        found = {
            "duration": seconds,
            "completed": len(good),
            "failed": len(self.timings) - len(good),
            "total_input_tokens": into,
            "total_output_tokens": out,
            "request_throughput": len(good) / seconds,
            "request_goodput": met if self.goodput else None,
            "output_throughput": out / seconds,
            "total_token_throughput": (into + out) / seconds,
            "max_output_tokens_per_s": float(peak_tokens(good)),
            "max_concurrent_requests": peak_concurrency(good),
        }
        for name, values in samples(good).items():
            found |= self._column(name, values)
        return found

    def _column(self, name: str, values: list[float]) -> dict[str, float]:
        """In milliseconds."""
        shares = {f"p{share:g}": percentile(values, share / 100) for share in self.percentiles}
        named = {
            "mean": statistics.fmean(values) if values else 0.0,
            "median": percentile(values, 0.5),
            "std": statistics.pstdev(values) if values else 0.0,
            **shares,
        }
        return {f"{kind}_{name}_ms": value for kind, value in named.items()}


def samples(good: Sequence[Timing]) -> dict[str, list[float]]:
    return {
        "ttft": [timing.ttft * 1e3 for timing in good],
        "tpot": [timing.tpot * 1e3 for timing in good if timing.output_tokens > 1],
        "itl": [gap * 1e3 for timing in good for gap in timing.gaps],
        "e2el": [timing.seconds * 1e3 for timing in good],
    }


def peak_tokens(good: Sequence[Timing]) -> int:
    """The most events that came within one of the run's seconds."""
    began = min((timing.sent for timing in good), default=0.0)
    seconds = Counter(int(at - began) for timing in good for at in timing.arrivals)
    return max(seconds.values(), default=0)


def peak_concurrency(good: Sequence[Timing]) -> int:
    changes = [(timing.sent, 1) for timing in good]
    changes += [(timing.arrivals[-1], -1) for timing in good]
    return max(itertools.accumulate(change for _, change in sorted(changes)), default=0)


def table(run: Run, metrics: Sequence[str]) -> Iterator[str]:
    found = run.figures()
    yield f"{' Serving Benchmark Result ':=^{WIDTH}}"
    yield _row("Successful requests:", found["completed"])
    yield _row("Failed requests:", found["failed"])
    if run.concurrency is not None:
        yield _row("Maximum request concurrency:", run.concurrency)
    if not math.isinf(run.rate):
        yield _row("Request rate configured (RPS):", float(run.rate))
    yield from _totals(found)
    for name in metrics:
        yield from _latency(name, found, run.percentiles)
    yield "=" * WIDTH


def _totals(found: dict[str, Any]) -> Iterator[str]:
    yield _row("Benchmark duration (s):", found["duration"])
    yield _row("Total input tokens:", found["total_input_tokens"])
    yield _row("Total generated tokens:", found["total_output_tokens"])
    yield _row("Request throughput (req/s):", found["request_throughput"])
    if found["request_goodput"] is not None:
        yield _row("Request goodput (req/s):", found["request_goodput"])
    yield _row("Output token throughput (tok/s):", found["output_throughput"])
    yield _row("Peak output token throughput (tok/s):", found["max_output_tokens_per_s"])
    yield _row("Peak concurrent requests:", float(found["max_concurrent_requests"]))
    yield _row("Total token throughput (tok/s):", found["total_token_throughput"])


def _latency(name: str, found: dict[str, Any], percentiles: Sequence[float]) -> Iterator[str]:
    short, title = METRICS[name]
    yield f"{title:-^{WIDTH}}"
    kinds = {"Mean": "mean", "Median": "median"}
    kinds |= {f"P{share:g}": f"p{share:g}" for share in percentiles}
    for label, kind in kinds.items():
        yield _row(f"{label} {short} (ms):", float(found[f"{kind}_{name}_ms"]))


def _row(label: str, value: float) -> str:
    shown = f"{value:.2f}" if isinstance(value, float) else str(value)
    return f"{label:<{LABEL}} {shown:<10}"
