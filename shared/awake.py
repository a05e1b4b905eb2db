"""AwakeClock: seconds in which a loop has turned.

Who measures the silence of others must not count a time in which it did not run itself: the others
may not have run either (docker pause), or have spoken to one who did not listen.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class AwakeClock:
    """To be called more often than every `longest` seconds: it counts no more between two calls."""

    def __init__(self, longest: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest = longest
        self._clock = clock
        self._last = clock()
        self._awake = 0.0

    def __call__(self) -> float:
        now = self._clock()
        self._awake += min(now - self._last, self._longest)
        self._last = now
        return self._awake
