"""What must hold after a fault, whatever it was."""

from __future__ import annotations

import os
from pathlib import Path

from fault_streams import Seen
from octavo_server import Server, wait_for

COUNT = int(os.environ.get("OCTAVO_TEST_STREAMS", "32"))
TOKENS = 60
FLAGS = ("--device", "cpu")


def outcomes(seen: list[Seen]) -> list[tuple[object, ...]]:
    return [one.outcome for one in seen]


class Footprint:
    """What a server holds of the system, to be the same after a fault as before."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._shared_memory = set(os.listdir("/dev/shm"))
        self._children = set(server.children())
        self._descriptors = self._count()

    def _count(self) -> int:
        return len(os.listdir(f"/proc/{self._server.process.pid}/fd"))

    def check(self) -> None:
        """Nothing is left of the fault, and everybody is there again."""
        server = self._server
        server.wait_idle(20)
        wait_for(lambda: set(server.children()) == self._children, 20)
        wait_for(lambda: server.request("GET", "/health")[0] == 200, 20)
        assert not zombies(server.process.pid)
        assert set(os.listdir("/dev/shm")) <= self._shared_memory
        assert self._count() == self._descriptors
        assert not any("Traceback" in line for line in server.lines), "\n".join(server.lines)


def zombies(parent: int) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = entry.read_text().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        if fields[0] == "Z" and int(fields[1]) == parent:
            found.append(name)
    return found


def report(test: str, value: object, limit: object, streams: int = COUNT) -> None:
    """The line that machines read."""
    print(f"fault={test} streams={streams} value={value} limit={limit}")
