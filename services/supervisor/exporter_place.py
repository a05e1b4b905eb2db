"""The exporter's place: whoever dies in it is followed by another, however often that happens.

It is a view of the server and no part of it: no stream needs it, so its deaths are never a crash
loop that ends them. So that one that dies at once does not keep a core busy with starts, they are
INTERVAL apart; the supervisor keeps the port open meanwhile, and who asks waits.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from octavo.services.supervisor.group import Group, Plan

INTERVAL = 5.0
"""Seconds between two starts."""


class ExporterPlace:
    """`listener`: bound to --metrics-port; None: there is none, and no exporter."""

    def __init__(
        self,
        group: Group,
        plan: Plan,
        listener: socket.socket | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group = group
        self._plan = plan
        self._listener = listener
        self._clock = clock
        self._begun = 0.0
        self._due: float | None = None
        """When the next one is started."""

    def start(self) -> None:
        if self._listener is not None:
            self._begun, self._due = self._clock(), None
            sockets = {"--listen-fd": self._listener.fileno()}
            self._group.start(self._plan.process("exporter", 0), sockets)

    def lost(self) -> None:
        """It is empty, and should not be."""
        self._due = self._begun + INTERVAL

    def fill(self) -> None:
        """Start another one, once that is due."""
        if self._due is not None and self._clock() >= self._due:
            self.start()

    def close(self) -> None:
        """Nobody is started any more; with the last exporter the port closes."""
        if self._listener is not None:
            self._listener.close()
        self._due = self._listener = None
