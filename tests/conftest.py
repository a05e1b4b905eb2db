"""Without a GPU, Triton kernels run in its interpreter: to be chosen before triton's import."""

from __future__ import annotations

import os
from pathlib import Path

if not Path("/dev/nvidia0").exists():
    os.environ["TRITON_INTERPRET"] = "1"
