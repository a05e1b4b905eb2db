"""The children of one server, watched together."""

from __future__ import annotations

import collections
import itertools
import logging
import selectors
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from octavo.services.supervisor.children import NONE, ChildProcess, Spawner
from octavo.shared.config import ModelInfo, ProcessConfig, ServerConfig
from octavo.shared.errors import ConfigError, ResourceBusy, StartError
from octavo.shared.process import STATE, Condition, Status

log = logging.getLogger(__name__)

Role = Literal["frontend", "exporter", "scheduler", "worker"]
ENGINE: tuple[Role, ...] = ("scheduler", "worker")
HTTP: tuple[Role, ...] = ("frontend", "exporter")
WATCH_INTERVAL = 1.0
"""Seconds."""
FLUSH_INTERVAL = 0.05
"""Seconds after which a child that did not read what it was told is offered the rest."""
EPOCHS = itertools.count(1)


class ChildDied(Exception):
    """A child ended that nobody had told to; `role` is its."""

    def __init__(self, child: ChildProcess, how: str) -> None:
        super().__init__(f"{child.name} {how}")
        self.role = child.role


@dataclass(frozen=True)
class Event:
    child: ChildProcess
    status: Status | None
    """None: the child is dead."""
    ended: str = ""


@dataclass(frozen=True)
class Plan:
    """What each child is told at its start."""

    directory: Path
    server: ServerConfig
    model: ModelInfo
    log_level: str

    def process(
        self,
        role: Role,
        index: int,
        epoch: int | None = None,
        restarts: Mapping[str, int] = NONE,
        accused: Sequence[bytes] = (),
    ) -> ProcessConfig:
        return ProcessConfig(
            epoch=next(EPOCHS) if epoch is None else epoch,
            role=role,
            index=index,
            directory=str(self.directory),
            server=self.server if role == "frontend" else without_keys(self.server),
            model=self.model,
            log_level=self.log_level,
            restarts=dict(restarts),
            accused=list(accused),
        )


def without_keys(server: ServerConfig) -> ServerConfig:
    """Frontends alone know who may do what."""
    return msgspec.structs.replace(server, api_key=[], api_key_file=None)


class Group:
    """Owns the children. One thread may use it; a group that is left is dead."""

    def __init__(self, spawner: Spawner) -> None:
        self.children: list[ChildProcess] = []
        self.starts: collections.Counter[str] = collections.Counter()
        """By name."""
        self._spawner = spawner
        self._selector = selectors.DefaultSelector()

    def start(self, config: ProcessConfig, sockets: Mapping[str, int] = NONE) -> ChildProcess:
        child = self._spawner.spawn(config, sockets)
        self.children.append(child)
        self.starts[child.name] += 1
        self._selector.register(child.status_fd, selectors.EVENT_READ, child)
        return child

    def start_engine(self, plan: Plan) -> None:
        """The scheduler and one worker per tensor-parallel rank."""
        self.start(plan.process("scheduler", 0))
        self.start_workers(plan)

    def start_workers(self, plan: Plan) -> None:
        epoch = next(EPOCHS)
        for rank in range(plan.server.engine.tensor_parallel_size):
            self.start(plan.process("worker", rank, epoch))

    def wake_on(self, fd: int) -> None:
        """Let `wait` return, without an event, when `fd` becomes readable."""
        self._selector.register(fd, selectors.EVENT_READ, None)

    def fileno(self) -> int:
        """Readable when `wait` has something to return: for use in another poller."""
        return self._selector.fileno()

    def wait(self, timeout: float | None = None) -> list[Event]:
        """What happened, waiting for the first up to `timeout` seconds (None: for ever)."""
        events: list[Event] = []
        if any([child.flush() for child in self.children]):
            timeout = FLUSH_INTERVAL if timeout is None else min(timeout, FLUSH_INTERVAL)
        for key, _ in self._selector.select(timeout):
            child = key.data
            if child is None:
                continue
            statuses = child.read_status()
            if statuses is None:
                events.append(self._bury(child))
            else:
                events += [Event(child, status) for status in statuses]
        return events

    def _bury(self, child: ChildProcess) -> Event:
        self._selector.unregister(child.status_fd)
        self.children.remove(child)
        return Event(child, None, child.reap())

    def wait_ready(
        self,
        progress: Callable[[ChildProcess, Status], None],
        woken: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """Wait until every child is ready; returns what the scheduler said with it.

        Raises StartError (with the exit code that the child chose) if one fails instead.
        `woken` is called after each wait, and may raise.
        """
        while self.starting():
            for event in self.wait():
                self._note(event, progress)
            woken()
        return next((child.info or {} for child in self.of("scheduler")), {})

    def starting(self) -> list[ChildProcess]:
        """Children that have not said that they are ready."""
        return [child for child in self.children if child.info is None]

    def missing(self) -> list[ChildProcess]:
        """Those of them in whose place no other serves. Nobody waits for an exporter that has had
        its chance: without it a server has all that its clients need."""
        serving = {child.name for child in self.children if child.serves}
        serving |= {child.name for child in self.of("exporter") if self.starts[child.name] > 1}
        return [child for child in self.starting() if child.name not in serving]

    @property
    def engine_ready(self) -> bool:
        """Whether scheduler and workers are all there."""
        return all(child.serves for child in self.children if child.role in ENGINE)

    def _note(self, event: Event, progress: Callable[[ChildProcess, Status], None]) -> None:
        status, name = event.status, event.child.name
        if status is None:
            raise StartError(f"{name} {event.ended} while starting")
        if status.state == "failed":
            raise start_error(name, status)
        if status.state == "ready":
            log.debug("%s is ready", name)
            event.child.is_ready(status.info)
            if self.engine_ready:
                self.tell("frontend", told(Condition("ready")))
        elif status.state == "loading":
            progress(event.child, status)

    def raise_for(self, events: list[Event]) -> None:
        """Raise ChildDied if one of `events` is a death, or a failure's last words."""
        for event in events:
            if event.status is None:
                raise ChildDied(event.child, event.ended)
            if event.status.state == "failed":
                reason = event.status.message.strip().splitlines()[-1:]
                raise ChildDied(event.child, f"failed: {''.join(reason)}")

    def tell(self, role: Role, line: bytes) -> None:
        for child in self.of(role):
            child.tell(line)

    def stop(
        self,
        role: Role,
        patience: float,
        hurry: Callable[[], bool] = lambda: False,
        handle: Callable[[list[Event]], None] = lambda events: None,
    ) -> None:
        """SIGTERM to the children of `role`, SIGKILL to those alive `patience` seconds later.

        `hurry` is asked after each wait; when true, patience ends. `handle` is given what happens
        meanwhile, to whomever, and called at least every WATCH_INTERVAL.
        """
        for child in self.of(role):
            child.doomed = True
        self.signal(role, signal.SIGTERM)
        deadline = time.monotonic() + patience
        while self.of(role) and not hurry() and (left := deadline - time.monotonic()) > 0:
            handle(self.wait(min(left, WATCH_INTERVAL)))
        for child in self.of(role):
            log.warning("%s did not stop, killing it", child.name)
        self.kill(role)

    def kill(self, role: Role) -> None:
        self.signal(role, signal.SIGKILL)
        while self.of(role):
            self.wait()

    def stop_engine(self, patience: float, hurry: Callable[[], bool] = lambda: False) -> None:
        self.stop("scheduler", patience, hurry)
        self.stop("worker", patience, hurry)

    def close(self) -> None:
        for role in get_args(Role):
            self.kill(role)
        self._selector.close()

    def of(self, role: str) -> list[ChildProcess]:
        return [child for child in self.children if child.role == role]

    def signal(self, role: str, number: signal.Signals) -> None:
        for child in self.of(role):
            child.signal(number)


def told(condition: Condition) -> bytes:
    """As news for frontends and exporter."""
    return STATE + msgspec.json.encode(condition)


def start_error(name: str, status: Status) -> StartError:
    """A child's failure as the error of this process."""
    errors = {2: ConfigError, 75: ResourceBusy}
    kind = errors.get(status.exit_code, StartError)
    return kind(status.message if kind is not StartError else f"{name} failed: {status.message}")
