"""Decode attention of rows that share a long beginning: together, and each for itself.

python bench/kernels/shared_prefix.py [--rows 64] [--shared 8192] [--own 512] [--json FILE]
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.kernels.kernel_timing import milliseconds
from bench.kernels.paged_attention import Load, Shape, build
from bench.results import add_json_option, record, save
from octavo.kernels.attention_plan import plan_attention
from octavo.kernels.batch import ForwardBatch, PrefixWork
from octavo.kernels.paged_attention import paged_attention
from octavo.kernels.prefix_plan import PrefixGroup, max_room, plan_prefixes

TILE = 64


def share(batch: ForwardBatch, tokens: int, shape: Shape) -> ForwardBatch:
    """Every row with the first row's blocks for its first `tokens`."""
    tables = batch.block_tables.clone()
    tables[:, : tokens // shape.block_size] = tables[0, : tokens // shape.block_size]
    rows = len(batch.slots)
    bounds = rows, batch.work.rows_of_item, batch.work.splits
    plan = plan_prefixes([PrefixGroup(list(range(rows)), 0, tokens // TILE)], *bounds)
    columns = (plan.items, plan.members, plan.tiles, plan.first, plan.count)
    items, members, tiles, first, count = (torch.from_numpy(one).cuda() for one in columns)
    work = PrefixWork(items, members, tiles, first, count, max_room(*bounds))
    shared = replace(batch, block_tables=tables, prefixes=work)
    plan_attention(shared.work, shared.query_start, shared.seq_lens, shared.slots, tiles)
    return shared


def measure(rows: int, shared: int, own: int, shape: Shape) -> tuple[float, float]:
    """Milliseconds (each for itself, together)."""
    load = Load("", [(1, shared + own)] * rows)
    times = []
    for together in (False, True):
        q, caches, batch = build(load, shape)
        if together:
            batch = share(batch, shared, shape)
        k_cache, v_cache = caches.unbind()
        scale = shape.dim**-0.5
        times.append(milliseconds(lambda: paged_attention(q, k_cache, v_cache, batch, scale)))  # noqa: B023  (called at once)
    return times[0], times[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--shared", type=int, default=8192)
    parser.add_argument("--own", type=int, default=512)
    parser.add_argument("--repetitions", type=int, default=3)
    add_json_option(parser)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(1, "This benchmark needs a CUDA GPU.\n")
    shape = Shape(32, 8, 128, 64)
    pairs = [measure(args.rows, args.shared, args.own, shape) for _ in range(args.repetitions)]
    records = [
        record("shared_prefix_decode", 16, "x", [alone / together for alone, together in pairs]),
        record("shared_prefix_together", None, "us", [1e3 * together for _, together in pairs]),
        record("shared_prefix_alone", None, "us", [1e3 * alone for alone, _ in pairs]),
    ]
    save(args.json, records, {"rows": args.rows, "shared": args.shared, "own": args.own})


if __name__ == "__main__":
    main()
