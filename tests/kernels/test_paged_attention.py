"""Paged attention against the float64 reference; pages that no row owns hold NaN."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from kernel_batches import Case, build, plan

from octavo.kernels import reference
from octavo.kernels.paged_attention import paged_attention
from octavo.kernels.shared_memory import Tile
from octavo.kernels.tuning import using
from octavo.kernels.tuning_choices import ByKind, Decode, Loop, Tuning

Options = dict[str, float]
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def check(case: Case, device: str, window: int = 0, soft_cap: float = 0.0) -> None:
    inputs = build(case, device)
    exact = inputs.to_float64()
    scale = case.dim**-0.5
    ours = paged_attention(
        inputs.q, inputs.k_cache, inputs.v_cache, inputs.batch, scale, window, soft_cap
    )
    expected = reference.paged_attention(
        exact.q, exact.k_cache, exact.v_cache, exact.batch, scale, window, soft_cap
    )
    starts = inputs.batch.query_start.tolist()
    for row, length in enumerate(case.lengths):
        part = slice(starts[row], starts[row + 1])
        if part.start == part.stop:
            continue
        if length == 0:
            assert ours[part].isfinite().all()
            continue
        error = (ours[part].double() - expected[part]).norm() / expected[part].norm()
        assert error < TOLERANCE[case.dtype], (row, length, error)


SMALL = [
    (Case([1, 1, 1], [5, 37, 64]), 0, 0.0),
    (Case([7, 1, 20], [7, 50, 33], heads=6, kv_heads=2, dim=24), 0, 0.0),
    (Case([1, 1], [90, 3], heads=8, kv_heads=1, dim=72, block_size=32), 17, 0.0),
    (Case([30, 5], [70, 5], block_size=64), 9, 5.0),
    (Case([1, 1, 1], [70, 0, 1]), 0, 3.0),
    (Case([2, 0, 3], [8, 20, 3]), 0, 0.0),
    (Case([1, 1, 1], [600, 0, 270], heads=2, kv_heads=1, dim=16), 0, 0.0),
    (Case([1, 1, 1], [600, 2, 530], heads=2, kv_heads=1, dim=16), 280, 4.0),
]


@pytest.mark.parametrize(("case", "window", "soft_cap"), SMALL)
def test_small_batches(case: Case, window: int, soft_cap: float, device: str) -> None:
    check(case, device, window, soft_cap)


def _small_tiles(keys: Any) -> Tuning:
    loops = ByKind(*[Loop(keys, 4, 2)] * 3)
    decode = Decode(programs_per_sm=1, few_per_sm=0, few=loops, many=loops)
    return Tuning(decode, ByKind(*[Tile(16, keys, 4, 2)] * 3))


@pytest.mark.parametrize("keys", [16, 32])
@pytest.mark.parametrize("block_size", [16, 64])
def test_small_tiles_give_the_same_results(keys: int, block_size: int, device: str) -> None:
    common: dict[str, Any] = {"block_size": block_size, "dim": 32}
    with using(torch.empty(0, device=device).device, _small_tiles(keys)):
        check(Case([1, 1, 1, 1], [5, 300, 0, 64], **common), device)
        check(Case([1, 1], [300, 77], **common), device, window=50)
        check(Case([20, 1, 7], [90, 33, 7], **common), device, soft_cap=5.0)


def test_tokens_behind_the_last_row_give_zeros(device: str) -> None:
    inputs = build(Case([3, 20], [40, 20]), device)
    padding = torch.full((40, *inputs.q.shape[1:]), float("nan"), device=device)
    padded = torch.cat([inputs.q, padding])
    bare, out = (
        paged_attention(q, inputs.k_cache, inputs.v_cache, batch, 0.1)
        for q, batch in ((inputs.q, inputs.batch), (padded, replace(inputs.batch, padded=True)))
    )
    assert torch.equal(out[:23], bare)
    assert not out[23:].any()


def test_shapes_that_do_not_fit_are_refused(device: str) -> None:
    inputs = build(SMALL[0][0], device)
    with pytest.raises(ValueError, match="does not fit"):
        paged_attention(inputs.q[:, :3], inputs.k_cache, inputs.v_cache, inputs.batch, 1.0)
    with pytest.raises(ValueError, match="do not fit"):
        paged_attention(inputs.q, inputs.k_cache, inputs.v_cache[1:], inputs.batch, 1.0)


BLOCK_SIZES = [32, 64]
"""Of which only the second suits the kernels in Gluon."""
GROUPS = [(8, 8), (16, 4), (28, 4), (32, 2), (16, 1)]


@pytest.mark.gpu
@pytest.mark.parametrize("dim", [64, 72, 80, 96, 128, 192, 256])
@pytest.mark.parametrize("block_size", [16, 64])
def test_head_dims(dim: int, block_size: int) -> None:
    common: dict[str, Any] = {"dim": dim, "block_size": block_size, "heads": 8, "kv_heads": 2}
    for dtype in (torch.bfloat16, torch.float32):
        check(Case([1] * 5, [1, 63, 64, 65, 1000], dtype=dtype, **common), "cuda")
        check(Case([1, 64, 130, 7], [300, 64, 513, 7], dtype=dtype, **common), "cuda")


@pytest.mark.gpu
@pytest.mark.parametrize(("heads", "kv_heads"), GROUPS)
def test_groups(heads: int, kv_heads: int) -> None:
    common: dict[str, Any] = {"dim": 128, "heads": heads, "kv_heads": kv_heads, "block_size": 64}
    for dtype in (torch.bfloat16, torch.float16):
        check(Case([1] * 3, [77, 1, 2049], dtype=dtype, **common), "cuda")
        check(Case([5, 1, 300], [5, 900, 420], dtype=dtype, **common), "cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("window", [1, 100, 4096])
@pytest.mark.parametrize("soft_cap", [0.0, 20.0])
def test_windows_and_caps(window: int, soft_cap: float) -> None:
    common: dict[str, Any] = {"dim": 128, "heads": 8, "kv_heads": 2, "dtype": torch.bfloat16}
    check(Case([1] * 4, [1, 99, 101, 5000], **common), "cuda", window, soft_cap)
    check(Case([200, 1, 64], [200, 5000, 4100], **common), "cuda", window, soft_cap)


@pytest.mark.gpu
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_ragged_lengths_to_32k(block_size: int) -> None:
    lengths = [1, 17, 32768, 100, 4096, 31999, 2, 20000]
    common: dict[str, Any] = {
        "dim": 128,
        "heads": 8,
        "kv_heads": 2,
        "block_size": block_size,
        "dtype": torch.bfloat16,
    }
    check(Case([1] * 8, lengths, **common), "cuda")
    check(Case([1, 17, 64, 1, 33, 5, 2, 128], lengths, **common), "cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("queries", [[1, 1, 1], [1, 64, 1]])
def test_context_of_128k(queries: list[int]) -> None:
    lengths = [131072, 131000, 5]
    common: dict[str, Any] = {"dim": 128, "heads": 8, "kv_heads": 2, "block_size": 64}
    check(Case(queries, lengths, dtype=torch.bfloat16, **common), "cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [31, 32, 33, 1024])
def test_many_rows(rows: int) -> None:
    """Around the number that the kernel for few rows takes, and as many as a server runs."""
    lengths = [(37 * row) % 900 for row in range(rows)]
    common: dict[str, Any] = {"dim": 128, "heads": 8, "kv_heads": 2, "block_size": 64}
    check(Case([1] * rows, lengths, dtype=torch.bfloat16, **common), "cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize("queries", [[1, 1], [9, 100]])
def test_pages_beyond_32_bit_offsets(queries: list[int], block_size: int) -> None:
    common: dict[str, Any] = {"heads": 8, "kv_heads": 8, "dim": 128, "block_size": block_size}
    case = Case(queries, [700, 130], dtype=torch.bfloat16, **common)
    inputs = build(case, "cuda")
    small = inputs.k_cache.shape[0]
    shift = 2**31 // inputs.k_cache[0].numel()
    k_cache, v_cache = (
        torch.empty((shift + small, *cache.shape[1:]), dtype=cache.dtype, device="cuda")
        for cache in (inputs.k_cache, inputs.v_cache)
    )
    k_cache[shift:], v_cache[shift:] = inputs.k_cache, inputs.v_cache
    moved = replace(inputs.batch, block_tables=inputs.batch.block_tables + shift)
    expected = paged_attention(inputs.q, inputs.k_cache, inputs.v_cache, inputs.batch, 0.1)
    assert torch.equal(paged_attention(inputs.q, k_cache, v_cache, moved, 0.1), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_one_graph_serves_any_lengths(block_size: int) -> None:
    common: dict[str, Any] = {"heads": 8, "kv_heads": 2, "dim": 128, "block_size": block_size}
    case = Case([1] * 4, [500, 30, 1, 800], dtype=torch.bfloat16, **common)
    first = build(case, "cuda")
    out = paged_attention(first.q, first.k_cache, first.v_cache, first.batch, 0.1)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = paged_attention(first.q, first.k_cache, first.v_cache, first.batch, 0.1)
    for lengths in ([3, 30, 0, 64], [500, 1, 1, 799]):
        first.batch.seq_lens.copy_(torch.tensor(lengths))
        plan(first.batch)
        graph.replay()
        expected = reference.paged_attention(
            first.q, first.k_cache, first.v_cache, first.batch, 0.1
        )
        assert (out - expected).abs().max() < 0.05
