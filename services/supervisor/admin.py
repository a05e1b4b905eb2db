"""The admin socket: what may be asked of a running server, by its own user and root alone.

A 0600 unix socket, one JSON line each way: {"command": "status"}. It is not reachable over HTTP.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from octavo.shared.errors import ConfigError

log = logging.getLogger(__name__)

PATIENCE = 0.2
"""Seconds that a client gets in all to say what it wants: the supervisor waits for it."""
ANSWER_PATIENCE = 5.0
LONGEST = 4096
ROOT = 0

Handler = Callable[[], Any]
"""Answers with something that JSON has."""


class Ask(msgspec.Struct):
    command: str


def default_path(port: int) -> Path:
    """By user and port: no two servers share one."""
    return Path(tempfile.gettempdir()) / f"octavo-{os.getuid()}-{port}.admin"


class AdminSocket:
    """`handlers`: by command. A server that cannot have its socket runs without it."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.setblocking(False)
        try:
            _make_room(path)
            umask = os.umask(0o177)
            try:
                self._listener.bind(str(path))
            finally:
                os.umask(umask)
            self._listener.listen(8)
        except OSError as error:
            log.warning("no admin socket at %s: %s", path, error.strerror)
            self._listener.close()

    def fileno(self) -> int:
        """-1: there is none."""
        return self._listener.fileno()

    def serve(self) -> None:
        """Answer whoever waits."""
        if self.fileno() < 0:
            return
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError):
                    answer = self._answer(_read_line(connection))
                    connection.settimeout(PATIENCE)
                    connection.sendall(msgspec.json.encode(answer))

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            handler = self._handlers[msgspec.json.decode(line, type=Ask).command]
        except (msgspec.DecodeError, KeyError):
            return {"error": "unknown command; there are " + ", ".join(sorted(self._handlers))}
        return {"ok": handler()}

    def close(self) -> None:
        if self.fileno() >= 0:
            self._listener.close()
            self._path.unlink(missing_ok=True)


def ask(path: Path, command: str) -> Any:
    """A server's answer. Raises ConfigError where there is none, or it refuses."""
    try:
        if not is_believed(path.stat().st_uid, path.parent.stat().st_mode, os.getuid()):
            raise ConfigError(f"{path} belongs to somebody else")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_PATIENCE)
            connection.connect(str(path))
            connection.sendall(msgspec.json.encode(Ask(command)) + b"\n")
            found = msgspec.json.decode(b"".join(iter(lambda: connection.recv(LONGEST), b"")))
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"no server answers at {path}") from error
    if "error" in found:
        raise ConfigError(found["error"])
    return found["ok"]


def is_believed(owner: int, folder_mode: int, caller: int) -> bool:
    """Whether `caller` takes a socket for a server's. Root does of any user, but not in a folder
    like /tmp, where anybody may have put one."""
    return owner == caller or (caller == ROOT and not folder_mode & stat.S_IWOTH)


def _read_line(connection: socket.socket) -> bytes:
    """Raises TimeoutError, however slowly it comes."""
    line, deadline = b"", time.monotonic() + PATIENCE
    while not line.endswith(b"\n") and len(line) < LONGEST:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        if not (part := connection.recv(LONGEST)):
            break
        line += part
    return line


def _make_room(path: Path) -> None:
    """Remove what a server that was killed has left. Raises OSError for a live server's socket:
    it stays with that, though this one may be about to find its port in use."""
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.getuid():
            return
        if _is_live(path):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        path.unlink()


def _is_live(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PATIENCE)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
