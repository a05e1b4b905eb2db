"""A layer's elementwise kernels: `python bench/kernels/rms_norm.py`. Bytes: read and written."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.kernels.kernel_timing import report, start
from octavo.kernels import ops

HIDDEN, INTERMEDIATE = 4096, 14336


def main() -> None:
    copy = start("rms_norm, add_rms_norm, silu_and_mul (bf16)")
    weight = torch.randn(HIDDEN, dtype=torch.bfloat16, device="cuda")
    for rows in (1, 64, 256, 4096, 16384):
        _measure(rows, weight, copy)


def _measure(rows: int, weight: torch.Tensor, copy: float) -> None:
    x, residual = torch.randn(2, rows, HIDDEN, dtype=torch.bfloat16, device="cuda")
    gate_up = torch.randn(rows, 2 * INTERMEDIATE, dtype=torch.bfloat16, device="cuda")
    moved = rows * HIDDEN * 2
    report(f"rms_norm {rows} rows", lambda: ops.rms_norm(x, weight, 1e-6), 2 * moved, copy)
    name = f"add_rms_norm {rows} rows"
    report(name, lambda: ops.add_rms_norm(x, residual, weight, 1e-6), 4 * moved, copy)
    name, moved = f"silu_and_mul {rows} rows", rows * INTERMEDIATE * 2
    report(name, lambda: ops.silu_and_mul(gate_up), 3 * moved, copy)


if __name__ == "__main__":
    main()
