"""F19: logs, sockets, temporary files and caches on a disk that is full."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import namespace
import pytest
from fault_checks import COUNT, FLAGS, TOKENS, Footprint, report, wrong
from fault_streams import Seen, Streams
from octavo_server import Server, wait_for

LOG = 'exec "$@" >> log 2>&1'
FILL = "{ dd if=/dev/zero of=fill bs=4k 2>&-; true; } && "
FOLDERS = ("TMPDIR", "HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "TRITON_CACHE_DIR")

pytestmark = pytest.mark.skipif(
    not namespace.is_allowed(), reason="no mount namespace may be had here"
)


class SmallDisk(Server):
    """A server in a namespace of its own, where `folder` is a disk of 1 MiB, with its log."""

    def __init__(self, folder: Path, prepare: str) -> None:
        self._folder = folder
        then = f'cd "$0" && touch log && {prepare}{LOG}'
        wrap = namespace.with_mount("1m", str(folder), then)
        super().__init__(*FLAGS, wrap=wrap, env=dict.fromkeys(FOLDERS, str(folder)))

    @property
    def folder(self) -> Path:
        """As the server sees it."""
        return Path(f"/proc/{self.process.pid}/root{self._folder}")

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def output(self) -> str:
        return self.log.read_text()

    def fill(self) -> None:
        """To the last byte of the log's last page."""
        for size in (4096, 1):
            with contextlib.suppress(OSError), self.log.open("ab", buffering=0) as file:
                while True:
                    file.write(b"\n" * size)

    def ready(self) -> bool:
        assert self.process.poll() is None, self.output
        try:
            return self.request("GET", "/health")[0] == 200
        except OSError:
            return False


Start = Callable[..., SmallDisk]


@pytest.fixture
def small_disk(tmp_path: Path, reference: list[Seen]) -> Iterator[Start]:
    with contextlib.ExitStack() as end:

        def start(prepare: str = "") -> SmallDisk:
            server = SmallDisk(tmp_path, prepare)
            end.callback(stop, server)
            wait_for(server.ready, 60)
            end.callback(Footprint(server, reference).check)
            return server

        yield start


def stop(server: SmallDisk) -> None:
    assert server.stop() == 0


def test_f19_the_disk_fills_up(small_disk: Start, reference: list[Seen]) -> None:
    """Nobody fails, even where a process is replaced meanwhile; lost log lines are counted."""
    server = small_disk()
    server.fill()
    seen = Streams(server.url, COUNT, TOKENS).run(lambda: kill_worker(server))
    report("F19-full-wrong", wrong(seen, reference), 0)
    os.truncate(server.log, 0)
    kill_worker(server)
    wait_for(lambda: "log lines could not be written" in server.output, 20)
    wait_for(server.ready, 20)


def test_f19_a_start_on_a_full_disk(small_disk: Start, reference: list[Seen]) -> None:
    server = small_disk(FILL)
    seen = Streams(server.url, 16, TOKENS).run()
    report("F19-start-wrong", wrong(seen, reference), 0, streams=16)


def kill_worker(server: SmallDisk) -> None:
    os.kill(server.children()["worker-0"], signal.SIGKILL)
