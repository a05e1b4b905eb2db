"""Attention of many rows to the beginning that they share: its keys are read once for all of them.

A program holds the queries of some rows of a group as one tile and attends over a share of the
shared blocks; `decode_attention` merges what comes with each row's own keys (cascade inference,
Ye et al., 2024).
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl

from octavo.kernels.attention_tiles import (
    UNIT,
    attend,
    dim_pad,
    load_rows,
    store_rows,
    tiles_of_share,
)
from octavo.kernels.batch import ForwardBatch
from octavo.kernels.launch import let_next_start, limits, pdl_options, wait_for_inputs
from octavo.kernels.shared_memory import Tile, fitting


def rows_of_item(group: int, head_dim: int, dtype: torch.dtype, device: torch.device) -> int:
    """Rows whose queries one program holds, for `group` query heads a KV head."""
    return tile_of(group, head_dim, dtype, device).rows // group


@functools.cache
def tile_of(group: int, head_dim: int, dtype: torch.dtype, device: torch.device) -> Tile:
    group_pad = triton.next_power_of_2(group)
    stages = 1 if dtype == torch.float32 else 2
    tile = Tile(max(64, group_pad), keys=64, warps=4, stages=stages)
    return fitting(tile, dim_pad(head_dim), dtype.itemsize, limits(device), group_pad)


def partials(
    count: int, kv_heads: int, group_pad: int, pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Room for `count` partial results: (sums [count, Hkv, group, D], logarithms of weights)."""
    shape = (count, kv_heads, group_pad)
    sums = torch.empty((*shape, pad), dtype=torch.float32, device=device)
    return sums, torch.empty(shape, dtype=torch.float32, device=device)


def prefix_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: ForwardBatch,
    scale: float,
    soft_cap: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Attend to `batch.prefixes`; (partial sums, their lse, first, count) for each row's merge."""
    prefixes = batch.prefixes
    if prefixes is None:
        return q, q, batch.seq_lens, batch.seq_lens
    kv_heads, head_dim = k_cache.shape[1], q.shape[2]
    group, pad = q.shape[1] // kv_heads, dim_pad(head_dim)
    group_pad, tile = triton.next_power_of_2(group), tile_of(group, head_dim, q.dtype, q.device)
    sums, lse = partials(prefixes.room, kv_heads, group_pad, pad, q.device)
    _prefix_kernel[(len(prefixes.items), kv_heads)](
        sums,
        lse,
        q,
        k_cache,
        v_cache,
        batch.block_tables,
        prefixes.items,
        prefixes.members,
        prefixes.first,
        scale,
        q.stride(0),
        q.stride(1),
        batch.block_tables.stride(0),
        GROUP=group,
        GROUP_PAD=group_pad,
        HEAD_DIM=head_dim,
        DIM_PAD=pad,
        BLOCK_SIZE=k_cache.shape[2],
        BLOCK_M=tile.rows,
        ROWS=tile.rows // group,
        TILE=tile.keys,
        SOFT_CAP=soft_cap,
        num_warps=tile.warps,
        num_stages=tile.stages,
        **pdl_options(q),
    )
    return sums, lse, prefixes.first, prefixes.count


@triton.jit
def _prefix_kernel(
    partial_ptr: tl.tensor,
    lse_ptr: tl.tensor,
    q_ptr: tl.tensor,
    k_cache_ptr: tl.tensor,
    v_cache_ptr: tl.tensor,
    block_tables_ptr: tl.tensor,
    items_ptr: tl.tensor,
    members_ptr: tl.tensor,
    first_ptr: tl.tensor,
    scale: tl.tensor,
    q_token: tl.tensor,
    q_head: tl.tensor,
    table_stride: tl.tensor,
    GROUP: tl.constexpr,
    GROUP_PAD: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DIM_PAD: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
    SOFT_CAP: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    kv_head, kv_heads = tl.program_id(1), tl.num_programs(1)
    let_next_start(PDL)
    # Items and tables are older than the step's first layer: no kernel that runs writes them.
    item = items_ptr + tl.program_id(0) * 8
    begin, count, slot = tl.load(item), tl.load(item + 1), tl.load(item + 2)
    first_tile, end_tile, number = tl.load(item + 3), tl.load(item + 4), tl.load(item + 5)
    wait_for_inputs(PDL)
    if count == 0:
        return
    m = tl.arange(0, BLOCK_M)
    live = (m // GROUP < count) & (m < ROWS * GROUP)
    token = tl.load(members_ptr + begin + m // GROUP, mask=live, other=0)
    q_at = token.to(tl.int64) * q_token + (kv_head * GROUP + m % GROUP) * q_head
    q = load_rows(q_ptr, q_at, live, HEAD_DIM, DIM_PAD)
    end = end_tile * UNIT
    first_tile, end_tile = tiles_of_share(first_tile, end_tile, end * 0, end, TILE)
    table = block_tables_ptr + slot.to(tl.int64) * table_stride
    acc, lse = attend(
        q, tl.where(live, end, -1), end * 0, end, first_tile, end_tile,
        table, k_cache_ptr, v_cache_ptr, scale, kv_head, kv_heads,
        HEAD_DIM, DIM_PAD, BLOCK_SIZE, BLOCK_M, TILE, 0, SOFT_CAP,
    )  # fmt: skip
    partial = tl.load(first_ptr + token, mask=live, other=0) + number
    cell = (partial.to(tl.int64) * kv_heads + kv_head) * GROUP_PAD + m % GROUP
    store_rows(partial_ptr, cell, acc, live, DIM_PAD, DIM_PAD)
    tl.store(lse_ptr + cell, lse, mask=live)
