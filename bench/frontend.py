"""CPU microseconds of the frontend for each streamed one-token event, beside a plain server.

    python bench/frontend.py [--streams 256 1024 2048] [--seconds 5] [--repetitions 3] [--json FILE]

Our frontend runs as the process that it is, on an engine that is a script and gives each stream
a token a step; the plain server (bench/front/plain_server.py) is starlette's StreamingResponse
with json.dumps and nothing else. This process is the client of both. Steps are spaced so that
the events a second are the same for every number of streams, few enough that none are merged.
CPU time is the server process's own, from /proc, while all streams run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from front_process import FrontendProcess

from bench import shapes
from bench.load.client import Target, Timing, raise_file_limit, stream
from bench.results import ROOT, Record, add_json_option, record, save

TICKS = os.sysconf("SC_CLK_TCK")
MAX_TOKENS = 50_000
"""More than any window sees."""
START_SECONDS = 60.0
POLL_SECONDS = 0.05
SETTLE_SECONDS = 0.5
"""Left out after the last stream has begun."""


@dataclass(frozen=True)
class Server:
    url: str
    pid: int


@contextlib.contextmanager
def our_frontend(interval_ms: float) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shapes.write("tiny", folder / "model")
        script = ROOT / "bench" / "front" / "paced_engine.py"
        with _process([str(script), name, str(interval_ms)]):
            vocab = shapes.SHAPES["tiny"]["vocab_size"]
            child = FrontendProcess(folder, folder / "model", vocab)
            try:
                child.wait_ready()
                child.go()
                yield Server(child.url, child.process.pid)
            finally:
                child.close()


@contextlib.contextmanager
def plain_server(interval_ms: float) -> Iterator[Server]:
    script = ROOT / "bench" / "front" / "plain_server.py"
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        number = listener.fileno()
        with _process([str(script), str(number), str(interval_ms)], [number]) as process:
            yield Server(f"http://127.0.0.1:{listener.getsockname()[1]}", process.pid)


@contextlib.contextmanager
def _process(argv: list[str], fds: list[int] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, *argv], pass_fds=fds or [])
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


SERVERS = {"octavo": our_frontend, "starlette": plain_server}


def wait_healthy(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health"):
            return
        time.sleep(POLL_SECONDS)
    raise SystemExit(f"no server at {url} after {START_SECONDS:g} s")


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def window(server: Server, streams: int, seconds: float) -> tuple[float, int]:
    """CPU seconds and events of a stretch of time in which all streams run."""
    wanted = {"model": "tiny", "prompt": [300] * 16, "max_tokens": MAX_TOKENS, "stream": True}
    body = json.dumps({**wanted, "ignore_eos": True}).encode()
    timings = [Timing() for _ in range(streams)]
    target = Target(server.url)
    tasks = [asyncio.create_task(stream(target, body, timing)) for timing in timings]
    try:
        await _all_begun(timings)
        cpu, events = cpu_seconds(server.pid), _events(timings)
        await asyncio.sleep(seconds)
        return cpu_seconds(server.pid) - cpu, _events(timings) - events
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _all_begun(timings: list[Timing]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not all(timing.arrivals for timing in timings):
        errors = {timing.error for timing in timings if timing.error}
        if errors or time.monotonic() > deadline:
            raise SystemExit(f"not all streams began: {errors or 'too slow'}")
        await asyncio.sleep(POLL_SECONDS)
    await asyncio.sleep(SETTLE_SECONDS)


def _events(timings: list[Timing]) -> int:
    return sum(len(timing.arrivals) for timing in timings)


def measure(name: str, streams: int, args: argparse.Namespace) -> tuple[Record, list[float]]:
    """The record, and each run's events as a share of the tokens (below 1: some were merged)."""
    interval = streams / args.events
    costs, shares = [], []
    with SERVERS[name](interval * 1e3) as server:
        wait_healthy(server.url)
        for _ in range(args.repetitions):
            cpu, events = asyncio.run(window(server, streams, args.seconds))
            costs.append(cpu / events * 1e6)
            shares.append(round(events / (args.seconds / interval * streams), 3))
    return record(f"event_cpu_{name}_{streams}", None, "us", costs), shares


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, nargs="+", default=[256, 1024, 2048])
    parser.add_argument("--events", type=float, default=4000, help="events a second")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--repetitions", type=int, default=3)
    add_json_option(parser)
    args = parser.parse_args()
    raise_file_limit(max(args.streams))
    found = {
        (name, streams): measure(name, streams, args)
        for streams in args.streams
        for name in SERVERS
    }
    shares = {f"{name} {streams}": shares for (name, streams), (_, shares) in found.items()}
    for title, values in shares.items():
        print(f"{title} streams: events as a share of the tokens: {values}")
    save(args.json, [each for each, _ in found.values()], {"events_per_token": shares})


if __name__ == "__main__":
    main()
