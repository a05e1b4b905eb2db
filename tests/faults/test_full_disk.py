"""F19: logs, sockets, temporary files and caches on a disk that is full."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fault_checks import COUNT, TOKENS, outcomes, report
from fault_streams import Seen, Streams
from octavo_server import all_children, free_port, parent_of, wait_for

NAMESPACE = ("unshare", "--mount", "--map-root-user", "sh", "-c")
MOUNT = 'mount -t tmpfs -o size=1m none "$0" && cd "$0" && touch log && '
RUN = 'exec "$@" >> log 2>&1'
FILL = "{ dd if=/dev/zero of=fill bs=4k 2>&-; true; } && "
FOLDERS = ("TMPDIR", "HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "TRITON_CACHE_DIR")


def mounts() -> bool:
    """Whether a mount namespace may be had."""
    command = [*NAMESPACE, "mount -t tmpfs none /mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not mounts(), reason="no mount namespace may be had here")


class SmallDisk:
    """A server in a namespace of its own, where `folder` is a disk of 1 MiB."""

    def __init__(self, folder: Path, prepare: str = "") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-P", "-m", "octavo.services.launch", "serve"]
        command += ["--device", "cpu", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*NAMESPACE, MOUNT + prepare + RUN, str(folder), *command],
            env={**os.environ, **dict.fromkeys(FOLDERS, str(folder))},
        )
        self._folder = folder

    @property
    def folder(self) -> Path:
        """As the server sees it."""
        return Path(f"/proc/{self.process.pid}/root{self._folder}")

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def fill(self) -> None:
        """To the last byte of the log's last page."""
        for size in (4096, 1):
            with contextlib.suppress(OSError), self.log.open("ab", buffering=0) as file:
                while True:
                    file.write(b"\n" * size)

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/health").status_code == 200
        except httpx.HTTPError:
            return False


Start = Callable[..., SmallDisk]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Start]:
    started: list[SmallDisk] = []

    def start(prepare: str = "") -> SmallDisk:
        started.append(SmallDisk(tmp_path, prepare))
        wait_for(started[-1].ready, 60)
        return started[-1]

    yield start
    for server in started:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0


def test_f19_the_disk_fills_up(small_disk: Start, reference: list[Seen]) -> None:
    """Nobody fails, even where a process is replaced meanwhile; lost log lines are counted."""
    server = small_disk()
    server.fill()
    seen = Streams(server.url, COUNT, TOKENS).run(lambda: kill_worker(server))
    report("F19 full", sum(not one.done for one in seen), 0)
    assert outcomes(seen) == outcomes(reference)
    os.truncate(server.log, 0)
    kill_worker(server)
    wait_for(lambda: "log lines could not be written" in (server.folder / "log").read_text(), 20)
    wait_for(server.ready, 20)


def test_f19_a_start_on_a_full_disk(small_disk: Start, reference: list[Seen]) -> None:
    server = small_disk(FILL)
    began = time.monotonic()
    assert outcomes(Streams(server.url, 16, TOKENS).run()) == outcomes(reference[:16])
    report("F19 start", round(time.monotonic() - began, 1), "works")


def kill_worker(server: SmallDisk) -> None:
    for name, pid in all_children():
        if name == "worker-0" and parent_of(pid) == server.process.pid:
            os.kill(pid, signal.SIGKILL)
