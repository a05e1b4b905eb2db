"""From timings to figures: percentiles, goodput, and a picture of latency against load."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load.client import Timing

COLUMNS = ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
MAX_ERRORS = 5


@dataclass(frozen=True)
class Slo:
    """What a request must keep to count for goodput, in milliseconds."""

    ttft_ms: float = math.inf
    tpot_ms: float = math.inf

    def met(self, timing: Timing) -> bool:
        return timing.ttft * 1e3 <= self.ttft_ms and timing.tpot * 1e3 <= self.tpot_ms


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


def table(reports: Sequence[dict[str, Any]]) -> str:
    """One line a run: rate, throughput, goodput, latencies as p50 / p90 / p99."""
    lines = [f"{'rate':>6}{'failed':>7}{'tok/s':>9}{'req/s':>8}{'good/s':>8}"]
    lines[0] += "".join(f"{name[:-3] + ' p50/90/99 ms':>26}" for name in COLUMNS)
    for report in reports:
        line = f"{report['rate']:>6}{report['failed']:>7}{report['output_tokens_per_s']:>9.0f}"
        line += f"{report['requests_per_s']:>8.2f}{report['goodput_per_s']:>8.2f}"
        for name in COLUMNS:
            values = (f"{report[name][share]:.1f}" for share in SHARES)
            line += f"{' / '.join(values):>26}"
        lines.append(line)
    return "\n".join(lines)


def load_pyplot() -> Any:
    """matplotlib without a window. Raises SystemExit where it is absent."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install matplotlib") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def plot(reports: Sequence[dict[str, Any]], path: Path) -> None:
    """Latency against the requests that were served a second."""
    pyplot = load_pyplot()
    ordered = sorted(reports, key=lambda report: float(report["requests_per_s"]))
    load = [report["requests_per_s"] for report in ordered]
    figure, axes = pyplot.subplots(1, len(COLUMNS), figsize=(4 * len(COLUMNS), 3.5))
    for axis, name in zip(axes, COLUMNS, strict=True):
        for share in SHARES:
            axis.plot(load, [report[name][share] for report in ordered], marker="o", label=share)
        axis.set(title=name[:-3].upper(), xlabel="requests/s", ylabel="ms", ylim=0)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path)
