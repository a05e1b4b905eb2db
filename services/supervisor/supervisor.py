"""`octavo serve`: start the children, watch them from then on, stop them in order.

The port is open from the beginning: the frontends, who are there first, say how far the others are.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from octavo.services.supervisor import listener as tcp
from octavo.services.supervisor.admin import AdminSocket, Handler, default_path
from octavo.services.supervisor.announcer import Announcer
from octavo.services.supervisor.census import Census
from octavo.services.supervisor.children import Spawner
from octavo.services.supervisor.exporter_place import ExporterPlace
from octavo.services.supervisor.folder import private_directory
from octavo.services.supervisor.group import WATCH_INTERVAL, Event, Group, Plan
from octavo.services.supervisor.progress import Progress
from octavo.services.supervisor.recovery import Recovery
from octavo.services.supervisor.restart_budget import CrashLoop
from octavo.services.supervisor.signals import StopRequested, StopSignals
from octavo.services.supervisor.systemd import Notifier
from octavo.shared.config import ModelInfo, ServerConfig
from octavo.shared.errors import StartError
from octavo.shared.log import say
from octavo.shared.process import ENGINE_GONE

log = logging.getLogger(__name__)

CRASH_LOOP = 70
START_PATIENCE = 1.0
ENGINE_PATIENCE = 2.0
EXPORTER_PATIENCE = 1.0
FRONTEND_PATIENCE = 4.0
"""Seconds to stop in, past those that requests in flight get: the last error events go out."""
KILL_SECONDS = 10.0
"""For what does not stop by itself to be killed and collected; no more than a bound."""


def supervise(
    server: ServerConfig,
    model: ModelInfo,
    listener: socket.socket,
    spawner: Spawner,
    *,
    metrics: socket.socket | None = None,
    log_level: str = "INFO",
    started: float | None = None,
) -> int:
    """Run the server until it is told to stop or restarts do not help; returns the exit code.

    `metrics` is bound to `--metrics-port`, if there is one; `started` the time.monotonic() from
    which start-up is counted.
    """
    with StopSignals() as signals, private_directory() as directory:
        plan = Plan(directory, server, model, log_level)
        supervisor = Supervisor(plan, listener, metrics, spawner, signals)
        return supervisor.run(time.monotonic() if started is None else started)


def _look_on(events: list[Event]) -> None:
    """Whoever dies now need not come back."""


class Supervisor:
    """One run of the server."""

    def __init__(
        self,
        plan: Plan,
        listener: socket.socket,
        metrics: socket.socket | None,
        spawner: Spawner,
        signals: StopSignals,
    ) -> None:
        self._plan = plan
        self._server = plan.server
        self._listener = listener
        self._metrics = metrics
        self._signals = signals
        self._notifier = Notifier(spawner.environ)
        self._group = Group(spawner)
        self._group.wake_on(signals.fd)
        self._progress = Progress()
        self._exporter = ExporterPlace(self._group, plan, metrics)
        sockets = {"--listen-fd": listener.fileno()}
        self._recovery = Recovery(self._group, plan, sockets, self._exporter, self._progress)
        self._announcer = Announcer(self._group, self._progress, self._notifier)
        self._admin = self._admin_socket()
        self._ending = False
        self._census = Census(self._group, lambda: self._state)

    def run(self, started: float) -> int:
        try:
            self._run(started)
        except StopRequested:
            log.info("stopping")
            return self._drain()
        except StartError as error:
            explain(error)
            self._stop(START_PATIENCE)
            return error.exit_code
        except CrashLoop as error:
            return self._give_up(error)
        finally:
            self._progress.close()
            self._admin.close()
            self._group.close()

    def _admin_socket(self) -> AdminSocket:
        chosen = self._server.admin_socket
        path = Path(chosen) if chosen else default_path(self._listener.getsockname()[1])
        handlers: dict[str, Handler] = {
            "status": self._status,
            "restart-frontends": self._recovery.restart_frontends,
            "restart-workers": self._recovery.restart_workers,
            "drain": lambda: os.kill(os.getpid(), signal.SIGTERM),
        }
        admin = AdminSocket(path, handlers)
        if admin.fileno() >= 0:
            self._group.wake_on(admin.fileno())
        return admin

    def _status(self) -> dict[str, Any]:
        now = time.monotonic()
        children = [
            {"name": child.name, "pid": child.process.pid, "state": child.state,
             "seconds": round(now - child.started, 1)}
            for child in self._group.children
        ]  # fmt: skip
        return {
            "state": self._state,
            "progress": "" if self._recovery.complete else self._progress.line,
            "restarts": self._recovery.num_restarts,
            "processes": children,
        }

    @property
    def _state(self) -> str:
        return "draining" if self._ending else self._announcer.state

    def _run(self, started: float) -> NoReturn:
        tcp.listen(self._listener)
        if self._metrics is not None:
            tcp.listen(self._metrics, "--metrics-port")
        self._start()
        while True:
            self._announcer.tell_manager()
            events = self._group.wait(WATCH_INTERVAL)
            self._look_around()
            self._look_after(events)
            if self._recovery.complete and not self._recovery.begun:
                self._begin(time.monotonic() - started)

    def _look_after(self, events: list[Event]) -> None:
        """See to the dead and the hung. Raises CrashLoop."""
        self._recovery.handle(events)
        self._census.tell()
        if not self._recovery.kill_hung():
            self._notifier.watchdog()
        self._announcer.tell_children()

    def _look_around(self) -> None:
        self._signals.raise_if_received()
        self._admin.serve()

    def _start(self) -> None:
        self._group.start_engine(self._plan)
        for index in range(self._server.frontends):
            self._recovery.start_frontend(index)
        self._exporter.start()

    def _begin(self, seconds: float) -> None:
        """All are ready, for the first time."""
        self._recovery.begun = True
        self._progress.close()
        facts = next((child.info or {} for child in self._group.of("scheduler")), {})
        model, url = self._plan.model, tcp.url(self._listener)
        line = ready_line(self._server, model, url, facts, seconds)
        if not self._server.api_key and not self._server.api_key_file and tcp.is_open(url):
            log.warning("no API keys: whoever reaches %s may use this server", url)
        say(line)
        self._announcer.ready(line)

    def _drain_patience(self) -> float:
        drain = self._server.shutdown_timeout if self._recovery.begun else 0.0
        return drain + FRONTEND_PATIENCE

    def _drain(self) -> int:
        """Stop as asked; the engine is looked after as long as there are requests that need it."""
        handle = self._look_after if self._recovery.begun else _look_on
        try:
            self._stop(self._drain_patience(), handle)
        except CrashLoop as error:
            return self._give_up(error)
        return 0

    def _give_up(self, error: CrashLoop) -> int:
        log.error("%s; stopping", error)
        self._group.signal("frontend", ENGINE_GONE)
        self._stop(self._drain_patience())
        return CRASH_LOOP

    def _stop(
        self, frontend_patience: float, handle: Callable[[list[Event]], None] = _look_on
    ) -> None:
        """Frontends first, for they finish requests that need the engine, and the exporter behind
        them, which counts to the end. A second signal kills."""
        self._ending = self._announcer.draining = True
        self._announcer.tell_children()
        self._census.tell()
        patience = frontend_patience + EXPORTER_PATIENCE + 2 * ENGINE_PATIENCE
        self._notifier.stopping(patience + KILL_SECONDS)
        # Ours is the last copy once the frontends close theirs: clients must then be refused.
        self._listener.close()
        self._group.stop("frontend", frontend_patience, self._hurry, handle)
        self._exporter.close()
        self._group.stop("exporter", EXPORTER_PATIENCE, self._hurry)
        self._group.stop_engine(ENGINE_PATIENCE, self._hurry)

    def _hurry(self) -> bool:
        self._admin.serve()
        return self._signals.received() > 1


def ready_line(
    server: ServerConfig, model: ModelInfo, url: str, facts: dict[str, Any], seconds: float
) -> str:
    name = server.served_model_name[0]
    kv = f"{facts.get('kv_tokens', 0):,} tokens ({facts.get('max_concurrency', 0):.1f}x concurrent)"
    return (
        f"Ready in {seconds:.1f} s  {url}/v1  model={name}  context={model.max_model_len}  kv={kv}"
    )


def explain(error: StartError) -> None:
    """The one line that a user whose start was refused reads.

    A child logs its traceback itself; what it was about stands in the message's last line.
    """
    lines = error.message.strip().splitlines() or ["start failed"]
    print(f"octavo: error: {lines[-1]}", file=sys.stderr, flush=True)
