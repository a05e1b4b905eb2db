"""Start `octavo serve` as a stranger would, for end-to-end tests: real processes, real sockets."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

START_SECONDS = 120
KV_CACHE = "128M"
"""On the CPU, for every test that says no size itself: a gigabyte takes a second to be made."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def usual(flags: Sequence[str]) -> dict[str, str]:
    """Variables of a server with these flags: small, as the machines are that tests run on."""
    small = {"OCTAVO_KV_CACHE_MEMORY_BYTES": KV_CACHE} if "cpu" in flags else {}
    return {"OMP_NUM_THREADS": "1", **small}


class Server:
    """A running server: its address, its processes, and what it printed.

    `wrap`: words in front of its command; they must end in an exec of what follows.
    """

    def __init__(
        self,
        *flags: str,
        env: dict[str, str] | None = None,
        port: int | None = None,
        wrap: Sequence[str] = (),
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [*wrap, sys.executable, "-P", "-m", "octavo.services.launch", "serve", *flags]
        environment = {**os.environ, **usual(flags), **(env or {})}
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self.process.stdout or nullcontext() as output:
            for line in output or ():
                self.lines.append(line.rstrip())
                if line.startswith("Ready in"):
                    self._ready.set()
        self._ready.set()

    @property
    def output(self) -> str:
        """What was printed so far."""
        return "\n".join(self.lines)

    def wait_ready(self) -> None:
        if not self._ready.wait(START_SECONDS) or self.process.poll() is not None:
            raise RuntimeError("the server did not start:\n" + "\n".join(self.lines))

    def children(self) -> dict[str, int]:
        """Live processes of this server by name: frontend-0, scheduler-0, worker-0, ..."""
        return {name: pid for name, pid in all_children() if parent_of(pid) == self.process.pid}

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        timeout: float = 60,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """One HTTP exchange; `body` is bytes or becomes JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            given = {"Content-Type": "application/json", **(headers or {})}
            connection.request(method, path, data, given)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def post(self, path: str, body: Any) -> Any:
        status, data = self.request("POST", path, body)
        if status != 200:
            raise RuntimeError(f"{status}: {data!r}")
        return json.loads(data)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        _, text = self.request("GET", "/metrics")
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        lines = re.findall(rf"^{re.escape(name)}(?:\{{(.*)\}})? (\S+)$", text.decode(), re.M)
        found = [float(value) for given, value in lines if wanted <= set(given.split(","))]
        if not found:
            raise RuntimeError(f"no metric {name} with {labels}")
        return sum(found)

    def wait_idle(self, seconds: float = 10) -> None:
        """Until nothing runs or waits and no block is in use; fails after `seconds`."""
        names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
        wait_for(
            lambda: not any(self.metric(name) for name in (*names, "vllm:kv_cache_usage_perc")),
            seconds,
        )

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code


def wait_for(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.05)


def all_children() -> Iterator[tuple[str, int]]:
    """(name, pid) of every process whose command line ends in an Octavo role."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
            zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        roles = [a.decode() for a in arguments if re.fullmatch(rb"[a-z]+-\d+", a)]
        if roles and any(a.startswith(b"octavo.services.") for a in arguments) and not zombie:
            yield roles[-1], int(entry.name)


def parent_of(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@contextmanager
def serving(*flags: str, env: dict[str, str] | None = None) -> Iterator[Server]:
    server = Server(*flags, env=env)
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop(signal.SIGTERM)
