"""Wakeups: sleep until a message or a signal comes."""

from __future__ import annotations

import contextlib
import math
import signal
import socket
from typing import Any

import zmq


class Wakeups:
    """For the main thread. SIGTERM sets `stopping` and ends a `wait`; SIGINT is the parent's."""

    def __init__(self) -> None:
        self.stopping = False
        # zmq resumes its poll after a signal: only a byte in a socket ends it.
        self._signalled, waker = socket.socketpair()
        self._signalled.setblocking(False)
        waker.setblocking(False)
        self._waker = waker
        self._poller = zmq.Poller()
        self.watch(self._signalled)

    def watch(self, source: Any) -> None:
        """A zmq socket or anything with a file descriptor ends a `wait` when readable."""
        self._poller.register(source, zmq.POLLIN)

    def install(self) -> None:
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wake(self) -> None:
        """End a `wait`, from any thread."""
        with contextlib.suppress(BlockingIOError):
            self._waker.send(b"\0")

    def wait(self, seconds: float | None) -> None:
        """Return when a socket is readable, a stop was asked for, or the time has passed."""
        if not self.stopping:
            self._poller.poll(None if seconds is None else max(0, math.ceil(seconds * 1000)))
            with contextlib.suppress(BlockingIOError):
                self._signalled.recv(64)

    def _stop(self, *_: object) -> None:
        self.stopping = True
