"""What a process that answers HTTP does for its supervisor: it hears, gives a pulse, says ready."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket

import msgspec

from octavo.services.frontend.engine_client import HEALTHY_SECONDS, EngineClient
from octavo.shared.config import FRONTEND_SOCKET, ProcessConfig
from octavo.shared.messages import ToFrontend, ToScheduler
from octavo.shared.process import ALIVE_INTERVAL, DRAINING, STATE, Child, Condition
from octavo.shared.transport import AsyncSpoke

LOOK_INTERVAL = 0.01


def inherited_listener() -> socket.socket:
    """The bound socket that the supervisor handed down; listening starts with the server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen-fd", type=int, required=True)
    args, _ = parser.parse_known_args()
    os.set_inheritable(args.listen_fd, False)  # helpers have nothing to accept
    return socket.socket(fileno=args.listen_fd)


def stop_signal() -> asyncio.Event:
    """Set once a signal to stop has come."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def connect(config: ProcessConfig) -> AsyncSpoke[ToScheduler, ToFrontend]:
    return AsyncSpoke(config.path, FRONTEND_SOCKET, config.peer.encode(), ToFrontend)


def follow(child: Child, engine: EngineClient) -> None:
    """Keep `engine.told` as the supervisor tells it; until then the server starts. A supervisor
    that does not hang says something every second or two."""
    engine.told = Condition("starting")
    loop = asyncio.get_running_loop()
    heard, patience = engine.awake(), child.config.server.hang_timeout
    engine.supervised = lambda: engine.awake() - heard <= patience

    def note(line: bytes) -> None:
        nonlocal heard
        heard = engine.awake()
        condition = msgspec.json.decode(line.removeprefix(STATE), type=Condition)
        if condition.state == DRAINING:
            engine.closing = True
        else:
            engine.told = condition

    def hear(line: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(note, line)

    child.hear(hear)


async def pulse(child: Child) -> None:
    """While the event loop turns."""
    while True:
        child.alive()
        await asyncio.sleep(ALIVE_INTERVAL)


async def say_ready(child: Child, engine: EngineClient) -> None:
    """Once requests are taken, and the engine has been seen: the first must not fail."""
    while not engine.open:
        await asyncio.sleep(LOOK_INTERVAL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HEALTHY_SECONDS):
            while not (engine.state == "ready" or engine.told.state == "degraded"):
                await asyncio.sleep(LOOK_INTERVAL)
    child.ready()


async def end(listening: asyncio.Task[None]) -> None:
    """Stop listening to the engine; an error that ended it is raised here."""
    listening.cancel()
    await asyncio.wait({listening})
    if not listening.cancelled():
        listening.result()
