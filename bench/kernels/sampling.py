"""Sampling: `python bench/kernels/sampling.py`. Bytes: one read of the logits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.kernels.kernel_timing import report, start
from octavo.kernels import ops

MODES: dict[str, dict[str, Any]] = {
    "greedy": {"random": False},
    "random": {},
    "top_k 50, top_p 0.9": {"top_k": 50, "top_p": 0.9},
    "top_k 50": {"top_k": 50},
    "top_p 0.9": {"top_p": 0.9},
    "top_k 1000": {"top_k": 1000},
    "top_k 50, top_p 0.9, min_p 0.05": {"top_k": 50, "top_p": 0.9, "min_p": 0.05},
}


def main() -> None:
    copy = start("sample (fp32 logits)")
    for vocab in (32000, 128256):
        for rows in (1, 128, 256, 512):
            logits = 3 * torch.randn(rows, vocab, device="cuda")
            for name, mode in MODES.items():
                _measure(f"{rows} x {vocab} {name}", logits, mode, copy)


def _measure(name: str, logits: torch.Tensor, mode: dict[str, Any], copy: float) -> None:
    rows = len(logits)
    temperature = _column(rows, 1.0, torch.float32)
    top_k = _column(rows, mode.get("top_k", 0), torch.int32)
    top_p = _column(rows, mode.get("top_p", 1.0), torch.float32)
    min_p = _column(rows, mode.get("min_p", 0.0), torch.float32)
    seeds = torch.arange(rows, device="cuda")
    positions = seeds.int()
    random = mode.get("random", True)
    filtered = bool(mode.keys() & {"top_k", "top_p", "min_p"})

    def call() -> torch.Tensor:
        return ops.sample(
            logits,
            temperature,
            top_k,
            top_p,
            min_p,
            seeds,
            positions,
            random=random,
            filtered=filtered,
        )

    report(name, call, logits.numel() * 4, copy)


def _column(rows: int, value: float, dtype: torch.dtype) -> torch.Tensor:
    return torch.full((rows,), value, dtype=dtype, device="cuda")


if __name__ == "__main__":
    main()
