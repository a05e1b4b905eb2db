"""Streams of which it is known whose they are: each frontend's in turn, while the others stand."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from fault_streams import Seen, Streams
from octavo_server import Server, wait_for

Run = Future[list[Seen]]


@contextmanager
def running_on_each(
    server: Server, count: int, max_tokens: int
) -> Iterator[tuple[list[Streams], list[Run]]]:
    """`count` streams on each frontend that have all begun, and what each is going to have seen."""
    names = sorted(name for name in server.children() if name.startswith("frontend"))
    with ThreadPoolExecutor(len(names)) as pool:
        made = [Streams(server.url, count, max_tokens) for _ in names]
        runs = []
        for name, streams in zip(names, made, strict=True):
            with alone(server, name, names):
                runs.append(pool.submit(streams.run))
                wait_for(lambda: streams.begun, 30)  # noqa: B023
        yield made, runs


@contextmanager
def alone(server: Server, name: str, names: Sequence[str]) -> Iterator[None]:
    """Whoever connects meanwhile is this one's: no other can accept."""
    others = [pid for other, pid in server.children().items() if other in names and other != name]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: all(state_of(pid) == "T" for pid in others), 5)
        yield
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
