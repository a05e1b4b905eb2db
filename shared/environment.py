"""The environment is read here and in `octavo.services.launch`, nowhere else."""

from __future__ import annotations

import os


def environment() -> dict[str, str]:
    """A copy of this process's environment, to be handed down as a value."""
    return dict(os.environ)
