"""Scheduler and workers of one LLM object: the server's own processes, without the HTTP part."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import zmq

from octavo.services.supervisor.children import Command, Spawner, python_module
from octavo.services.supervisor.folder import private_directory
from octavo.services.supervisor.group import ChildDied, Group, Plan
from octavo.services.supervisor.progress import Progress
from octavo.shared.config import FRONTEND_SOCKET, ModelInfo, ServerConfig
from octavo.shared.errors import EngineDead
from octavo.shared.messages import Outputs, ToFrontend, ToScheduler
from octavo.shared.transport import Spoke

PEER = b"library-0"
PATIENCE = 2.0
"""Seconds that each kind of process gets to stop in."""


class Engine:
    """Runs from construction to `close`. For one thread at a time."""

    def __init__(
        self,
        server: ServerConfig,
        model: ModelInfo,
        environ: Mapping[str, str],
        *,
        command: Command = python_module,
        log_level: str = "WARNING",
    ) -> None:
        self._cleanup = contextlib.ExitStack()
        self._dead: str | None = None
        with contextlib.ExitStack() as cleanup:
            spawn_thread = ThreadPoolExecutor(1, "octavo-spawn")
            cleanup.callback(spawn_thread.shutdown)
            directory = cleanup.enter_context(private_directory())

            def popen(*args: Any, **kwargs: Any) -> Any:
                # The kernel kills a child when the thread that made it ends: the caller's may.
                return spawn_thread.submit(subprocess.Popen, *args, **kwargs).result()

            self._group = Group(Spawner(environ, command, popen))
            cleanup.callback(self._group.close)
            alone = msgspec.structs.replace(server, frontends=0)
            self._group.start_engine(Plan(directory, alone, model, log_level))
            progress = Progress()
            with contextlib.closing(progress):
                self.facts = self._group.wait_ready(progress)
            self._spoke: Spoke[ToScheduler, ToFrontend] = Spoke(
                directory, FRONTEND_SOCKET, PEER, ToFrontend
            )
            cleanup.callback(self._spoke.close)
            self._cleanup = cleanup.pop_all()
        self._poller = zmq.Poller()
        self._poller.register(self._spoke.socket, zmq.POLLIN)
        self._poller.register(self._group.fileno(), zmq.POLLIN)

    def send(self, message: ToScheduler) -> None:
        """Raises EngineDead if there is nobody to receive it."""
        self._check()
        self._spoke.send(message)

    def receive(self) -> Outputs:
        """Wait for the next outputs. Raises EngineDead as soon as a process dies."""
        while True:
            self._poller.poll()
            message = self._spoke.receive(0)
            if isinstance(message, Outputs):
                return message
            self._check()

    def _check(self) -> None:
        if self._dead is None:
            try:
                self._group.raise_for(self._group.wait(0))
            except ChildDied as error:
                self._dead = str(error)
                self.close()
        if self._dead is not None:
            raise EngineDead(f"The engine is not running: {self._dead}.")

    def close(self) -> None:
        """Stop every process; waits until they are gone. May be called again."""
        if self._dead is None:
            self._dead = "it was closed"
            self._group.stop_engine(PATIENCE)
        self._cleanup.close()
