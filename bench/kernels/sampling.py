"""Sampling on one GPU: microseconds, and the logits read a second (once).

python bench/kernels/sampling.py [--vocab 32000 128256] [--repetitions 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.kernels.kernel_timing import milliseconds, report, start
from bench.results import Record, add_json_option, record, save
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


GOAL_VOCAB = 128256
GOALS = {
    "random": ("sampling_plain", (512,)),
    "top_k 50, top_p 0.9": ("sampling_filtered", (1, 128, 512)),
}
"""Mode -> name of its records, and the rows that have a goal."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocab", type=int, nargs="+", default=[32000, GOAL_VOCAB])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 128, 256, 512])
    parser.add_argument("--repetitions", type=int, default=3)
    add_json_option(parser)
    args = parser.parse_args()
    copy = start("sample (fp32 logits)")
    records: list[Record] = []
    for vocab in args.vocab:
        for rows in args.rows:
            logits = 3 * torch.randn(rows, vocab, device="cuda")
            for name, mode in MODES.items():
                call = _call(logits, mode)
                report(f"{rows} x {vocab} {name}", call, logits.numel() * 4, copy)
                if vocab == GOAL_VOCAB and rows in GOALS.get(name, ("", ()))[1]:
                    times = [milliseconds(call) for _ in range(args.repetitions)]
                    records.append(record(f"{GOALS[name][0]}_{rows}", 11, "ms", times))
    save(args.json, records)


def _call(logits: torch.Tensor, mode: dict[str, Any]) -> Callable[[], torch.Tensor]:
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

    return call


def _column(rows: int, value: float, dtype: torch.dtype) -> torch.Tensor:
    return torch.full((rows,), value, dtype=dtype, device="cuda")


if __name__ == "__main__":
    main()
