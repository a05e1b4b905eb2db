"""Without a GPU, Triton kernels run in its interpreter: to be chosen before triton's import."""

from __future__ import annotations

import gc
import os
from pathlib import Path

if not Path("/dev/nvidia0").exists():
    os.environ["TRITON_INTERPRET"] = "1"


def pytest_collection_finish() -> None:
    """What thousands of tests and their imports made stays: no collection need look at it."""
    gc.collect()
    gc.freeze()
