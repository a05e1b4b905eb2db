"""A child process as its supervisor sees it: spawned by exec, spoken to through two pipes.

The child's side, and what travels on the pipes, is in `octavo.shared.process`.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

from octavo.shared.config import ProcessConfig
from octavo.shared.environment import bare
from octavo.shared.process import Status

log = logging.getLogger(__name__)

Command = Callable[[str], list[str]]
"""Role -> the start of the child's command line."""
Popen = Callable[..., "subprocess.Popen[bytes]"]

PASSED_ON = re.compile(
    r"HOME|USER|VIRTUAL_ENV|XDG_CACHE_HOME|HF_HOME|HF_HUB_CACHE|HF_HUB_OFFLINE"
    r"|TOKENIZERS_PARALLELISM|NVIDIA_(VISIBLE_DEVICES|DRIVER_CAPABILITIES|TF32_OVERRIDE)"
)
"""Beside the bare ones, to every child. Each name is known to hold no secret."""
FAMILIES = {
    "frontend": re.compile(r"OTEL_\w+"),
    "scheduler": re.compile(r"OMP_\w+"),
    "worker": re.compile(r"(CUDA|NCCL|GLOO|TORCH|TORCHINDUCTOR|PYTORCH|TRITON|OMP|KMP|MKL)_\w+"),
}
"""Of the libraries that a role has, which may hold one."""
SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSW|HEADERS|CREDENTIAL|AUTH", re.IGNORECASE)
OTLP_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
"""Keys of collectors stand in them; the first that is set holds."""
RANKS_MEET_ON = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
"""Ranks are on one host: how they find each other needs no network."""
READ_SIZE = 1 << 16
NONE: Mapping[str, int] = MappingProxyType({})
START_FACTOR = 4
"""A process that starts may give no pulse for this many times --hang-timeout: imports and drivers
hold up its threads."""


def python_module(role: str) -> list[str]:
    return [sys.executable, "-P", "-m", f"octavo.services.{role}"]


def child_environment(environ: Mapping[str, str], config: ProcessConfig) -> dict[str, str]:
    """The allow-listed part of `environ`: none of it is a secret.

    On a CPU the ranks share the cores but one, which the other processes need: a thread that
    spins for a core it cannot get makes a step many times slower. The user's own settings win.
    """
    passed = bare(environ) | {
        name: value for name, value in environ.items() if _passed_on(name, config.role)
    }
    engine = config.server.engine
    if config.role == "worker" and engine.tensor_parallel_size > 1:
        for name in RANKS_MEET_ON:  # they listen on an interface that others reach, if not told
            passed.setdefault(name, "lo")
    if config.role == "worker" and engine.device == "cpu":
        cores = len(os.sched_getaffinity(0)) - 1
        passed.setdefault("OMP_NUM_THREADS", str(max(cores // engine.tensor_parallel_size, 1)))
        passed.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return passed


def _passed_on(name: str, role: str) -> bool:
    if PASSED_ON.fullmatch(name):
        return True
    family = FAMILIES.get(role)
    return bool(family and family.fullmatch(name)) and not SECRET.search(name)


def with_headers(config: ProcessConfig, environ: Mapping[str, str]) -> ProcessConfig:
    """A frontend is told on its pipe what its exporter of spans must show."""
    headers = next((environ[name] for name in OTLP_HEADERS if environ.get(name)), "")
    if config.role != "frontend" or not config.server.otlp_traces_endpoint:
        return config
    return msgspec.structs.replace(config, otlp_headers=headers)


@dataclass(frozen=True)
class Spawner:
    """How children are started; the fields are the seams that tests and the library use."""

    environ: Mapping[str, str]
    command: Command = python_module
    popen: Popen = subprocess.Popen

    def spawn(self, config: ProcessConfig, sockets: Mapping[str, int] = NONE) -> ChildProcess:
        """Start one child and hand it its configuration. `sockets`: descriptors that it inherits,
        by the flags that name them."""
        control_read, control_write = os.pipe()
        status_read, status_write = os.pipe()
        given = [control_read, status_write]
        argv = [*self.command(config.role), "--control-fd", str(control_read)]
        argv += ["--status-fd", str(status_write), "--parent", str(os.getpid())]
        for flag, fd in sockets.items():
            given.append(fd)
            argv += [flag, str(fd)]
        try:
            process = self.popen(
                [*argv, f"{config.role}-{config.index}"],
                pass_fds=given,
                stdin=subprocess.DEVNULL,
                env=child_environment(self.environ, config),
                # Ctrl-C at the terminal reaches the supervisor alone, which stops us in order.
                start_new_session=True,
            )
        except BaseException:
            os.close(control_write)
            os.close(status_read)
            raise
        finally:
            os.close(control_read)
            os.close(status_write)
        child = ChildProcess(config, process, control_write, status_read)
        child.tell(msgspec.json.encode(with_headers(config, self.environ)))
        return child


class ChildProcess:
    """One running child. Its status pipe ends when it dies: that is how a death is noticed."""

    def __init__(
        self,
        config: ProcessConfig,
        process: subprocess.Popen[bytes],
        control_fd: int,
        status_fd: int,
    ) -> None:
        self.role = config.role
        self.config = config
        self.name = f"{config.role}-{config.index}"
        self.index = config.index
        self.process = process
        self.started = self._heard = self._moved = time.monotonic()
        self.ready_at: float | None = None
        self.doomed = False
        """It is to die: its end is no accident."""
        self.info: dict[str, Any] | None = None
        """What it said with "ready"; None before."""
        self.status_fd = status_fd
        self._control_fd = control_fd
        self._untold = bytearray()
        self._unread = b""
        os.set_blocking(status_fd, False)
        os.set_blocking(control_fd, False)

    def tell(self, line: bytes) -> None:
        """Write a line on the control pipe. A dead child's status pipe says that it is dead."""
        self._untold += line + b"\n"
        self.flush()

    def flush(self) -> bool:
        """Write as much as it takes now: a child that hangs reads nothing. Whether some is left."""
        try:
            while self._untold:
                del self._untold[: os.write(self._control_fd, self._untold)]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            self._untold.clear()
        return False

    def read_status(self) -> list[Status] | None:
        """The status lines that have arrived; None once the pipe has ended."""
        try:
            data = os.read(self.status_fd, READ_SIZE)
        except BlockingIOError:
            return []
        if not data:
            return None
        self._heard = time.monotonic()
        *lines, self._unread = (self._unread + data).split(b"\n")
        found = [status for line in lines if (status := self._decode(line))]
        if any(status.state != "pulse" for status in found):
            self._moved = self._heard
        return found

    def _decode(self, line: bytes) -> Status | None:
        try:
            return msgspec.json.decode(line, type=Status)
        except msgspec.DecodeError:
            log.warning("%s wrote a malformed status line", self.name)
            return None

    @property
    def state(self) -> str:
        if self.doomed:
            return "ending"
        return "starting" if self.info is None else "ready"

    def is_ready(self, info: dict[str, Any]) -> None:
        """It has said so."""
        self.info, self.ready_at = info, time.monotonic()

    @property
    def serves(self) -> bool:
        return self.info is not None and not self.doomed

    def silence(self, now: float) -> float:
        """Seconds since the last sign of life."""
        return now - self._heard

    def standstill(self, now: float) -> float:
        """Seconds since the last sign of progress."""
        return now - self._moved

    def lateness(self, now: float, hang: float, start: float) -> float:
        """How much of the time in which it has to show progress has passed; 1: all of it.

        One that is ready has `hang` seconds. One that starts may work for `start` seconds on what
        it reports nothing of, if only it runs.
        """
        if self.info is not None:
            return self.silence(now) / hang
        return max(self.silence(now) / (START_FACTOR * hang), self.standstill(now) / start)

    def excuse(self, seconds: float) -> None:
        """Nobody ran, not even we: that is no silence of its."""
        self._heard += seconds
        self._moved += seconds

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def reap(self, patience: float = 5.0) -> str:
        """Collect a child whose status pipe has ended; says how it ended."""
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._control_fd)
        os.close(self.status_fd)
        return how_it_ended(self.process.returncode)


def how_it_ended(code: int) -> str:
    """A return code of Popen in words."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
