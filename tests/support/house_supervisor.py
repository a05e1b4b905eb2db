"""A supervisor over fake children: run by path, or driven from a test through `Served`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from octavo.services.supervisor import hangs, listener
from octavo.services.supervisor.children import Spawner
from octavo.services.supervisor.supervisor import supervise
from octavo.shared.config import EngineConfig, ModelInfo, ServerConfig
from octavo.shared.log import setup_logging

HERE = Path(__file__).parent
MODEL = ModelInfo(
    architecture="LlamaForCausalLM", vocab_size=100, max_model_len=128, eos_token_ids=[0]
)


def fake_child(role: str) -> list[str]:
    return [sys.executable, "-P", str(HERE / "house_fake_child.py")]


def main() -> int:
    ranks, frontends, port = (int(argument) for argument in sys.argv[1:4])
    setup_logging("supervisor")
    hangs.KILL_PATIENCE = float(os.environ.get("OCTAVO_TEST_KILL_PATIENCE", hangs.KILL_PATIENCE))
    server = ServerConfig(
        engine=EngineConfig(tensor_parallel_size=ranks),
        served_model_name=["fake"],
        frontends=frontends,
        shutdown_timeout=float(sys.argv[4]),
        hang_timeout=float(os.environ.get("OCTAVO_TEST_HANG", "2")),
        start_timeout=float(os.environ.get("OCTAVO_TEST_START", "60")),
    )
    with contextlib.ExitStack() as bounds:
        host = os.environ.get("OCTAVO_TEST_HOST", "127.0.0.1")
        bound, metrics = bounds.enter_context(listener.bind(host, port)), None
        if other := os.environ.get("OCTAVO_TEST_METRICS_PORT"):
            metrics = bounds.enter_context(listener.bind(host, int(other)))
        return supervise(server, MODEL, bound, Spawner(os.environ, fake_child), metrics=metrics)


class Served:
    """A supervisor process and what its children have noted."""

    def __init__(
        self,
        directory: Path,
        behaviour: dict[str, str] | None = None,
        *,
        ranks: int = 1,
        frontends: int = 1,
        shutdown_timeout: float = 0.0,
        environ: dict[str, str] | None = None,
        exporter: bool = False,
    ) -> None:
        self.log = directory / "children.log"
        # Not inside `directory`, whose path is too long for sockets.
        self.sockets = Path(tempfile.mkdtemp(prefix="fake-"))
        environ = {
            **os.environ,
            "OCTAVO_TEST_FAKE": json.dumps(behaviour or {}),
            "OCTAVO_TEST_LOG": str(self.log),
            "TMPDIR": str(self.sockets),
            **(environ or {}),
        }
        self.metrics_port = free_port()
        if exporter:
            environ["OCTAVO_TEST_METRICS_PORT"] = str(self.metrics_port)
        argv = [sys.executable, str(HERE / "house_supervisor.py")]
        self.port = free_port()
        argv += [str(ranks), str(frontends), str(self.port), str(shutdown_timeout)]
        self.process = subprocess.Popen(
            argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def ready(self) -> str:
        """Wait for the ready line."""
        stream = self.process.stdout
        return stream.readline() if stream else ""

    def finish(self, timeout: float = 10.0) -> tuple[int, str]:
        """Wait for the end: exit code and standard error."""
        _, errors = self.process.communicate(timeout=timeout)
        return self.process.returncode, errors

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        shutil.rmtree(self.sockets)

    def events(self, event: str) -> dict[str, int]:
        """Name -> pid of the children that noted `event`, in order."""
        if not self.log.exists():
            return {}
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return {line[0]: int(line[2]) for line in lines if line[1] == event}

    def said(self) -> str:
        """Everything that was noted."""
        return self.log.read_text() if self.log.exists() else ""

    def num_starts(self, name: str) -> int:
        lines = self.said().splitlines()
        return sum(line.startswith(f"{name} started ") for line in lines)

    def wait_for(self, event: str, count: int) -> dict[str, int]:
        wait_until(lambda: len(self.events(event)) >= count)
        return self.events(event)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def connects(port: int) -> str | None:
    """What the server at `port` says, or None if it refuses."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return connection.recv(100).decode()
    except (ConnectionRefusedError, ConnectionResetError):  # the queue of a port that closes
        return None


if __name__ == "__main__":
    sys.exit(main())
