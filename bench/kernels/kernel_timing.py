"""What the kernel benchmarks share: timing and one line of a table."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
import triton.testing

COPY_BYTES = 1 << 30


def milliseconds(call: Callable[[], object]) -> float:
    """Median time of a call on the GPU alone: replayed in a CUDA graph, the host out of the way."""
    return float(triton.testing.do_bench_cudagraph(call, rep=50, return_mode="median"))


def copy_rate() -> float:
    """Bytes a second (read plus written) of a plain device copy: the yardstick."""
    source = torch.randint(0, 255, (COPY_BYTES,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / milliseconds(lambda: target.copy_(source)) * 1e3


def report(name: str, call: Callable[[], object], num_bytes: float, yardstick: float) -> None:
    """Print the call's time, its bytes a second, and their share of the copy's."""
    time = milliseconds(call)
    rate = num_bytes / time * 1e3
    print(f"{name:44}{time * 1e3:10.1f} us{rate / 1e12:8.2f} TB/s{rate / yardstick:7.0%}")


def start(title: str) -> float:
    """Print the head of the table; exits with a word where there is no GPU."""
    if not torch.cuda.is_available():
        sys.exit("This benchmark needs a CUDA GPU.")
    torch.manual_seed(0)
    rate = copy_rate()
    print(f"{title}: {torch.cuda.get_device_name()}, copy {rate / 1e12:.2f} TB/s")
    return rate
