"""What torch and triton take from their environment, to be chosen before they are imported.

Without a GPU, Triton kernels run in its interpreter. One thread computes: tensors of tests are
tiny, and two threads would wait for one another most of the time.
"""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
if not Path("/dev/nvidia0").exists():
    os.environ["TRITON_INTERPRET"] = "1"

# A shell has its background jobs ignore Ctrl-C, and so would all that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What thousands of tests and their imports made stays: no collection need look at it."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # libraries complain of what is left at the end
