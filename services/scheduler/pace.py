"""Pace: how late the next plan may go out while a step runs.

A plan sent at once would wait behind the step that runs, and whoever comes meanwhile would be in
neither: two steps to wait for. So it goes out shortly before that step's end, which is foreseen
from how long steps of as many rows have taken. A step with prompts in it takes longer than that,
never less.
"""

from __future__ import annotations

from octavo.services.scheduler.step import Flight

LEAD = 0.003
"""Seconds that a plan needs to reach the device, with room to spare."""
WEIGHT = 0.05
"""Of the newest step where it took longer; a shorter one counts whole: late is worse than early."""


class Pace:
    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        """By the bit length of the number of rows."""

    def observe(self, flight: Flight, seconds: float) -> None:
        """The device has worked on it for so long."""
        if flight.prompts:
            return
        size = len(flight.slots).bit_length()
        usual = self._seconds.get(size, seconds)
        self._seconds[size] = min(seconds, usual + WEIGHT * (seconds - usual))

    def hold(self, flight: Flight) -> float:
        """Seconds from the step's beginning for which the next plan may wait."""
        return self._seconds.get(len(flight.slots).bit_length(), 0.0) - LEAD
