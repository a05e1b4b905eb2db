"""The private folder of a server's sockets: 0700, removed at the end, or by the next server.

A supervisor that is killed leaves its folder behind. Whoever starts removes such: those whose lock
nobody holds any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

PREFIX = "octavo-"
LOCK = "lock"
LONGEST_DIRECTORY = 80
"""An ipc:// path may have 107 bytes with the socket's name."""


@contextmanager
def private_directory() -> Iterator[Path]:
    path = tempfile.mkdtemp(prefix=PREFIX)
    if len(path) > LONGEST_DIRECTORY:
        Path(path).rmdir()
        path = tempfile.mkdtemp(prefix=PREFIX, dir="/tmp")
    with contextlib.suppress(OSError):  # another sweeps too
        sweep(Path(path).parent)
    # What is locked gets the name LOCK only then: nobody takes it for one that was left.
    locked = os.open(f"{path}/{LOCK}.new", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(locked, fcntl.LOCK_EX)
        os.rename(f"{path}/{LOCK}.new", f"{path}/{LOCK}")
        yield Path(path)
    finally:
        rmtree(path, ignore_errors=True)
        os.close(locked)


def sweep(parent: Path) -> None:
    """Remove the folders of servers that are no more, as far as they are ours."""
    for folder in parent.glob(f"{PREFIX}*"):
        found = folder.lstat()
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if ours and (folder / LOCK).exists() and not _is_held(folder / LOCK):
            rmtree(folder, ignore_errors=True)


def _is_held(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
