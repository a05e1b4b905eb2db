"""How fast this machine is now, which others outside of it may slow down several times."""

from __future__ import annotations

import statistics
import time

LOOP_SECONDS = 0.0125
"""What `_loop` takes at most on a machine that figures of time are meant for."""


def slowness() -> float:
    """How many times slower it is than such a machine; at least 1. A hiccup does not count."""
    return max(1.0, statistics.median(_loop() for _ in range(10)) / LOOP_SECONDS)


def _loop() -> float:
    """Seconds that Python takes for some arithmetic."""
    began = time.perf_counter()
    for _ in range(300_000):
        began += 0.0
    return time.perf_counter() - began
