"""Live: the text that feeds the live page, made at most twice a second whoever asks."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from octavo.services.scheduler.scheduler import Scheduler
from octavo.shared.process import ProcessState
from octavo.shared.version import VERSION

MAX_AGE = 0.4
"""Seconds for which a snapshot is as good as new: frontends ask twice a second, each on its own."""


class Live:
    """`clock`: CLOCK_MONOTONIC seconds."""

    def __init__(self, scheduler: Scheduler, clock: Callable[[], float]) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._processes: list[ProcessState] = []
        self._text = b""
        self._made = float("-inf")

    def note(self, processes: list[ProcessState]) -> None:
        """News of the supervisor."""
        self._processes = processes

    def text(self) -> bytes:
        """JSON."""
        now = self._clock()
        if now - self._made >= MAX_AGE:
            facts = {"version": VERSION, "model": self._scheduler.model_name}
            shown = {**self._scheduler.snapshot(), **facts, "processes": self._rows(now)}
            self._text, self._made = msgspec.json.encode(shown), now
        return self._text

    def _rows(self, now: float) -> list[dict[str, Any]]:
        return [
            {
                "name": one.name,
                "pid": one.pid,
                "state": one.state,
                "restarts": one.restarts,
                "seconds": now - one.started,
                "bytes": resident_bytes(one.pid),
            }
            for one in self._processes
        ]


def resident_bytes(pid: int) -> int:
    """Memory of a process; 0: it is gone, or nobody says."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * mmap.PAGESIZE
    return 0
