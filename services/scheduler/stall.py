"""Stall: whether the step that runs takes longer than it can.

What it should take is foreseen from the longest of the steps of its size lately. Where none was,
a smaller one's time is multiplied, so that the first large prompt after short ones is no stall.
"""

from __future__ import annotations

from collections.abc import Callable

from octavo.services.scheduler.step import Flight
from octavo.shared.awake import AwakeClock

FACTOR = 5.0
"""So much longer than foreseen is no accident of a busy machine."""
FLOOR = 1.25
"""Seconds that every step may take."""
KEEPS = 0.99
"""Of the longest time, with each step that was shorter."""


class Durations:
    """Of steps, by the bit length of their number of tokens."""

    def __init__(self) -> None:
        self._longest: dict[int, float] = {}

    def observe(self, flight: Flight, seconds: float) -> None:
        size = _size(flight)
        self._longest[size] = max(seconds, KEEPS * self._longest.get(size, 0.0))

    def expected(self, flight: Flight) -> float | None:
        """Seconds; None: no step has ended yet."""
        size = _size(flight)
        smaller = max((seen for seen in self._longest if seen <= size), default=None)
        if smaller is not None:
            return self._longest[smaller] * float(1 << (size - smaller))
        return max(self._longest.values(), default=None)


def _size(flight: Flight) -> int:
    return (flight.prompts + flight.decodes).bit_length()


class Stall:
    """Looks at the oldest plan on its way, whose step runs."""

    def __init__(self, hang_timeout: float, clock: Callable[[], float]) -> None:
        self._hang_timeout = hang_timeout
        self._clock = AwakeClock(clock=clock)
        self._step: int | None = None
        self._since = 0.0
        self.left: float | None = None
        """Seconds until it is overdue; None: no step runs."""
        self.stuck = False
        """It runs for so long that workers would be dead by now, were it theirs."""

    @property
    def stalled(self) -> bool:
        return self.left is not None and self.left <= 0

    def look(self, flight: Flight | None, durations: Durations) -> None:
        now = self._clock()
        step = None if flight is None else flight.step
        if step != self._step:
            self._step, self._since = step, now
        age = now - self._since
        self.stuck = flight is not None and age > self._hang_timeout
        self.left = None if flight is None else self._limit(durations.expected(flight)) - age

    def _limit(self, expected: float | None) -> float:
        most = self._hang_timeout / 2
        return most if expected is None else min(max(FLOOR, FACTOR * expected), most)
