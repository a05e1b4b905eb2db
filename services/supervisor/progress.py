"""Start-up progress: a bar per phase on a terminal, one log line per 5 s elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Collection
from typing import Any, TextIO

from tqdm import tqdm

from octavo.services.supervisor.children import ChildProcess
from octavo.shared.process import Status

log = logging.getLogger(__name__)
SECONDS_PER_LINE = 5.0
MEASURABLE = 0.5
"""Seconds before which a speed means nothing."""
UNITS = {"GB": 1e9, "MB": 1e6, "kB": 1e3, "B": 1.0}
STATES = {"weights": "loading", "graphs": "warming"}


class Progress:
    """Shows what rank 0 reports: the other ranks do the same work beside it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._bars: dict[str, Any] = {}
        self._started: dict[str, float] = {}
        self._begun = time.monotonic()
        self._last_line = 0.0
        self.state = "starting"
        """starting, loading or warming."""
        self.line = ""
        self._child: ChildProcess | None = None
        self._closed = False

    def __call__(self, child: ChildProcess, status: Status) -> None:
        if child.role == "worker" and child.index > 0:
            return
        if child is not self._child:  # its predecessor, if any, is dead
            self._child, self._last_line = child, 0.0
            self._started.clear()
        started = self._started.setdefault(status.phase, time.monotonic())
        self.state = STATES.get(status.phase, self.state)
        doing = STATES.get(status.phase, "loading")
        self.line = describe(status, time.monotonic() - started, doing)
        if self._draws:
            self._draw(status)
        if time.monotonic() - self._last_line >= SECONDS_PER_LINE:
            self._last_line = time.monotonic()
            self._write(self.line)

    def line_of(self, children: Collection[ChildProcess]) -> str:
        """The last line, if it is of one of these."""
        return self.line if self._child in children else ""

    def _draw(self, status: Status) -> None:
        bar = self._bars.get(status.phase)
        if bar is None:
            bar = self._bars[status.phase] = tqdm(
                desc=f"Loading {status.phase}",
                total=status.total or None,
                unit=status.unit or "it",
                unit_scale=status.unit == "B",
                file=self._stream,
            )
        bar.n = status.done
        bar.refresh()

    @property
    def _draws(self) -> bool:
        return self._stream.isatty() and not self._closed

    def _write(self, line: str) -> None:
        quick = time.monotonic() - self._begun < SECONDS_PER_LINE  # not worth a line
        if not (quick or self._draws):
            log.info("%s", line)

    def close(self) -> None:
        """The start is over; of later ones there are lines alone."""
        self._closed = True
        for bar in self._bars.values():
            bar.close()


def describe(status: Status, seconds: float, verb: str = "loading") -> str:
    """`loading weights 34 % (5.1 of 15.0 GB, 2.3 GB/s, 4 s left)`; speed once it can be told."""
    share = f" {100 * status.done / status.total:.0f} %" if status.total else ""
    counts = _bytes(status, seconds) if status.unit == "B" else _count(status)
    return f"{verb} {status.phase}{share} ({counts}{_left(status, seconds)})"


def _bytes(status: Status, seconds: float) -> str:
    unit, size = next((u, s) for u, s in UNITS.items() if s <= max(status.total, status.done, 1))
    whole = f" of {status.total / size:.1f}" if status.total else ""
    rate = f", {status.done / seconds / size:.1f} {unit}/s" if seconds >= MEASURABLE else ""
    return f"{status.done / size:.1f}{whole} {unit}{rate}"


def _count(status: Status) -> str:
    return f"{status.done} of {status.total} {status.unit}".rstrip()


def _left(status: Status, seconds: float) -> str:
    """At the speed so far; nothing where that is not known, or it is as good as done."""
    if not status.done or not status.total or seconds < MEASURABLE:
        return ""
    left = seconds * (status.total - status.done) / status.done
    return f", {left:.0f} s left" if left >= 1 else ""
