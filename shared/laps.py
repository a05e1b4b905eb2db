"""Laps: a stopwatch that tells how long each part of something took."""

from __future__ import annotations

import time
from collections.abc import Callable


class Laps:
    """`seconds` by part; the time up to `end` belongs to the part that ends."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self.seconds: dict[str, float] = {}

    def end(self, part: str) -> None:
        now = self._clock()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now
