"""Helper processes: they do what might go wrong, so that no process that matters has to.

A helper is asked on its stdin and answers on its stdout, in order, by frames: a length of four
bytes, then a body. The first frame in is its configuration. Whatever goes over its limits of
processor time or address space ends it, and its parent starts another. Here is the helper's side;
the parent's is `services/frontend/helper`.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from octavo.shared.parent import die_with_parent

LENGTH = struct.Struct("<I")
MAX_FRAME = 32 << 20


def adopt() -> None:
    """Die with the parent, and when it says so; no core dumps of strangers' data."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    die_with_parent(parser.parse_args().parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def questions() -> Iterator[bytes]:
    """The bodies that come, until the parent closes the pipe."""
    while (body := read_frame(sys.stdin.buffer.read)) is not None:
        yield body


def reply(body: bytes) -> None:
    sys.stdout.buffer.write(frame(body))
    sys.stdout.buffer.flush()


@contextlib.contextmanager
def processor_seconds(seconds: float) -> Iterator[None]:
    """Unlike an alarm, the timer counts processor time, and its signal kills: no handler has to
    get a turn while foreign code runs."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)


def address_space() -> int:
    """Bytes that are mapped now."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def limit_memory(address_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (address_bytes, address_bytes))


def frame(body: bytes) -> bytes:
    return LENGTH.pack(len(body)) + body


def read_frame(read: Callable[[int], bytes]) -> bytes | None:
    """The next frame's body from a blocking, buffered `read`; None at the end."""
    head = read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    body = read(size) if size <= MAX_FRAME else b""
    return body if len(body) == size else None
