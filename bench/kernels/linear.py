"""Products with few rows, ours beside torch's: microseconds, and the weight read a second.

    python bench/kernels/linear.py [--rows 1 8 16 32] [--repetitions 3] [--json FILE]

The five shapes of Llama-3.1-8B, bfloat16. As in a decode step every product reads a weight of its
own, behind a norm: more of them in a row than the cache holds, in one CUDA graph; the norm counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.kernels.kernel_timing import milliseconds, start
from bench.results import Record, add_json_option, record, save
from octavo.kernels import ops

SHAPES = {
    "qkv": (6144, 4096),
    "o": (4096, 4096),
    "gate_up": (28672, 4096),
    "down": (4096, 14336),
    "head": (128256, 4096),
}
WEIGHT_BYTES = 900 << 20
"""Of all weights in a row: many times the cache."""

Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
PRODUCTS: dict[str, Product] = {"octavo": ops.linear, "torch": torch.nn.functional.linear}


def weights_of(outputs: int, columns: int) -> list[torch.Tensor]:
    count = max(WEIGHT_BYTES // (2 * outputs * columns), 2)
    return [
        0.02 * torch.randn(outputs, columns, dtype=torch.bfloat16, device="cuda")
        for _ in range(count)
    ]


def microseconds(product: Product, weights: list[torch.Tensor], rows: int) -> float:
    """Of a norm and a product."""
    x = torch.randn(rows, weights[0].shape[1], dtype=torch.bfloat16, device="cuda")
    residual, norm = torch.randn_like(x), torch.ones_like(x[0])

    def call() -> None:
        for weight in weights:
            product(ops.add_rms_norm(x, residual, norm, 1e-5)[0], weight)

    return milliseconds(call) * 1e3 / len(weights)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 16, 32])
    parser.add_argument("--repetitions", type=int, default=3)
    add_json_option(parser)
    args = parser.parse_args()
    start("norm and product (bfloat16)")
    records: list[Record] = []
    for shape, (outputs, columns) in SHAPES.items():
        weights = weights_of(outputs, columns)
        for rows in args.rows:
            for name, product in PRODUCTS.items():
                times = [microseconds(product, weights, rows) for _ in range(args.repetitions)]
                records.append(record(f"linear_{name} {shape} x {rows}", None, "us", times))
        del weights
    save(args.json, records)


if __name__ == "__main__":
    main()
