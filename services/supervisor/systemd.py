"""systemd's notify protocol: a datagram of NAME=value lines (sd_notify(3))."""

from __future__ import annotations

import socket
from collections.abc import Mapping


class Notifier:
    """Speaks to the service manager where NOTIFY_SOCKET is set, else to nobody."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte of an abstract socket.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._kept: dict[str, str] = {}
        """What could not be said yet, and must be."""

    def ready(self, status: str) -> None:
        self._say({"READY": "1", "STATUS": status})

    def status(self, text: str) -> None:
        self._say({"STATUS": text})

    def watchdog(self) -> None:
        self._say({})
        self._send("WATCHDOG=1")

    def stopping(self, seconds: float) -> None:
        """It may take so long, whatever the unit's TimeoutStopSec says."""
        longer = str(int(seconds * 1e6))
        self._say({"STOPPING": "1", "STATUS": "draining", "EXTEND_TIMEOUT_USEC": longer})

    def _say(self, news: dict[str, str]) -> None:
        """Now, or with the next sign of life."""
        self._kept |= news
        if self._kept and self._send("\n".join(map("=".join, self._kept.items()))):
            self._kept.clear()

    def _send(self, text: str) -> bool:
        """False: the socket is full. We do not wait: who reads it may hang."""
        if not self._address:
            return True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.setblocking(False)
                channel.connect(self._address)
                channel.send(text.encode())
        except BlockingIOError:
            return False
        except OSError:
            return True  # there is nobody
        return True
