"""What vLLM has no name for, under `octavo:`: where time goes, what was survived, who had what.

Counted as vLLM's are (`metrics`).
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import Metric

from octavo.services.scheduler.families import counter_by, gauge_by
from octavo.services.scheduler.histogram import Histogram

SHORT = (0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1)
STEP_BUCKETS = (*SHORT, 0.2, 0.5, 1.0, 2.5)
PROCESSES = ("frontend", "exporter", "scheduler", "worker")
PARTS = ("device", *("prepare", "forward", "sample"), *("receive", "update", "plan", "reply"))
"""The worker's own and the scheduler's, as each has named them."""
ERRORS = (
    *("constraint_error", "deadline_exceeded", "internal_error", "numerical_error"),
    *("out_of_memory", "overloaded", "rate_limited", "request_quarantined", "too_long"),
)

COUNTERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "steps": ("Steps, by what was in them.", "kind", ("decode", "prefill", "mixed")),
    "graph_steps": ("Steps that ran as a captured CUDA graph, or not.", "graph", ("yes", "no")),
    "engine_seconds": (
        "Seconds of steps: of the device, the worker's thread, the scheduler's thread.",
        "part",
        PARTS,
    ),
    "request_errors": ("Requests ended by an error, by its code.", "code", ERRORS),
    "process_restarts": ("Processes that died and were started again.", "process", PROCESSES),
    "replayed_requests": (
        "Requests computed again from their ids, by why.",
        "cause",
        ("workers", "step"),
    ),
    "displaced_requests": (
        "Requests that waited, and were refused to make room for a tenant with less.",
        "",
        ("",),
    ),
    "failed_steps": ("Steps that could not be computed and were tried again.", "", ("",)),
    "malformed_frames": (
        "Messages between processes that were none, and were dropped, by the scheduler's socket.",
        "socket",
        ("frontends", "workers"),
    ),
    "compilations": ("Kernels compiled while serving: somebody waited.", "", ("",)),
}
"""name -> (help, label, its values from the start)."""


class OwnMetrics:
    """`add` counts; `families` are what Prometheus is told."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = dict(labels)
        self._counts: dict[str, collections.Counter[str]] = {
            name: collections.Counter(dict.fromkeys(values, 0))
            for name, (_, _, values) in COUNTERS.items()
        }
        self._step_seconds = Histogram(STEP_BUCKETS)
        self.start_seconds: dict[str, float] = {}
        """Of the workers, by phase."""

    def add(self, name: str, value: str = "", amount: float = 1) -> None:
        self._counts[name][value] += amount  # type: ignore[assignment]

    def set_to(self, name: str, values: Mapping[str, int]) -> None:
        """Counted elsewhere."""
        self._counts[name].update(
            {value: number - self._counts[name][value] for value, number in values.items()}
        )

    def counts(self, name: str) -> dict[str, int]:
        return dict(self._counts[name])

    def on_step(self, seconds: float, prompts: int, decodes: int, graph: bool) -> None:
        """`seconds`: of the workers; so many tokens of prompts and of other rows."""
        kind = "decode" if not prompts else "mixed" if decodes else "prefill"
        self.add("steps", kind)
        self.add("graph_steps", "yes" if graph else "no")
        self.add("engine_seconds", "device", seconds)
        self._step_seconds.observe(seconds)

    def spend(self, seconds: Mapping[str, float]) -> None:
        """By part; the parts of a process do not overlap."""
        for part, spent in seconds.items():
            self.add("engine_seconds", part, spent)

    def families(self, blocks: Mapping[str, float]) -> Iterator[Metric]:
        for name, (text, label, _) in COUNTERS.items():
            counts = self._counts[name]
            yield counter_by(f"octavo:{name}", text, self._labels, label, counts)
        yield self._step_seconds.family(
            "octavo:step_duration_seconds", self._labels, "Seconds of a step in the workers."
        )
        text = "KV blocks; of used and free ones, those findable are cached."
        yield gauge_by("octavo:kv_blocks", text, self._labels, "state", blocks)
        text = "Seconds of the workers' start."
        yield gauge_by("octavo:start_seconds", text, self._labels, "phase", self.start_seconds)
