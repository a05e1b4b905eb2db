"""Census: tells the scheduler which processes there are, for the live page."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import msgspec

from octavo.services.supervisor.children import ChildProcess
from octavo.services.supervisor.group import Group
from octavo.shared.process import ALIVE_INTERVAL, PROCESSES, ProcessState

SILENT = 5 * ALIVE_INTERVAL
"""Seconds after which a child's silence is worth showing; the hang timeout is longer."""


class Census:
    """`state`: of the server, in a word."""

    def __init__(self, group: Group, state: Callable[[], str]) -> None:
        self._group = group
        self._state = state
        self._started = time.monotonic()
        self._told = b""

    def tell(self) -> None:
        """Nothing, while nothing has changed."""
        line = PROCESSES + msgspec.json.encode(self._states())
        if line != self._told:
            self._told = line
            self._group.tell("scheduler", line)

    def _states(self) -> list[ProcessState]:
        ours = ProcessState("supervisor", os.getpid(), self._state(), 0, self._started)
        children = sorted(self._group.children, key=lambda child: child.name)
        return [ours, *(self._of(child) for child in children)]

    def _of(self, child: ChildProcess) -> ProcessState:
        silent = child.silence(time.monotonic()) > SILENT and not child.doomed
        return ProcessState(
            name=child.name,
            pid=child.process.pid,
            state="silent" if silent else child.state,
            restarts=self._group.starts[child.name] - 1,
            started=child.started,
        )
