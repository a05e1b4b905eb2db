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
    k_block: tl.tensor,
    k_head: tl.tensor,
    k_offset: tl.tensor,
    v_block: tl.tensor,
    v_head: tl.tensor,
    v_offset: tl.tensor,
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
    kv_head = tl.program_id(1)
    row = _row_of_tile(tile, query_start_ptr, num_rows, TOKENS)
    start = tl.load(query_start_ptr + row)
    end = tl.load(query_start_ptr + row + 1)
    first = start + (tile - start // TOKENS - row) * TOKENS
    # The last row's spare tiles write the zeros of the padding behind it.
    limit = tl.where(row == num_rows - 1, num_tokens, end)
    if first >= limit:
        return
    m = tl.arange(0, BLOCK_M)
    token = first + m // GROUP
    head = kv_head * GROUP + m % GROUP
    in_tile = m < TOKENS * GROUP
    dim = tl.arange(0, DIM_PAD)
    query_at = token.to(tl.int64) * q_token + head * q_head
    seen = in_tile & (token < end)
    query_mask = seen[:, None] & (dim < HEAD_DIM)[None, :]
    q = tl.load(q_ptr + query_at[:, None] + dim[None, :], mask=query_mask, other=0.0)
    seq_len = tl.load(seq_lens_ptr + row)
    position = tl.where(seen, seq_len - end + token, -1)
    high = tl.minimum(seq_len - end + first + TOKENS, seq_len)
    high = tl.where(first < end, high, 0)
    low = seq_len * 0
    if WINDOW > 0:
        low = tl.maximum(seq_len - end + first - WINDOW + 1, 0)
    table = block_tables_ptr + tl.load(slots_ptr + row).to(tl.int64) * table_stride
    acc, _, total = _attend(
        q, position, low, high, low // TILE, tl.cdiv(high, TILE), table,
        k_cache_ptr + kv_head * k_head, v_cache_ptr + kv_head * v_head,
        k_block, k_offset, v_block, v_offset, scale,
        HEAD_DIM, DIM_PAD, BLOCK_SIZE, BLOCK_M, TILE, WINDOW, SOFT_CAP,
    )  # fmt: skip
    acc = acc / tl.where(total > 0, total, 1.0)[:, None]
    heads = tl.num_programs(1) * GROUP
    out_at = (token.to(tl.int64) * heads + head) * HEAD_DIM
    out_mask = (in_tile & (token < limit))[:, None] & (dim < HEAD_DIM)[None, :]
    out = acc.to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + out_at[:, None] + dim[None, :], out, mask=out_mask)


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
    k_block: tl.tensor,
    k_head: tl.tensor,
    k_offset: tl.tensor,
    v_block: tl.tensor,
    v_head: tl.tensor,
    v_offset: tl.tensor,
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
    dim = tl.arange(0, DIM_PAD)
    inside = (m < GROUP)[:, None] & (dim < HEAD_DIM)[None, :]
    query_at = row.to(tl.int64) * q_token + head * q_head
    q = tl.load(q_ptr + query_at[:, None] + dim[None, :], mask=inside, other=0.0)
    position = tl.where(m < GROUP, seq_len - 1, -1)
    table = block_tables_ptr + tl.load(slots_ptr + row).to(tl.int64) * table_stride
    acc, top, total = _attend(
        q, position, low, seq_len, first_tile, end_tile, table,
        k_cache_ptr + kv_head * k_head, v_cache_ptr + kv_head * v_head,
        k_block, k_offset, v_block, v_offset, scale,
        HEAD_DIM, DIM_PAD, BLOCK_SIZE, BLOCK_M, TILE, WINDOW, SOFT_CAP,
    )  # fmt: skip
    total = tl.where(total > 0, total, 1.0)
    out = (acc / total[:, None]).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + (cell * HEAD_DIM)[:, None] + dim[None, :], out, mask=inside)
    if SPLIT:
        tl.store(lse_ptr + cell, top + tl.log2(total), mask=m < GROUP)


@triton.jit
def _attend(
    q: tl.tensor,
    position: tl.tensor,
    low: tl.tensor,
    high: tl.tensor,
    first_tile: tl.tensor,
    end_tile: tl.tensor,
    table: tl.tensor,
    k_base: tl.tensor,
    v_base: tl.tensor,
    k_block: tl.tensor,
    k_offset: tl.tensor,
    v_block: tl.tensor,
    v_offset: tl.tensor,
    scale: tl.tensor,
    HEAD_DIM: tl.constexpr,
    DIM_PAD: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    TILE: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFT_CAP: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """q [BLOCK_M, DIM_PAD] at `position` [BLOCK_M] over the tiles first_tile..end_tile, of which
    the positions low..high are read -> (weighted values, score maxima, weight sums), float32;
    scores in base 2."""
    dim = tl.arange(0, DIM_PAD)
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
        k_at = block * k_block + at % BLOCK_SIZE * k_offset
        v_at = block * v_block + at % BLOCK_SIZE * v_offset
        k = tl.load(k_base + k_at[:, None] + dim[None, :], mask=inside, other=0.0)
        v = tl.load(v_base + v_at[:, None] + dim[None, :], mask=inside, other=0.0)
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
    return acc, top, total


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
