"""RestartBudget: how many deaths are no accident any more.

Many are borne as long as the server serves between them: streams go on after each. What is not
borne: more than MAX_RESTARTS within WINDOW seconds, as many starts in a row of which none came to
serve, and a role that was away for more than half of the time of its last LONG_RUN deaths.

Deaths while a scheduler tries which request it was are of another kind: each narrows down who it
can have been. They do not count there; but when MAX_FRUITLESS follow one another and nobody has
been acquitted, it is none of the requests.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable

from octavo.shared.process import Trial

MAX_RESTARTS = 5
WINDOW = 60.0
"""Seconds."""
LONG_RUN = 10
LEAST_SHARE = 0.5
MAX_FRUITLESS = 8


class CrashLoop(Exception):
    """Restarts do not help."""


class RestartBudget:
    """Of one server. A group that dies as one is one death.

    `accused`: ids of the requests that are on trial.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._restarts: collections.deque[float] = collections.deque()
        self._failed: collections.Counter[str] = collections.Counter()
        """Starts in a row that came to nothing, by role."""
        self._lives: dict[str, collections.deque[tuple[float, float]]] = {}
        """(time of death, seconds ready since the one before), by role."""
        self._replaced: dict[str, float] = collections.defaultdict(float)
        """Seconds that others have been ready since then, who were replaced alive."""
        self._fruitless = 0
        self.accused: list[bytes] = []

    def note(self, trial: Trial) -> None:
        """A scheduler has said who runs on trial now."""
        self.accused = trial.accused
        if trial.num_acquitted:
            self._fruitless = 0

    def replaced(self, role: str, served: float) -> None:
        """A process that was ready for so long has given way to another, as it was asked to."""
        self._replaced[role] += served

    def spend(self, role: str, served: float | None) -> None:
        """A process has died, `served` seconds after it was ready; None: it never was.

        Raises CrashLoop. Whoever was on trial has had his; the scheduler says when there is
        another.
        """
        if role != "frontend" and self.accused:
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
        self._failed[role] = self._failed[role] + 1 if served is None else 0
        if self._failed[role] > MAX_RESTARTS:
            raise CrashLoop(f"{MAX_RESTARTS} restarts of the {role} failed in a row")
        self._check_share(role, now, (served or 0.0) + self._replaced.pop(role, 0.0))

    def _check_share(self, role: str, now: float, served: float) -> None:
        lives = self._lives.setdefault(role, collections.deque(maxlen=LONG_RUN + 1))
        lives.append((now, served))
        began, _ = lives[0]
        useful = sum(seconds for _, seconds in lives) - lives[0][1]
        if len(lives) > LONG_RUN and useful < LEAST_SHARE * (now - began):
            minutes = (now - began) / 60
            raise CrashLoop(f"the {role} was away for most of {minutes:.0f} minutes")
