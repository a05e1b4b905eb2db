"""Triton bodies of paged attention; `paged_attention` checks and launches them.

A program holds BLOCK_M query rows, which are (token, head of the group) pairs of one KV head, and
walks over the keys that they see in tiles of TILE positions.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=["num_rows", "num_tokens"])
def mixed_kernel(
    out_ptr: tl.tensor,
    q_ptr: tl.tensor,
    k_cache_ptr: tl.tensor,
    v_cache_ptr: tl.tensor,
    block_tables_ptr: tl.tensor,
    slots_ptr: tl.tensor,
    seq_lens_ptr: tl.tensor,
    scale: tl.tensor,
    q_token: tl.tensor,
    q_head: tl.tensor,
    table_stride: tl.tensor,
    query_start_ptr: tl.tensor,
    num_rows: tl.tensor,
    num_tokens: tl.tensor,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DIM_PAD: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    TILE: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFT_CAP: tl.constexpr,
) -> None:
    TOKENS: tl.constexpr = BLOCK_M // GROUP
    # Long rows end with their longest tiles: start them first.
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    row = _row_of_tile(tile, query_start_ptr, num_rows, TOKENS)
    start = tl.load(query_start_ptr + row)
    end = tl.load(query_start_ptr + row + 1)
    first = start + (tile - start // TOKENS - row) * TOKENS
    # The last row's spare tiles write the zeros of the padding behind it.
    limit = tl.where(row == num_rows - 1, num_tokens, end)
    if first >= limit:
        return
    m = tl.arange(0, BLOCK_M)
    token, head = first + m // GROUP, tl.program_id(1) * GROUP + m % GROUP
    in_tile = m < TOKENS * GROUP
    seen = in_tile & (token < end)
    q_at = token.to(tl.int64) * q_token + head * q_head
    q = _load_rows(q_ptr, q_at, seen, HEAD_DIM, DIM_PAD)
    seq_len = tl.load(seq_lens_ptr + row)
    position = tl.where(seen, seq_len - end + token, -1)
    high = tl.where(first < end, tl.minimum(seq_len - end + first + TOKENS, seq_len), 0)
    low = seq_len * 0
    if WINDOW > 0:
        low = tl.maximum(seq_len - end + first - WINDOW + 1, 0)
    table = block_tables_ptr + tl.load(slots_ptr + row).to(tl.int64) * table_stride
    out, _ = _attend(
        q, position, low, high, low // TILE, tl.cdiv(high, TILE),
        table, k_cache_ptr, v_cache_ptr, scale,
        HEAD_DIM, DIM_PAD, BLOCK_SIZE, BLOCK_M, TILE, WINDOW, SOFT_CAP,
    )  # fmt: skip
    cell = token.to(tl.int64) * (tl.num_programs(1) * GROUP) + head
    _store_rows(out_ptr, cell, out, in_tile & (token < limit), HEAD_DIM, DIM_PAD)


@triton.jit
def _load_rows(
    ptr: tl.tensor, at: tl.tensor, live: tl.tensor, HEAD_DIM: tl.constexpr, DIM_PAD: tl.constexpr
) -> tl.tensor:
    dim = tl.arange(0, DIM_PAD)
    mask = live[:, None] & (dim < HEAD_DIM)[None, :]
    return tl.load(ptr + at[:, None] + dim[None, :], mask=mask, other=0.0)


@triton.jit
def _store_rows(
    ptr: tl.tensor,
    cell: tl.tensor,
    values: tl.tensor,
    live: tl.tensor,
    HEAD_DIM: tl.constexpr,
    DIM_PAD: tl.constexpr,
) -> None:
    dim = tl.arange(0, DIM_PAD)
    mask = live[:, None] & (dim < HEAD_DIM)[None, :]
    at = ptr + (cell * HEAD_DIM)[:, None] + dim[None, :]
    tl.store(at, values.to(ptr.dtype.element_ty), mask=mask)


@triton.jit
def _row_of_tile(
    tile: tl.tensor, query_start_ptr: tl.tensor, num_rows: tl.tensor, TOKENS: tl.constexpr
) -> tl.tensor:
    """The row of a tile, when row i's tiles begin at query_start[i] // TOKENS + i: that leaves
    each row room enough, and is found by binary search without a prefix sum of tiles."""
    low = num_rows * 0
    high = num_rows
    while low + 1 < high:
        middle = (low + high) // 2
        if tl.load(query_start_ptr + middle) // TOKENS + middle <= tile:
            low = middle
        else:
            high = middle
    return low


@triton.jit
def decode_kernel(
    out_ptr: tl.tensor,
    lse_ptr: tl.tensor,
    q_ptr: tl.tensor,
    k_cache_ptr: tl.tensor,
    v_cache_ptr: tl.tensor,
    block_tables_ptr: tl.tensor,
    slots_ptr: tl.tensor,
    seq_lens_ptr: tl.tensor,
    scale: tl.tensor,
    q_token: tl.tensor,
    q_head: tl.tensor,
    table_stride: tl.tensor,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DIM_PAD: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    TILE: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFT_CAP: tl.constexpr,
    MIN_TILES: tl.constexpr,
    SPLIT: tl.constexpr,
) -> None:
    """One share of one row. SPLIT: out is float32 [n, Hq, splits, D] with lse (base 2) beside it;
    a share without keys writes lse -inf and no out. Otherwise out is the result [n, Hq, D]."""
    row, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    num_splits = tl.num_programs(2)
    seq_len = tl.load(seq_lens_ptr + row)
    low = seq_len * 0
    if WINDOW > 0:
        low = tl.maximum(seq_len - WINDOW, 0)
    first_tile, end_tile = low // TILE, tl.cdiv(seq_len, TILE)
    share = tl.maximum(tl.cdiv(end_tile - first_tile, num_splits), MIN_TILES)
    first_tile += split * share
    end_tile = tl.minimum(end_tile, first_tile + share)
    m = tl.arange(0, BLOCK_M)
    head = kv_head * GROUP + m
    heads = tl.num_programs(1) * GROUP
    cell = (row.to(tl.int64) * heads + head) * num_splits + split
    if SPLIT:  # noqa: SIM102  (the outer one is decided by the compiler)
        if first_tile >= end_tile:
            tl.store(lse_ptr + cell, tl.full([BLOCK_M], float("-inf"), tl.float32), mask=m < GROUP)
            return
    q_at = row.to(tl.int64) * q_token + head * q_head
    q = _load_rows(q_ptr, q_at, m < GROUP, HEAD_DIM, DIM_PAD)
    position = tl.where(m < GROUP, seq_len - 1, -1)
    table = block_tables_ptr + tl.load(slots_ptr + row).to(tl.int64) * table_stride
    out, lse = _attend(
        q, position, low, seq_len, first_tile, end_tile,
        table, k_cache_ptr, v_cache_ptr, scale,
        HEAD_DIM, DIM_PAD, BLOCK_SIZE, BLOCK_M, TILE, WINDOW, SOFT_CAP,
    )  # fmt: skip
    _store_rows(out_ptr, cell, out, m < GROUP, HEAD_DIM, DIM_PAD)
    if SPLIT:
        tl.store(lse_ptr + cell, lse, mask=m < GROUP)


@triton.jit
def _attend(
    q: tl.tensor,
    position: tl.tensor,
    low: tl.tensor,
    high: tl.tensor,
    first_tile: tl.tensor,
    end_tile: tl.tensor,
    table: tl.tensor,
    k_cache_ptr: tl.tensor,
    v_cache_ptr: tl.tensor,
    scale: tl.tensor,
    HEAD_DIM: tl.constexpr,
    DIM_PAD: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    TILE: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFT_CAP: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """q [BLOCK_M, DIM_PAD] at `position` [BLOCK_M] over the tiles first_tile..end_tile, of which
    the positions low..high are read -> float32 (outputs, logarithms of the weights' sums in base
    2). Rows that see nothing give (0, -inf)."""
    dim = tl.arange(0, DIM_PAD)
    kv_head, kv_heads = tl.program_id(1), tl.num_programs(1)
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, DIM_PAD], tl.float32)
    for tile in range(first_tile, end_tile):
        at = tile * TILE + tl.arange(0, TILE)
        # What lies outside may be anything, NaN too: 0 * NaN would reach the sum.
        live = (at >= low) & (at < high)
        if BLOCK_SIZE >= TILE:
            block = tl.load(table + tile * TILE // BLOCK_SIZE).to(tl.int64) + tl.zeros_like(at)
        else:
            block = tl.load(table + at // BLOCK_SIZE, mask=live, other=0).to(tl.int64)
        inside = live[:, None] & (dim < HEAD_DIM)[None, :]
        cell = (block * kv_heads + kv_head) * BLOCK_SIZE + at % BLOCK_SIZE
        kv_at = cell[:, None] * HEAD_DIM + dim[None, :]
        k = tl.load(k_cache_ptr + kv_at, mask=inside, other=0.0)
        v = tl.load(v_cache_ptr + kv_at, mask=inside, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        if SOFT_CAP > 0.0:
            scores = SOFT_CAP * (1.0 - 2.0 / (tl.exp(scores * (2.0 / SOFT_CAP)) + 1.0))
        visible = live[None, :] & (at[None, :] <= position[:, None])
        if WINDOW > 0:
            visible = visible & (at[None, :] > position[:, None] - WINDOW)
        scores = tl.where(visible, scores * LOG2_E, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, axis=1))
        # A row that has seen nothing yet: any finite maximum keeps -inf - -inf away.
        finite_top = tl.where(new_top == float("-inf"), 0.0, new_top)
        weights = tl.exp2(scores - finite_top[:, None])
        shrink = tl.exp2(top - finite_top)
        total = total * shrink + tl.sum(weights, axis=1)
        acc = acc * shrink[:, None]
        acc = tl.dot(weights.to(v.dtype), v, acc, input_precision="ieee")
        top = new_top
    total = tl.where(total > 0, total, 1.0)
    return acc / total[:, None], top + tl.log2(total)


@triton.jit
def combine_kernel(
    out_ptr: tl.tensor,
    partial_ptr: tl.tensor,
    lse_ptr: tl.tensor,
    head_dim: tl.tensor,
    SPLITS: tl.constexpr,
    DIM_PAD: tl.constexpr,
) -> None:
    """out [n * Hq, D] = the shares' results, weighted by 2 ** lse; zeros where none had keys."""
    cell = tl.program_id(0).to(tl.int64)
    split, dim = tl.arange(0, SPLITS), tl.arange(0, DIM_PAD)
    lse = tl.load(lse_ptr + cell * SPLITS + split)
    top = tl.max(lse, axis=0)
    weight = tl.exp2(lse - tl.where(top == float("-inf"), 0.0, top))
    at = (cell * SPLITS + split)[:, None] * head_dim + dim[None, :]
    written = (lse > float("-inf"))[:, None] & (dim < head_dim)[None, :]
    partial = tl.load(partial_ptr + at, mask=written, other=0.0)
    total = tl.sum(weight, axis=0)
    out = tl.sum(partial * weight[:, None], axis=0) / tl.where(total > 0, total, 1.0)
    at = cell * head_dim + dim
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), mask=dim < head_dim)
