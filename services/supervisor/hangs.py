"""Hangs: a child that shows no progress for too long is killed; then it is started again.

Whoever is ready has --hang-timeout for it. Whoever starts has --start-timeout, for loading and
compiling may take long without a word; but its process has to run meanwhile.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable

from octavo.services.supervisor.children import ChildProcess
from octavo.services.supervisor.group import Group
from octavo.shared.config import ServerConfig

log = logging.getLogger(__name__)

LONGEST_TURN = 2.0
"""Seconds between two looks; what is more was a time in which nobody ran (docker pause)."""
KILL_PATIENCE = 10.0
"""Seconds in which a killed child has to be gone."""


class Hangs:
    def __init__(
        self, group: Group, server: ServerConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._group = group
        self._server = server
        self._clock = clock
        self._looked = clock()
        self._killed: dict[ChildProcess, float] = {}
        """When."""

    def kill(self) -> bool:
        """Kill whoever is overdue. True: one does not even die, and nothing here mends that."""
        now = self._clock()
        self._excuse(now - self._looked - LONGEST_TURN)
        self._looked = now
        here = self._group.children
        self._killed = {child: when for child, when in self._killed.items() if child in here}
        for child in here:
            if child not in self._killed and self._is_overdue(child, now):
                seconds = child.standstill(now)
                log.error("%s has made no progress for %.0f s: killing it", child.name, seconds)
                self._killed[child] = now
                child.signal(signal.SIGKILL)
        return any(now - when > KILL_PATIENCE for when in self._killed.values())

    def _is_overdue(self, child: ChildProcess, now: float) -> bool:
        return child.lateness(now, self._server.hang_timeout, self._server.start_timeout) > 1

    def _excuse(self, seconds: float) -> None:
        if seconds > 0:
            for child in self._group.children:
                child.excuse(seconds)
