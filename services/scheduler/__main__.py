"""`python -m octavo.services.scheduler`: the scheduler process, a child of `octavo serve`."""

from __future__ import annotations

import hashlib
import os
import queue
from collections.abc import Iterator

import msgspec
import zmq

from octavo.services.scheduler.cache_facts import cache_facts
from octavo.services.scheduler.engine import Engine
from octavo.services.scheduler.limits import Limits, queued_tokens
from octavo.services.scheduler.lobby import STATS_INTERVAL, Lobby
from octavo.services.scheduler.scheduler import Scheduler
from octavo.services.scheduler.wakeups import Wakeups
from octavo.services.scheduler.worker_group import Joined, WorkerGroup
from octavo.shared.config import FRONTEND_SOCKET, WORKER_SOCKET, EngineConfig, ProcessConfig
from octavo.shared.messages import ToFrontend, ToScheduler
from octavo.shared.process import (
    LOST_FRONTEND,
    LOST_WORKERS,
    PROCESSES,
    RESTARTS,
    Child,
    ProcessState,
    run_child,
)
from octavo.shared.steps import FromWorker, ToWorker
from octavo.shared.transport import Hub

LINGER_MS = 1000


class News:
    """Lines from the supervisor, taken by the main thread."""

    def __init__(self, wakeups: Wakeups) -> None:
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._wakeups = wakeups

    def hear(self, line: bytes) -> None:
        """From any thread."""
        self._lines.put(line)
        self._wakeups.wake()

    def take(self) -> Iterator[bytes]:
        while not self._lines.empty():
            yield self._lines.get()


def main(child: Child) -> None:
    """Wait for the workers, serve until SIGTERM, pass the stop on."""
    config = child.config
    wakeups = Wakeups()
    wakeups.install()
    news = News(wakeups)
    child.hear(news.hear)
    frontends: Hub[ToFrontend, ToScheduler] = Hub(config.path, FRONTEND_SOCKET, ToScheduler)
    workers: Hub[ToWorker, FromWorker] = Hub(config.path, WORKER_SOCKET, FromWorker)
    group = WorkerGroup(workers, config.server.engine.tensor_parallel_size)
    server = config.server
    lobby = Lobby(frontends, server.max_queued_requests, queued_tokens(server), config.epoch)
    wakeups.watch(workers.socket)
    wakeups.watch(frontends.socket)
    early: list[bytes] = []
    if (joined := _joined(child, group, lobby, wakeups, news, early)) is not None:
        engine = _engine(child, joined, lobby, group)
        for line in early:
            _tell(engine, line)
        _serve(child, engine, wakeups, news)
    group.stop()
    workers.socket.close(linger=LINGER_MS)
    frontends.socket.close(linger=LINGER_MS)
    zmq.Context.instance().term()


def _joined(
    child: Child,
    group: WorkerGroup,
    lobby: Lobby,
    wakeups: Wakeups,
    news: News,
    early: list[bytes],
) -> Joined | None:
    """Wait for the workers; None: we are to stop. What they answer to another is passed over.

    `early`: gets the news that the engine must hear of.
    """
    while not wakeups.stopping:
        for line in news.take():
            if line == LOST_WORKERS:
                group.lost()
            else:
                early.append(line)
        while (message := group.receive()) is not None:
            if isinstance(message, Joined):
                return message
        lobby.wait()
        child.alive()
        wakeups.wait(STATS_INTERVAL)
    return None


def _engine(child: Child, joined: Joined, lobby: Lobby, group: WorkerGroup) -> Engine:
    """Say ready, now that it is known what there is."""
    config = child.config
    limits = Limits.of(config, joined.num_blocks)
    scheduler = Scheduler(
        limits,
        fingerprint(config.server.engine),
        model_name(config),
        epoch=config.epoch,
        cache_facts=cache_facts(config),
        accused=config.accused,
        on_trial=child.trial,
        started=lobby.opened,
    )
    engine = Engine(scheduler, lobby, group, hang_timeout=config.server.hang_timeout)
    scheduler.metrics.own.start_seconds = joined.phases
    engine.restarts(config.restarts)
    child.ready(
        num_blocks=limits.num_blocks,
        kv_tokens=limits.kv_tokens,
        block_size=limits.block_size,
        max_concurrency=round(limits.kv_tokens / limits.max_model_len, 2),
    )
    return engine


def _serve(child: Child, engine: Engine, wakeups: Wakeups, news: News) -> None:
    while not wakeups.stopping:
        for line in news.take():
            _tell(engine, line)
        wakeups.wait(engine.turn())
        if engine.gets_on:
            child.alive()


def _tell(engine: Engine, line: bytes) -> None:
    if line == LOST_WORKERS:
        engine.lost_workers()
    elif line.startswith(RESTARTS):
        engine.restarts(msgspec.json.decode(line.removeprefix(RESTARTS), type=dict[str, int]))
    elif line.startswith(PROCESSES):
        states = msgspec.json.decode(line.removeprefix(PROCESSES), type=list[ProcessState])
        engine.live.note(states)
    elif line.startswith(LOST_FRONTEND):
        engine.lost_frontend(line.removeprefix(LOST_FRONTEND))


def model_name(config: ProcessConfig) -> str:
    """The metrics' label."""
    names = config.server.served_model_name
    return names[0] if names else config.server.engine.model


def fingerprint(config: EngineConfig) -> bytes:
    """What KV depends on besides ids, and a secret of this boot: keys cannot be guessed."""
    facts = f"{config.model}\0{config.dtype}\0".encode()
    return hashlib.sha256(facts + os.urandom(16)).digest()


if __name__ == "__main__":
    run_child(main)
