"""The server of one batch: the usual processes behind a socket that only we can reach."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import msgspec

from octavo.services.batch.client import Address
from octavo.services.batch.run import Watch
from octavo.services.supervisor import listener as tcp
from octavo.services.supervisor.children import Spawner
from octavo.services.supervisor.folder import private_directory
from octavo.services.supervisor.group import Group, Plan
from octavo.services.supervisor.progress import Progress
from octavo.services.supervisor.signals import StopSignals
from octavo.shared.config import ModelInfo, ServerConfig

SOCKET = "http.sock"
PATIENCE = 2.0
"""Seconds that each kind of process gets to stop in: nothing of value is in flight."""
MAX_TOKENS = 10**12
"""May wait: `--concurrency` bounds what does."""


@contextlib.contextmanager
def private_server(
    server: ServerConfig,
    model: ModelInfo,
    spawner: Spawner,
    signals: StopSignals,
    log_level: str,
) -> Iterator[tuple[Address, Watch]]:
    """Raises StartError if it does not start, StopRequested if that is no longer wanted."""
    server = msgspec.structs.replace(
        server,
        api_key=[],
        api_key_file=None,
        shutdown_timeout=0.0,
        max_queued_tokens=server.max_queued_tokens or MAX_TOKENS,
    )
    with private_directory() as directory, contextlib.ExitStack() as cleanup:
        path = directory / SOCKET
        listener = cleanup.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(str(path))
        group = Group(spawner)
        cleanup.callback(group.close)
        group.wake_on(signals.fd)
        _start(group, Plan(directory, server, model, log_level), listener, signals)
        try:
            yield Address("http://octavo", socket=str(path)), _watch(group, signals)
        finally:
            group.stop("frontend", PATIENCE)
            group.stop_engine(PATIENCE)


def _watch(group: Group, signals: StopSignals) -> Watch:
    def check() -> None:
        events = group.wait(0)
        signals.raise_if_received()
        group.raise_for(events)

    return Watch(group.fileno(), check)


def _start(group: Group, plan: Plan, listener: socket.socket, signals: StopSignals) -> None:
    tcp.listen(listener)
    group.start_engine(plan)
    for index in range(plan.server.frontends):
        group.start(plan.process("frontend", index), {"--listen-fd": listener.fileno()})
    with contextlib.closing(Progress()) as progress:
        group.wait_ready(progress, signals.raise_if_received)
