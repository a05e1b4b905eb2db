"""Departures: how fast requests end, and so when one that is refused may come again."""

from __future__ import annotations

import collections
import math

WINDOW = 10.0
"""Seconds that are looked back on."""
SHORTEST, LONGEST = 1, 60
"""Whole seconds that a client is asked to wait."""


class Departures:
    """Counted while somebody waits: how fast requests end where few come says nothing."""

    def __init__(self) -> None:
        self._times: collections.deque[float] = collections.deque()
        self._since = self._last = 0.0

    def begin(self, now: float) -> None:
        """From here on somebody waits."""
        self._times.clear()
        self._since = self._last = now

    def note(self, now: float) -> None:
        """A request has ended."""
        self._times.append(now)
        self._last = now
        self._forget(now)

    def wait(self, ahead: int, now: float) -> int:
        """Seconds until so many have ended. Where none has of late: as long again as it has been
        since the last."""
        self._forget(now)
        window = min(now - self._since, WINDOW)
        ends = len(self._times)
        seconds = ahead * window / ends if ends else now - self._last
        return max(SHORTEST, min(math.ceil(seconds), LONGEST))

    def _forget(self, now: float) -> None:
        while self._times and self._times[0] <= now - WINDOW:
            self._times.popleft()
