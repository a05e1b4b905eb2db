"""Paged attention on one GPU: microseconds, bytes read and operations a second.

    python bench/kernels/paged_attention.py [--heads 32] [--kv-heads 8] [--dim 128]
        [--block-size 64] [--only decode] [--repetitions 3] [--json FILE]

bf16, random pages in random order. The bytes are those of the keys and values that a batch sees,
once each; the operations are those of the causal half.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import triton.testing

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.results import Record, add_json_option, record, save
from octavo.kernels.attention_plan import make_work_lists, plan_attention
from octavo.kernels.batch import ForwardBatch
from octavo.kernels.paged_attention import paged_attention

K = 1024


@dataclass(frozen=True)
class Load:
    """`rows`: (queries, sequence length) of each sequence."""

    name: str
    rows: list[tuple[int, int]]


@dataclass(frozen=True)
class Shape:
    heads: int
    kv_heads: int
    dim: int
    block_size: int


LOADS = [
    Load("decode 1x1k", [(1, K)]),
    Load("decode 8x1k", [(1, K)] * 8),
    Load("decode 16x2k", [(1, 2 * K)] * 16),
    Load("decode 32x1k", [(1, K)] * 32),
    Load("decode 64x0.5k", [(1, K // 2)] * 64),
    Load("decode 64x4k", [(1, 4 * K)] * 64),
    Load("decode 256x1k", [(1, K)] * 256),
    Load("decode 32x128+32x4k", [(1, 128)] * 32 + [(1, 4 * K)] * 32),
    Load("decode 2x32k+30x4k", [(1, 32 * K)] * 2 + [(1, 4 * K)] * 30),
    Load("decode 1x128k+31x4k", [(1, 128 * K)] + [(1, 4 * K)] * 31),
    Load("prefill 512", [(512, 512)]),
    Load("prefill 2k", [(2 * K, 2 * K)]),
    Load("prefill 8k", [(8 * K, 8 * K)]),
    Load("extend 1k on 2k", [(K, 3 * K)]),
    Load("extend 2x1k on 4k", [(K, 5 * K)] * 2),
    Load("mixed 1x1k+64x1k", [(K, K)] + [(1, K)] * 64),
]


def build(load: Load, shape: Shape) -> tuple[torch.Tensor, torch.Tensor, ForwardBatch]:
    """(q, K and V caches [2, blocks, Hkv, block_size, D], batch), on the GPU."""
    torch.manual_seed(0)
    queries, lengths = zip(*load.rows, strict=True)
    pages = [-(-length // shape.block_size) for length in lengths]
    blocks = torch.split(torch.randperm(sum(pages)).int(), pages)
    tables = torch.nn.utils.rnn.pad_sequence(list(blocks), batch_first=True)
    starts = torch.tensor([0, *queries]).cumsum(0).int()
    nothing = torch.zeros(0, device="cuda")
    longer = [count for count in queries if count > 1]
    heads = (shape.heads, shape.kv_heads, shape.dim)
    where = torch.device("cuda", torch.cuda.current_device())
    work = make_work_lists(len(pages), sum(queries), *heads, torch.bfloat16, where)
    batch = ForwardBatch(
        positions=nothing,
        slot_mapping=nothing,
        block_tables=tables.cuda(),
        slots=torch.arange(len(pages), dtype=torch.int32, device="cuda"),
        query_start=starts.cuda(),
        seq_lens=torch.tensor(lengths, dtype=torch.int32, device="cuda"),
        work=work.needed(len(pages) - len(longer) and len(pages), len(longer), sum(longer)),
    )
    plan_attention(batch.work, batch.query_start, batch.seq_lens, batch.slots)
    pool = (2, sum(pages), shape.kv_heads, shape.block_size, shape.dim)
    return _random(sum(queries), shape.heads, shape.dim), _random(*pool), batch


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.bfloat16, device="cuda")


def measure(load: Load, shape: Shape, repetitions: int = 1) -> dict[str, list[float]]:
    """Microseconds, GB/s and TFLOP/s, each the median of many calls, a value a repetition."""
    q, caches, batch = build(load, shape)
    k_cache, v_cache = caches.unbind()

    def call() -> torch.Tensor:
        return paged_attention(q, k_cache, v_cache, batch, shape.dim**-0.5)

    def seconds() -> float:
        return float(triton.testing.do_bench_cudagraph(call, return_mode="median")) * 1e-3

    times = [seconds() for _ in range(repetitions)]
    read = 2 * 2 * shape.kv_heads * shape.dim * sum(length for _, length in load.rows)
    pairs = sum(count * (2 * length - count + 1) / 2 for count, length in load.rows)
    operations = 4 * shape.heads * shape.dim * pairs
    return {
        "us": [time * 1e6 for time in times],
        "GB/s": [read / time * 1e-9 for time in times],
        "TFLOP/s": [operations / time * 1e-12 for time in times],
    }


def records(results: dict[str, dict[str, list[float]]]) -> list[Record]:
    """The rate that bounds each load: bytes for a decode, operations for a prefill."""
    found = []
    for name, result in results.items():
        kind, _, load = name.partition(" ")
        if kind == "decode":
            found.append(record(f"decode_attention {load}", 9, "GB/s", result["GB/s"]))
        elif kind == "prefill":
            found.append(record(f"prefill_attention_{load}", 10, "TFLOP/s", result["TFLOP/s"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--block-size", type=int, default=64)
    parser.add_argument("--only", default="", help="loads whose name holds this")
    parser.add_argument("--repetitions", type=int, default=3)
    add_json_option(parser)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(1, "This benchmark needs a CUDA GPU.\n")
    shape = Shape(args.heads, args.kv_heads, args.dim, args.block_size)
    loads = [load for load in LOADS if args.only in load.name]
    results = {load.name: measure(load, shape, args.repetitions) for load in loads}
    print(f"{'load':22}{'us':>10}{'GB/s':>10}{'TFLOP/s':>10}")
    for name, row in results.items():
        print(f"{name:22}" + "".join(f"{statistics.median(runs):10.1f}" for runs in row.values()))
    save(args.json, records(results), results)


if __name__ == "__main__":
    main()
