"""Rotation with KV write: `python bench/kernels/rotary.py`. Bytes: read plus written."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.kernels.kernel_timing import report, start
from octavo.kernels import ops

HEADS, KV_HEADS, DIM, BLOCK_SIZE = 32, 8, 128, 64


def main() -> None:
    copy = start("rotary_and_kv_write (bfloat16)")
    for tokens in (1, 32, 256, 2048, 8192):
        rotary(tokens, copy)


def rotary(tokens: int, copy: float) -> None:
    make = {"dtype": torch.bfloat16, "device": "cuda"}
    packed = torch.randn(tokens, HEADS + 2 * KV_HEADS, DIM, **make)  # type: ignore[call-overload]
    q, k, v = packed.split((HEADS, KV_HEADS, KV_HEADS), dim=1)
    blocks = tokens // BLOCK_SIZE + 1
    k_cache = torch.empty(blocks, KV_HEADS, BLOCK_SIZE, DIM, **make)  # type: ignore[call-overload]
    v_cache = torch.empty_like(k_cache)
    positions = torch.arange(tokens, dtype=torch.int32, device="cuda")
    cos_sin = torch.randn(tokens, DIM, device="cuda")
    slots = positions.long()

    def call() -> None:
        ops.rotary_and_kv_write(q, k, v, positions, cos_sin, slots, k_cache, v_cache)

    moved = 2 * packed.numel() * packed.element_size() + cos_sin.numel() * 4
    report(f"rotary {tokens}", call, moved, copy)


if __name__ == "__main__":
    main()
