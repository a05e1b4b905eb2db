"""From timings to figures: percentiles and goodput."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from octavo.services.client.load.streams import Timing

SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
MAX_ERRORS = 5


@dataclass(frozen=True)
class Slo:
    """What a request must keep to count for goodput, in milliseconds."""

    ttft_ms: float = math.inf
    tpot_ms: float = math.inf
    e2el_ms: float = math.inf

    def met(self, timing: Timing) -> bool:
        return (
            timing.ttft * 1e3 <= self.ttft_ms
            and timing.tpot * 1e3 <= self.tpot_ms
            and timing.seconds * 1e3 <= self.e2el_ms
        )


def percentile(values: Sequence[float], share: float) -> float:
    """Linear between the two nearest, as numpy does it; 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def summary(timings: Sequence[Timing], seconds: float, slo: Slo) -> dict[str, Any]:
    good = [timing for timing in timings if timing.error is None and timing.arrivals]
    output = sum(timing.output_tokens for timing in good)
    columns: dict[str, list[float]] = {
        "ttft_ms": [timing.ttft * 1e3 for timing in good],
        "tpot_ms": [timing.tpot * 1e3 for timing in good if timing.output_tokens > 1],
        "itl_ms": [gap * 1e3 for timing in good for gap in timing.gaps],
        "e2e_ms": [timing.seconds * 1e3 for timing in good],
    }
    return {
        "completed": len(good),
        "failed": len(timings) - len(good),
        "seconds": round(seconds, 3),
        "output_tokens": output,
        "output_tokens_per_s": round(output / seconds, 1),
        "requests_per_s": round(len(good) / seconds, 3),
        "goodput_per_s": round(sum(slo.met(timing) for timing in good) / seconds, 3),
        **{name: _column(values) for name, values in columns.items()},
        "errors": sorted({timing.error for timing in timings if timing.error})[:MAX_ERRORS],
    }


def _column(values: list[float]) -> dict[str, float]:
    mean = statistics.fmean(values) if values else 0.0
    shares = {name: percentile(values, share) for name, share in SHARES.items()}
    return {name: round(value, 3) for name, value in {"mean": mean, **shares}.items()}
