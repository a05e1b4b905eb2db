"""A mount namespace of a server's own: `wrap` of Server."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

UNSHARE = ("unshare", "--mount", "--map-root-user", "sh", "-c")


def is_allowed() -> bool:
    command = [*UNSHARE, "mount -t tmpfs none /mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


def with_mount(size: str, folder: str, then: str = 'exec "$@"') -> Sequence[str]:
    """Where `folder` has room for `size` only; `then`: what the shell does there."""
    return (*UNSHARE, f'mount -t tmpfs -o size={size} none "$0" && {then}', folder)
