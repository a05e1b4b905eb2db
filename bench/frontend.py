"""CPU microseconds of the frontend for each streamed one-token event, beside a plain server.

    python bench/frontend.py [--streams 256 1024 2048] [--seconds 5] [--repetitions 3] [--json FILE]

Our frontend runs as the process that it is, on an engine that is a script and gives each stream
a token a step; the plain server (bench/front/plain_server.py) is starlette's StreamingResponse
with json.dumps and nothing else. This process is the client of both. Steps are spaced so that
the events a second are the same for every number of streams, few enough that none are merged.
CPU time is the server process's own, from /proc, while all streams run.

Under load (`--load`), the engine gives tokens faster than either server can send them one by one.
Every stream then runs to its end, and the figure is CPU time by token, less what as many streams of
one token cost: ours merges what has queued, the plain one cannot.
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
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from front_process import HttpProcess, process_config

from bench import shapes
from bench.results import ROOT, Record, add_json_option, record, save
from octavo.services.client.load.streams import Target, Timing, raise_file_limit, stream
from octavo.shared.process import Condition

Found = dict[str, tuple[Record, list[float]]]
Measuring = Callable[[str, int, argparse.Namespace], tuple[Record, list[float]]]
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
            child = HttpProcess(process_config("frontend", folder, folder / "model", vocab))
            try:
                child.tell(Condition("ready"))
                child.wait_ready()
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


def ask(server: Server, tokens: int, timing: Timing) -> Coroutine[Any, Any, None]:
    wanted = {"model": "tiny", "prompt": [300] * 16, "max_tokens": tokens, "stream": True}
    body = json.dumps({**wanted, "ignore_eos": True}).encode()
    return stream(Target(server.url), body, timing)


async def to_the_end(server: Server, streams: int, tokens: int) -> tuple[float, int]:
    """CPU seconds and events of so many streams of so many tokens each."""
    timings = [Timing() for _ in range(streams)]
    cpu = cpu_seconds(server.pid)
    await asyncio.gather(*(ask(server, tokens, timing) for timing in timings))
    if errors := {timing.error for timing in timings if timing.error}:
        raise SystemExit(f"streams failed: {errors}")
    return cpu_seconds(server.pid) - cpu, _events(timings)


async def window(server: Server, streams: int, seconds: float) -> tuple[float, int]:
    """CPU seconds and events of a stretch of time in which all streams run."""
    timings = [Timing() for _ in range(streams)]
    tasks = [asyncio.create_task(ask(server, MAX_TOKENS, timing)) for timing in timings]
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


def measure_load(name: str, streams: int, args: argparse.Namespace) -> tuple[Record, list[float]]:
    """The record, and each run's tokens for an event."""
    costs, merged = [], []
    tokens = streams * (args.load_tokens - 1)
    with SERVERS[name](streams / args.load * 1e3) as server:
        wait_healthy(server.url)
        for _ in range(args.repetitions):
            started, _ = asyncio.run(to_the_end(server, streams, 1))
            cpu, events = asyncio.run(to_the_end(server, streams, args.load_tokens))
            costs.append((cpu - started) / tokens * 1e6)
            merged.append(round(tokens / events, 2))
    return record(f"load_cpu_{name}_{streams}", None, "us", costs), merged


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, nargs="+", default=[256, 1024, 2048])
    parser.add_argument("--events", type=float, default=4000, help="events a second")
    parser.add_argument("--load", type=float, default=200_000, help="tokens a second under load")
    parser.add_argument("--load-tokens", type=int, default=400, help="of each stream under load")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run")
    parser.add_argument("--repetitions", type=int, default=3)
    add_json_option(parser)
    args = parser.parse_args()
    raise_file_limit(max(args.streams))
    paced = run(measure, args, "events as a share of the tokens")
    loaded = run(measure_load, args, "under load, tokens for an event")
    records = [each for each, _ in [*paced.values(), *loaded.values()]]
    notes = {"events_per_token": paced, "tokens_per_event": loaded}
    save(args.json, records, {key: extras(found) for key, found in notes.items()})


def run(measuring: Measuring, args: argparse.Namespace, title: str) -> Found:
    found = {}
    for streams in args.streams:
        for name in SERVERS:
            found[f"{name} {streams}"] = one = measuring(name, streams, args)
            print(f"{name} {streams} streams: {title}: {one[1]}")
    return found


def extras(found: Found) -> dict[str, list[float]]:
    return {title: values for title, (_, values) in found.items()}


if __name__ == "__main__":
    main()
