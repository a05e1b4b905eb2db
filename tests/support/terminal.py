"""A command in a pseudo-terminal, driven as a person would."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 20.0
ESCAPES = re.compile(r"\x1b\[[?\d;]*[a-zA-Z]")


class Terminal:
    """`raw`: all that was written so far."""

    def __init__(self, *argv: str, **variables: str) -> None:
        self._master, slave = pty.openpty()
        environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "octavo.services.launch", *argv],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment, "TERM": "xterm", **variables},
        )
        os.close(slave)
        self.raw = ""

    @property
    def text(self) -> str:
        return ESCAPES.sub("", self.raw)

    def wait_for(self, text: str, after: int = 0) -> int:
        """Until `text` stands behind position `after`; returns where it ends."""
        self.wait_until(lambda: text in self.text[after:], text)
        return self.text.index(text, after) + len(text)

    def wait_until(self, condition: Callable[[], bool], what: str = "it") -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline or not self._read(0.2):
                raise AssertionError(f"{what!r} did not come; there is {self.text[-2000:]!r}")

    def _read(self, seconds: float) -> bool:
        """False: all is read."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            part = os.read(self._master, 1 << 16)
        except OSError:  # what Linux says when the other side is closed
            return False
        self.raw += part.decode(errors="replace")
        return bool(part)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """The exit code, once all is read."""
        deadline = time.monotonic() + PATIENCE
        while self._read(0.2) and time.monotonic() < deadline:
            pass
        return self.process.wait(5)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self._master)


@contextmanager
def terminal(*argv: str, **variables: str) -> Iterator[Terminal]:
    running = Terminal(*argv, **variables)
    try:
        yield running
    finally:
        running.close()
