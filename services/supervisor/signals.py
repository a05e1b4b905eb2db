"""SIGTERM and SIGINT as bytes on a pipe, for a loop that waits on pipes."""

from __future__ import annotations

import contextlib
import os
import signal
from types import TracebackType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequested(Exception):
    """Somebody asked this server to stop."""


class StopSignals:
    """While entered, stop signals are counted and wake whoever watches `fd`."""

    def __init__(self) -> None:
        self.count = 0
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)

    def __enter__(self) -> StopSignals:
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            signal.signal(number, lambda *_: None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What is left is to exit with the code that was decided: a late signal must not change it.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        os.close(self._write_fd)
        os.close(self.fd)

    def received(self) -> int:
        """How many have come so far."""
        with contextlib.suppress(BlockingIOError):
            self.count += len(os.read(self.fd, 512))
        return self.count

    def raise_if_received(self) -> None:
        if self.received():
            raise StopRequested
