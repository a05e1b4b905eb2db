"""A kernel that reads where nothing is: the device is of no use to this process afterwards."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

FAR = 1 << 42
"""Elements past the end."""


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(x_ptr: tl.tensor, far: tl.tensor) -> None:
    tl.store(x_ptr, tl.load(x_ptr + far))


def read() -> None:
    _kernel[(1,)](torch.zeros(4, device="cuda"), FAR)
