"""Seconds from `octavo serve` to /health, and to the first token of a first request.

    python bench/startup.py [--model llama-3.1-8b] [--runs 3] [--json FILE] -- [flags of serve]
    python bench/startup.py --model demo -- --device cpu
    python bench/startup.py --model DIR --restart

With --restart a worker is killed then: seconds to /health, and what its successor's start took.

A model is the name of a shape (bench/shapes.py, then with --load-format dummy), a folder
(bench/random_weights.py fills one), or `demo`. The first run may compile kernels; to time that,
empty Triton's cache before it.
The file keeps what the server printed, with the seconds since the start, and those of each
phase that it reported.
"""

from __future__ import annotations

import argparse
import contextlib
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
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness import model_folder
from bench.results import Record, add_json_option, record, save
from bench.shapes import SHAPES
from octavo.services.supervisor.admin import ask, default_path

PATIENCE = 600.0
POLL_SECONDS = 0.01
STOP_SECONDS = 30.0
PHASE = re.compile(r"(?:loading|warming) (\w[\w ]*?)(?: \d+ %)? \(")
READY = re.compile(r"Ready in ([\d.]+) s")
STARTED = re.compile(r"worker-0 INFO (started in .*)")

Line = tuple[float, str]
"""Seconds since the start, and what was printed."""


def phases(lines: list[Line]) -> dict[str, list[float]]:
    """When each phase was first and last reported, in seconds since the start."""
    found: dict[str, list[float]] = {}
    for seconds, text in lines:
        if match := PHASE.search(text):
            found[match[1]] = [found.get(match[1], [seconds])[0], seconds]
    return found


def own_seconds(lines: list[Line]) -> float | None:
    """The server's own count, from its line "Ready in"."""
    matches = [match for _, text in lines if (match := READY.search(text))]
    return float(matches[0][1]) if matches else None


class Server:
    """`octavo serve` on a free port, its output stamped with the seconds since the start."""

    def __init__(self, flags: list[str]) -> None:
        self.port = _free_port()
        self.lines: list[Line] = []
        self._began = time.perf_counter()
        argv = [sys.executable, "-P", "-m", "octavo.services.launch", "serve", *flags]
        self._process = subprocess.Popen(
            [*argv, "--port", str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=[self._process.stdout])
        self._reader.start()

    def elapsed(self) -> float:
        return time.perf_counter() - self._began

    def wait_healthy(self) -> float:
        """Seconds since the start. Raises SystemExit if the server ends, or takes for ever."""
        while self._process.poll() is None and self.elapsed() < PATIENCE:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if _exchange(self.port, "GET", "/health")[0] == 200:
                    return self.elapsed()
            time.sleep(POLL_SECONDS)
        printed = "\n".join(text for _, text in self.lines)
        raise SystemExit(f"the server did not start:\n{printed}")

    def wait_token(self) -> float:
        """Seconds since the start at which a request of one token has its answer."""
        model = json.loads(_exchange(self.port, "GET", "/v1/models")[1])["data"][0]["id"]
        wanted = {"model": model, "prompt": [300] * 16, "max_tokens": 1, "temperature": 0}
        status, data = _exchange(self.port, "POST", "/v1/completions", wanted)
        if status != 200:
            raise SystemExit(f"the first request failed: {data.decode(errors='replace')}")
        return self.elapsed()

    def restart_worker(self) -> dict[str, Any]:
        """Kill one; its weights come from the page cache."""
        processes = ask(default_path(self.port), "status")["processes"]
        (worker,) = (one["pid"] for one in processes if one["name"] == "worker-0")
        began = self.elapsed()
        os.kill(worker, signal.SIGKILL)
        while _exchange(self.port, "GET", "/health")[0] == 200:
            time.sleep(POLL_SECONDS)
        healthy = self.wait_healthy() - began
        started = [match[1] for _, text in self.lines if (match := STARTED.search(text))]
        return {"restart_s": healthy, "restart": started[-1]}

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _read(self, output: IO[str]) -> None:
        for line in output:
            self.lines.append((round(self.elapsed(), 3), line.rstrip()))


def _exchange(port: int, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    data = None if body is None else json.dumps(body)
    try:
        connection.request(method, path, data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_once(flags: list[str], restart: bool) -> dict[str, Any]:
    server = Server(flags)
    try:
        healthy, token = server.wait_healthy(), server.wait_token()
        again = server.restart_worker() if restart else {}
    finally:
        server.stop()
    return {
        "health_s": healthy,
        "first_token_s": token,
        "own_s": own_seconds(server.lines),
        "phases": phases(server.lines),
        "lines": server.lines,
        **again,
    }


@contextlib.contextmanager
def model_flags(model: str) -> Iterator[list[str]]:
    if model == "demo":
        yield []
        return
    with model_folder(model) as folder:
        yield [folder, *(["--load-format", "dummy"] if model in SHAPES else [])]


def warm_page_cache(folder: Path) -> None:
    """Read every weight file once: a start is timed from memory, not from a disk."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 24):
                pass


def records(runs: list[dict[str, Any]]) -> list[Record]:
    names = {
        "startup_health": ("health_s", None),
        "startup_first_token": ("first_token_s", 13),
        "startup_restart": ("restart_s", None),
    }
    return [
        record(name, row, "s", [run[field] for run in runs])
        for name, (field, row) in names.items()
        if field in runs[0]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="llama-3.1-8b")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--restart", action="store_true", help="kill a worker, and time that too")
    parser.add_argument("flags", nargs="*", help="of `octavo serve`, after --")
    add_json_option(parser)
    args = parser.parse_args()
    warm_page_cache(Path(args.model))
    with model_flags(args.model) as flags:
        runs = [start_once([*flags, *args.flags], args.restart) for _ in range(args.runs)]
    for run in runs:
        print(run.get("restart", ""))
    save(args.json, records(runs), runs)


if __name__ == "__main__":
    main()
