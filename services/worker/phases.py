"""What a start spends its seconds on: one line for the log."""

from __future__ import annotations

import time
from collections.abc import Callable


class Phases:
    """Begins with the first phase; each `end` begins the next, and is a sign of progress."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._progress = progress
        self._begun = self._last = clock()
        self._parts: list[str] = []
        self.seconds: dict[str, float] = {}
        """By phase."""

    def end(self, name: str, detail: str = "") -> None:
        self._progress()
        seconds = self._clock() - self._last
        self._last += seconds
        self.seconds[name] = seconds
        self._parts.append(f"{name} {seconds:.1f}{detail and f' ({detail})'}")

    def __str__(self) -> str:
        """`started in 7.9 s: imports 2.1, weights 3.0 (5.4 GB/s), graphs 1.4`"""
        return f"started in {self._last - self._begun:.1f} s: {', '.join(self._parts)}"
