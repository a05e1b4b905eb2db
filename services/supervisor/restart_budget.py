"""RestartBudget: how many deaths are no accident any more.

MAX_RESTARTS within WINDOW seconds, by Erlang's rules. Deaths while a scheduler tries which request
it was are of another kind: each narrows down who it can have been. They do not count there; but
when MAX_FRUITLESS follow one another and nobody has been acquitted, it is none of the requests.
"""

from __future__ import annotations

import collections
from collections.abc import Callable

from octavo.shared.process import Trial

MAX_RESTARTS = 5
WINDOW = 60.0
"""Seconds."""
MAX_FRUITLESS = 8


class CrashLoop(Exception):
    """Restarts do not help."""


class RestartBudget:
    """`accused`: ids of the requests that are on trial."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._restarts: collections.deque[float] = collections.deque()
        self._fruitless = 0
        self.accused: list[bytes] = []

    def note(self, trial: Trial) -> None:
        """A scheduler has said who runs on trial now."""
        self.accused = trial.accused
        if trial.num_acquitted:
            self._fruitless = 0

    def spend(self, engine: bool) -> None:
        """A process has died, `engine`: the scheduler or a worker. Raises CrashLoop.

        Whoever was on trial has had his; the scheduler says when there is another.
        """
        if engine and self.accused:
            self.accused = []
            self._fruitless += 1
            if self._fruitless > MAX_FRUITLESS:
                raise CrashLoop(f"{MAX_FRUITLESS} restarts that tried requests did not help")
            return
        now = self._clock()
        self._restarts.append(now)
        while self._restarts[0] < now - WINDOW:
            self._restarts.popleft()
        if len(self._restarts) > MAX_RESTARTS:
            raise CrashLoop(f"{MAX_RESTARTS} restarts within {WINDOW:.0f} s did not help")
