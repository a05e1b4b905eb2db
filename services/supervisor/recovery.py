"""Recovery: a child that dies or hangs is started again.

A frontend alone; the workers as one group; a scheduler without its workers, who keep their weights.
That holds for the first start too, but a child that says why it fails ends that: the same would
happen again. Where it does not help (`restart_budget`) the server gives up. An exporter never is a
reason for that (`exporter_place`).
"""

from __future__ import annotations

import collections
import logging
import signal
import time
from collections.abc import Callable, Iterable, Mapping

import msgspec

from octavo.services.supervisor.children import ChildProcess
from octavo.services.supervisor.exporter_place import ExporterPlace
from octavo.services.supervisor.group import Event, Group, Plan, start_error
from octavo.services.supervisor.hangs import Hangs
from octavo.services.supervisor.restart_budget import RestartBudget
from octavo.shared.process import LOST_FRONTEND, LOST_WORKERS, RESTARTS, RETIRE, Status

log = logging.getLogger(__name__)

Progress = Callable[[ChildProcess, Status], None]


class Recovery:
    """`sockets`: what frontends inherit, as in `Spawner.spawn`. `progress`: told what loading
    children report."""

    def __init__(
        self,
        group: Group,
        plan: Plan,
        sockets: Mapping[str, int],
        exporter: ExporterPlace,
        progress: Progress = lambda child, status: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group = group
        self._plan = plan
        self._sockets = sockets
        self._exporter = exporter
        self._progress = progress
        self._clock = clock
        self._budget = RestartBudget(clock)
        self._hangs = Hangs(group, plan.server, clock)
        self._ended_epoch = -1
        """Of workers: these and all before them are given up."""
        self.begun = False
        """Whether all have been ready once."""
        self.restarts: collections.Counter[str] = collections.Counter()
        """By role."""
        self.num_restarts = 0
        """Processes that died and were started again."""

    @property
    def complete(self) -> bool:
        """Whether every place is filled with a child that is ready."""
        return self._group.engine_ready and not self._group.missing()

    def handle(self, events: Iterable[Event]) -> None:
        """Raises CrashLoop; in the first start StartError, with the code that a child chose.

        What has been said comes before deaths: it may be about them.
        """
        for event in sorted(events, key=lambda event: event.status is None):
            if event.status is None:
                self._died(event.child, event.ended)
            else:
                self._said(event.child, event.status)
        self._exporter.fill()

    def _said(self, child: ChildProcess, status: Status) -> None:
        match status.state:
            case "ready":
                self._is_ready(child, status)
            case "loading":
                self._progress(child, status)
            case "trial" if status.trial is not None:
                self._budget.note(status.trial)
            case "failed":
                if not (self.begun or child.role == "exporter"):
                    raise start_error(child.name, status)
                last = status.message.strip().splitlines()[-1:]
                log.error("%s failed: %s", child.name, "".join(last))

    def _is_ready(self, child: ChildProcess, status: Status) -> None:
        child.is_ready(status.info)
        if child.role == "scheduler" and self.restarts:
            self._tell_restarts()
        if self.begun:
            seconds = self._clock() - child.started
            log.info("%s is ready after %.1f s", child.name, seconds)
        if child.role == "frontend":
            self._retire_others(child)

    def restart_frontends(self) -> None:
        """One after another they give way to a new one; the port stays open, no request is lost."""
        for child in self._group.of("frontend"):
            if not child.doomed:
                self.start_frontend(child.index)

    def restart_workers(self) -> None:
        """Streams pause until new ones are there."""
        if ranks := self._group.of("worker"):
            self._note_replaced(ranks[0])
        self._end_ranks()

    def _end_ranks(self) -> None:
        for rank in self._group.of("worker"):
            rank.doomed = True
            rank.signal(signal.SIGKILL)

    def start_frontend(self, index: int) -> None:
        self._group.start(self._plan.process("frontend", index), self._sockets)

    def _retire_others(self, child: ChildProcess) -> None:
        """Those whose place it takes."""
        for other in self._group.of("frontend"):
            if other.index == child.index and other is not child and not other.doomed:
                self._note_replaced(other)
                other.doomed = True
                other.signal(RETIRE)

    def _died(self, child: ChildProcess, how: str) -> None:
        accused = self._budget.accused
        if not (child.doomed or self._is_ended(child)):
            log.error("%s %s; starting it again", child.name, how)
            self.restarts[child.role] += 1
            self.num_restarts += 1
            if child.role != "exporter":
                self._spend(child)
            self._tell_restarts()
        match child.role:
            case "frontend":
                self._group.tell("scheduler", LOST_FRONTEND + child.config.peer.encode())
                if not child.doomed:
                    self.start_frontend(child.index)
            case "exporter":
                self._group.tell("scheduler", LOST_FRONTEND + child.config.peer.encode())
                if not child.doomed:
                    self._exporter.lost()
            case "scheduler":
                config = self._plan.process("scheduler", 0, restarts=self.restarts, accused=accused)
                self._group.start(config)
            case "worker":
                self._end_workers(child)

    def _spend(self, child: ChildProcess) -> None:
        """Raises CrashLoop."""
        ready_at = child.ready_at
        self._budget.spend(child.role, None if ready_at is None else self._clock() - ready_at)

    def _note_replaced(self, child: ChildProcess) -> None:
        if child.ready_at is not None and not child.doomed:
            self._budget.replaced(child.role, self._clock() - child.ready_at)

    def _is_ended(self, child: ChildProcess) -> bool:
        """Whether the worker's group was given up before: one death of several at once."""
        return child.role == "worker" and child.config.epoch <= self._ended_epoch

    def _tell_restarts(self) -> None:
        self._group.tell("scheduler", RESTARTS + msgspec.json.encode(self.restarts))

    def _end_workers(self, dead: ChildProcess) -> None:
        """The others are of no use. The next group starts when all have let go of the devices."""
        if not self._is_ended(dead):
            self._ended_epoch = dead.config.epoch
            self._group.tell("scheduler", LOST_WORKERS)
            self._end_ranks()
        if not self._group.of("worker"):
            self._group.start_workers(self._plan)

    def kill_hung(self) -> bool:
        """Kill whoever shows no progress. True: one does not even die."""
        return self._hangs.kill()
