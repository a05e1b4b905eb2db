"""Recovery: a child that dies or hangs is started again.

A frontend alone; the workers as one group; a scheduler without its workers, who keep their weights.
Where that does not help (`restart_budget`) the server gives up.
"""

from __future__ import annotations

import collections
import logging
import signal
import time
from collections.abc import Callable, Iterable, Mapping

import msgspec

from octavo.services.supervisor.children import ChildProcess
from octavo.services.supervisor.group import Event, Group, Plan
from octavo.services.supervisor.restart_budget import RestartBudget
from octavo.shared.process import GO, LOST_FRONTEND, LOST_WORKERS, RESTARTS, RETIRE, Status

log = logging.getLogger(__name__)


class Recovery:
    """`sockets`: what frontends inherit, as in `Spawner.spawn`."""

    def __init__(
        self,
        group: Group,
        plan: Plan,
        sockets: Mapping[str, int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group = group
        self._plan = plan
        self._sockets = sockets
        self._clock = clock
        self._budget = RestartBudget(clock)
        self.restarts: collections.Counter[str] = collections.Counter()
        """By role."""
        self.num_restarts = 0
        """Processes that died and were started again."""

    @property
    def complete(self) -> bool:
        """Whether every child is there, and ready."""
        return not self._group.starting()

    def handle(self, events: Iterable[Event]) -> None:
        """Raises CrashLoop. What has been said comes before deaths: it may be about them."""
        for event in sorted(events, key=lambda event: event.status is None):
            if event.status is None:
                self._died(event.child, event.ended)
            else:
                self._said(event.child, event.status)

    def _said(self, child: ChildProcess, status: Status) -> None:
        if status.state == "ready":
            child.info = status.info
            child.tell(GO)
            if child.role == "scheduler" and self.restarts:
                self._tell_restarts()
            seconds = self._clock() - child.started
            log.info("%s is ready after %.1f s", child.name, seconds)
            if child.role == "frontend":
                self._retire_others(child)
        elif status.trial is not None:
            self._budget.note(status.trial)
        elif status.state == "failed":
            last = status.message.strip().splitlines()[-1:]
            log.error("%s failed: %s", child.name, "".join(last))

    def restart_frontends(self) -> None:
        """One after another they give way to a new one; the port stays open, no request is lost."""
        for child in self._group.of("frontend"):
            if not child.doomed:
                self._start_frontend(child.index)

    def restart_workers(self) -> None:
        """Streams pause until new ones are there."""
        for rank in self._group.of("worker"):
            rank.doomed = True
            rank.signal(signal.SIGKILL)

    def _start_frontend(self, index: int) -> None:
        self._group.start(self._plan.process("frontend", index), self._sockets)

    def _retire_others(self, child: ChildProcess) -> None:
        """Those whose place it takes."""
        for other in self._group.of("frontend"):
            if other.index == child.index and other is not child and not other.doomed:
                other.doomed = True
                other.signal(RETIRE)

    def _died(self, child: ChildProcess, how: str) -> None:
        accused = self._budget.accused
        if not child.doomed:
            log.error("%s %s; starting it again", child.name, how)
            self.restarts[child.role] += 1
            self.num_restarts += 1
            self._budget.spend(engine=child.role != "frontend")
            self._tell_restarts()
        match child.role:
            case "frontend":
                self._group.tell("scheduler", LOST_FRONTEND + child.config.peer.encode())
                if not child.doomed:
                    self._start_frontend(child.index)
            case "scheduler":
                config = self._plan.process("scheduler", 0, restarts=self.restarts, accused=accused)
                self._group.start(config)
            case "worker":
                self._end_workers()

    def _tell_restarts(self) -> None:
        self._group.tell("scheduler", RESTARTS + msgspec.json.encode(self.restarts))

    def _end_workers(self) -> None:
        """The others are of no use. The next group starts when all have let go of the devices."""
        self._group.tell("scheduler", LOST_WORKERS)
        self.restart_workers()
        if not self._group.of("worker"):
            self._group.start_workers(self._plan)

    def kill_hung(self) -> bool:
        """Kill whoever has shown no progress for too long; whether anybody is late by now."""
        timeout, now = self._plan.server.hang_timeout, self._clock()
        late = [child for child in self._group.children if child.silence(now) > timeout / 2]
        for child in late:
            if child.silence(now) > timeout and not child.doomed:
                log.error("%s has made no progress for %.0f s: killing it", child.name, timeout)
                child.signal(signal.SIGKILL)
        return bool(late)
