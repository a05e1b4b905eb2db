"""`python -m octavo.services.scheduler`: the scheduler process, a child of `octavo serve`."""

from __future__ import annotations

import hashlib
import os
import queue

import msgspec
import zmq

from octavo.services.scheduler.cache_facts import cache_facts
from octavo.services.scheduler.engine import Engine
from octavo.services.scheduler.limits import Limits
from octavo.services.scheduler.scheduler import Scheduler
from octavo.services.scheduler.wakeups import Wakeups
from octavo.services.scheduler.worker_group import Joined, WorkerGroup
from octavo.shared.config import FRONTEND_SOCKET, WORKER_SOCKET, EngineConfig, ProcessConfig
from octavo.shared.messages import FromWorker, ToFrontend, ToScheduler, ToWorker
from octavo.shared.process import (
    LOST_FRONTEND,
    LOST_WORKERS,
    PROCESSES,
    RESTARTS,
    Child,
    ProcessState,
    run_child,
)
from octavo.shared.transport import Hub

LINGER_MS = 1000


def main(child: Child) -> None:
    """Wait for the workers, serve until SIGTERM, pass the stop on."""
    config = child.config
    wakeups = Wakeups()
    wakeups.install()
    frontends: Hub[ToFrontend, ToScheduler] = Hub(config.path, FRONTEND_SOCKET, ToScheduler)
    workers: Hub[ToWorker, FromWorker] = Hub(config.path, WORKER_SOCKET, FromWorker)
    group = WorkerGroup(workers, config.server.engine.tensor_parallel_size)
    wakeups.watch(workers.socket)
    if (joined := _joined(group, wakeups)) is not None:
        wakeups.watch(frontends.socket)
        _serve(child, joined, frontends, group, wakeups)
    group.stop()
    workers.socket.close(linger=LINGER_MS)
    frontends.socket.close(linger=LINGER_MS)
    zmq.Context.instance().term()


def _joined(group: WorkerGroup, wakeups: Wakeups) -> Joined | None:
    """Wait for the workers; None: we are to stop. What they answer to another is passed over."""
    while not wakeups.stopping:
        while (message := group.receive()) is not None:
            if isinstance(message, Joined):
                return message
        wakeups.wait(None)
    return None


def _serve(
    child: Child,
    joined: Joined,
    frontends: Hub[ToFrontend, ToScheduler],
    group: WorkerGroup,
    wakeups: Wakeups,
) -> None:
    engine_config = child.config.server.engine
    limits = Limits.of(child.config, joined.num_blocks)
    scheduler = Scheduler(
        limits,
        fingerprint(engine_config),
        model_name(child.config),
        epoch=child.config.epoch,
        cache_facts=cache_facts(child.config),
        accused=child.config.accused,
        on_trial=child.trial,
    )
    engine = Engine(scheduler, frontends, group)
    scheduler.metrics.own.start_seconds = joined.phases
    engine.restarts(child.config.restarts)
    news: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def on_news(line: bytes) -> None:
        news.put(line)
        wakeups.wake()

    child.on_news = on_news
    child.ready(
        num_blocks=limits.num_blocks,
        kv_tokens=limits.kv_tokens,
        block_size=limits.block_size,
        max_concurrency=round(limits.kv_tokens / limits.max_model_len, 2),
    )
    while not wakeups.stopping:
        while not news.empty():
            _tell(engine, news.get())
        wakeups.wait(engine.turn())
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
