"""The child's side of the life between supervisor and process.

A child inherits two pipes. On *control* it reads its `ProcessConfig` as one line of JSON, later
news of the others ("lost workers"); end of file there means that the parent is gone. On *status*
it writes one JSON line per event: loading(done, total), ready(info), alive (once a second, by the
loop whose standstill would matter), pulse (once a second until it is ready, by a thread: it may
report nothing, but it runs), trial, failed(exit_code, message).
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from octavo.shared.config import ProcessConfig
from octavo.shared.errors import StartError
from octavo.shared.log import setup_logging
from octavo.shared.parent import die_with_parent

ENGINE_GONE = signal.SIGUSR1
"""Supervisor to frontend, before SIGTERM: nobody will answer the requests in flight."""
STATE = b"state "
"""Supervisor to frontend and exporter, whenever it has changed and every second or two: its sign of
life. Followed by JSON: a Condition."""
DRAINING = "draining"
LOST_WORKERS = b"lost workers"
LOST_FRONTEND = b"lost "
"""Supervisor to scheduler; followed by the name of the frontend, or of the exporter, which to it is
one."""
RESTARTS = b"restarts "
"""Supervisor to scheduler; followed by JSON: how often each role was started again."""
PROCESSES = b"processes "
"""Supervisor to scheduler, whenever it has changed; followed by JSON: a list of ProcessState."""
ALIVE_INTERVAL = 1.0
"""Seconds."""
RETIRE = signal.SIGUSR2
"""Supervisor to frontend: another has taken its place; accept nothing more, and end when done."""
log = logging.getLogger(__name__)


class Trial(msgspec.Struct):
    """A scheduler's word on which requests may be the death of a process (its `trials`): how many
    have just shown that they are not, and the ids of those that are about to run."""

    num_acquitted: int
    accused: list[bytes]


class Condition(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the supervisor knows of scheduler and workers, to an exporter also of frontends.

    `state`: starting, loading or warming until they are ready for the first time, then ready, or
    degraded while some are started again. `progress`: in words, how far that is. An exporter is
    told too that the server is DRAINING; frontends hear that by SIGTERM.
    """

    state: str
    progress: str = ""


class ProcessState(msgspec.Struct):
    """One of the server's processes, as the supervisor sees it.

    `state`: starting, ready, silent (it should have said something by now) or ending; the
    supervisor's own is the server's. `restarts`: how often a process of this name was started
    again. `started`: CLOCK_MONOTONIC seconds.
    """

    name: str
    pid: int
    state: str
    restarts: int
    started: float


class Status(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line on the status pipe."""

    state: str
    """loading | ready | alive | pulse | trial | failed"""
    phase: str = ""
    """loading: what is going on ("weights", "graphs")."""
    done: int = 0
    total: int = 0
    unit: str = ""
    info: dict[str, Any] = {}
    """ready: facts for the ready line (num_blocks, block_size, ...)."""
    exit_code: int = 1
    message: str = ""
    trial: Trial | None = None


class Child:
    """This process as its supervisor sees it."""

    def __init__(self, control_fd: int, status_fd: int) -> None:
        self._control = os.fdopen(control_fd, "rb", buffering=0)
        self._status = os.fdopen(status_fd, "wb", buffering=0)
        self.config = msgspec.json.decode(_read_line(self._control), type=ProcessConfig)
        self._alive_due = 0.0
        self._started = threading.Event()
        self._news = threading.Lock()
        self._early: list[bytes] = []
        self._on_news = self._early.append

    def progress(self, phase: str, done: int, total: int, unit: str = "") -> None:
        self._report(Status(state="loading", phase=phase, done=done, total=total, unit=unit))

    def ready(self, **info: Any) -> None:
        """Say ready. Start-up garbage is frozen out of the collector's sight first."""
        gc.collect()
        gc.freeze()
        self._started.set()
        self._report(Status(state="ready", info=info))

    def alive(self) -> None:
        """Say that this process gets on; costs nothing when it was said lately."""
        now = time.monotonic()
        if now >= self._alive_due:
            self._alive_due = now + ALIVE_INTERVAL
            self._mention("alive")

    def _mention(self, state: str) -> None:
        """What need not be said where nobody listens."""
        if select.select([], [self._status], [], 0)[1]:
            self._report(Status(state=state))

    def trial(self, trial: Trial) -> None:
        """Said before they run, so that it is known if they do not survive it."""
        self._report(Status(state="trial", trial=trial))

    def failed(self, error: BaseException) -> int:
        """Report why the start failed; returns the exit code."""
        known = isinstance(error, StartError)
        code = error.exit_code if isinstance(error, StartError) else 1
        message = str(error) if known else "".join(traceback.format_exception(error))
        self._report(Status(state="failed", exit_code=code, message=message))
        return code

    def hear(self, on_news: Callable[[bytes], None]) -> None:
        """Have it called, mostly from a thread, with each line of news, those so far first."""
        with self._news:
            for line in self._early:
                on_news(line)
            self._on_news = on_news

    def watch_parent(self) -> None:
        """Die at once, whatever this process is doing, when the parent does."""
        threading.Thread(target=self._watch, name="parent-watch", daemon=True).start()
        threading.Thread(target=self._pulse, name="pulse", daemon=True).start()

    def _watch(self) -> None:
        while line := _read_line(self._control):
            with self._news:
                self._on_news(line)
        os._exit(1)

    def _pulse(self) -> None:
        while not self._started.wait(ALIVE_INTERVAL):
            self._mention("pulse")

    def _report(self, status: Status) -> None:
        try:
            self._status.write(msgspec.json.encode(status) + b"\n")
        except BrokenPipeError:
            os._exit(1)


def _read_line(stream: Any) -> bytes:
    line = bytearray()
    while byte := stream.read(1):
        if byte == b"\n":
            return bytes(line)
        line += byte
    return b""


def run_child(main: Callable[[Child], None]) -> None:
    """Entry of every child process: `main` serves until it is told to stop, then returns."""
    child = _adopt()
    try:
        main(child)
    except StartError as error:
        sys.exit(child.failed(error))
    except Exception as error:
        log.exception("%s failed", child.config.role)
        sys.exit(child.failed(error))


def _adopt() -> Child:
    parser = argparse.ArgumentParser()
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--status-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    args, _ = parser.parse_known_args()
    die_with_parent(args.parent)
    for descriptor in (args.control_fd, args.status_fd):
        os.set_inheritable(descriptor, False)  # they end with this process, not with its helpers
    child = Child(args.control_fd, args.status_fd)
    child.watch_parent()
    name, form = f"{child.config.role}-{child.config.index}", child.config.server.log_format
    setup_logging(name, child.config.log_level, form, private=child.config.role == "frontend")
    return child
