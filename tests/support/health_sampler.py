"""What a load balancer hears meanwhile."""

from __future__ import annotations

import threading
import time
from http.client import HTTPException

from octavo_server import Server

PATHS = ("/health/ready", "/health/live")


class Sampler:
    """Both ten times a second: (time, statuses); 0 is no answer."""

    def __init__(self, server: Server) -> None:
        self.samples: list[tuple[float, int, int]] = []
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.1):
            ready, live = map(self._status, PATHS)
            self.samples.append((time.monotonic(), ready, live))

    def _status(self, path: str) -> int:
        try:
            return self._server.request("GET", path)[0]
        except (OSError, HTTPException):
            return 0

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def first(self, status: int, after: float) -> float:
        """Seconds from `after` until the first such answer."""
        return (
            next(when for when, ready, _ in self.samples if when > after and ready == status)
            - after
        )

    @property
    def unready(self) -> int:
        """Answers that were not 200, of both."""
        return sum(status != 200 for _, *statuses in self.samples for status in statuses)
