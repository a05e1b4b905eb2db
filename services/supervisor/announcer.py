"""Announcer: tells the service manager how the server is when that changes, and who answers clients
all the time: that they hear of it is their supervisor's sign of life."""

from __future__ import annotations

import time
from collections.abc import Callable

from octavo.services.supervisor.census import SILENT
from octavo.services.supervisor.children import ChildProcess
from octavo.services.supervisor.group import HTTP, Group, told
from octavo.services.supervisor.progress import Progress
from octavo.services.supervisor.systemd import Notifier
from octavo.shared.process import DRAINING, Condition

INTERVAL = 1.0
"""Seconds between two words on the same state."""


class Announcer:
    """`ready_line` is what STATUS says of a server that is ready; it is set when all were.
    `draining`: whether it is to end.
    """

    def __init__(
        self,
        group: Group,
        progress: Progress,
        notifier: Notifier,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group = group
        self._progress = progress
        self._notifier = notifier
        self._clock = clock
        self._status = Condition("")
        self._due: dict[str, float] = {}
        self._told: dict[ChildProcess, str] = {}
        self.ready_line = ""
        self.draining = False

    @property
    def state(self) -> str:
        """starting, loading, warming; then ready or degraded."""
        if not self.ready_line:
            return self._progress.state
        return "degraded" if self._group.missing() or not self._group.engine_ready else "ready"

    def ready(self, line: str) -> None:
        """For the first time."""
        self.ready_line = line
        self._status = Condition("ready", line)
        self._notifier.ready(line)

    def tell_manager(self) -> None:
        """Of another state at once, of its progress now and then."""
        status = Condition(self.state, self._in_words())
        if status.state != self._status.state or (
            status != self._status and self._is_due("manager")
        ):
            self._status = status
            self._notifier.status(status.progress)

    def _in_words(self) -> str:
        state, missing = self.state, self._group.missing()
        if state == "ready":
            return self.ready_line
        if state != "degraded":
            return self._progress.line or state
        names = ", ".join(child.name for child in missing)
        return f"degraded: {names or 'workers'} {self._progress.line_of(missing) or 'starting'}"

    def tell_children(self) -> None:
        """Those who answer clients: of another state at once, and every second or two anyhow, for
        it is our sign of life too."""
        news = {child: self._for(child) for role in HTTP for child in self._group.of(role)}
        due = self._is_due("children")
        for child, condition in news.items():
            if due or self._told.get(child) != condition.state:
                child.tell(told(condition))
        self._told = {child: condition.state for child, condition in news.items()}

    def _for(self, child: ChildProcess) -> Condition:
        """What it answers for: a frontend for scheduler and workers, also while it drains; the
        exporter for the whole server, of which frontends are a part."""
        if child.role == "frontend":
            return self._condition(self._group.engine_ready)
        if self.draining:
            return Condition(DRAINING)
        return self._condition(self._group.engine_ready and self._is_answering())

    def _is_answering(self) -> bool:
        """Whether clients find a frontend."""
        now = self._clock()
        frontends = self._group.of("frontend")
        return any(one.serves and one.silence(now) <= SILENT for one in frontends)

    def _is_due(self, whom: str) -> bool:
        """Whether another word on the same state is; then the next one is not for a while."""
        now = self._clock()
        if now < self._due.get(whom, 0.0):
            return False
        self._due[whom] = now + INTERVAL
        return True

    def _condition(self, serves: bool) -> Condition:
        if serves:
            return Condition("ready")
        if not self.ready_line:
            return Condition(self._progress.state, self._progress.line)
        return Condition("degraded", self._progress.line_of(self._group.missing()))
