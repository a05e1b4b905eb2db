"""Attention of rows with one query token: split over programs by a work list, then merged.

Plain Triton, for every GPU and shape; on Hopper `decode_hopper` takes what it can.

A program attends over one share of a row's keys for one KV head (flash decoding, Dao et al.,
2023). Of a row's shares the last program to finish merges all, in the order of the keys, so the
result does not depend on which one it was.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from octavo.kernels.attention_tiles import (
    attend,
    dim_pad,
    load_rows,
    store_rows,
    tiles_of_share,
)
from octavo.kernels.batch import ForwardBatch
from octavo.kernels.hopper import hopper_module
from octavo.kernels.launch import let_next_start, pdl_options, wait_for_inputs, zeros
from octavo.kernels.prefix_attention import partials, prefix_attention
from octavo.kernels.tuning import decode_launch

HOPPER_GROUP = 16


def decode_attention(
    out: torch.Tensor,
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: ForwardBatch,
    scale: float,
    window: int,
    soft_cap: float,
) -> None:
    """Write out [T, Hq, D] for the rows of `batch.work.shares`; see `paged_attention`."""
    hopper = hopper_module("decode_hopper", q.device)
    if hopper is not None and not window and not soft_cap and _suits_hopper(q, k_cache, batch):
        hopper.decode_attention(out, q, k_cache, v_cache, batch, scale)
    else:
        plain_decode_attention(out, q, k_cache, v_cache, batch, scale, window, soft_cap)


def plain_decode_attention(
    out: torch.Tensor,
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: ForwardBatch,
    scale: float,
    window: int,
    soft_cap: float,
) -> None:
    """As `decode_attention`, on any GPU."""
    kv_heads, head_dim = k_cache.shape[1], q.shape[2]
    group, pad = q.shape[1] // kv_heads, dim_pad(head_dim)
    shares = len(batch.work.shares)
    group_pad = triton.next_power_of_2(group)
    partial, lse = partials(shares, kv_heads, group_pad, pad, q.device)
    prefixes = prefix_attention(q, k_cache, v_cache, batch, scale, soft_cap)
    launch = decode_launch(q.device, q.dtype, head_dim, group)
    tile = launch.tile(shares * kv_heads)
    _decode_kernel[(kv_heads, shares)](
        out,
        partial,
        lse,
        zeros(q.device, shares * kv_heads),
        q,
        k_cache,
        v_cache,
        batch.block_tables,
        batch.work.shares,
        prefixes,
        scale,
        q.stride(0),
        q.stride(1),
        batch.block_tables.stride(0),
        GROUP=group,
        GROUP_PAD=group_pad,
        HEAD_DIM=head_dim,
        DIM_PAD=pad,
        BLOCK_SIZE=k_cache.shape[2],
        BLOCK_M=max(16, group_pad),
        TILE=tile.keys,
        MERGED=launch.merged,
        WINDOW=window,
        SOFT_CAP=soft_cap,
        PREFIXES=batch.prefixes is not None,
        num_warps=tile.warps,
        num_stages=tile.stages,
        **pdl_options(q),
    )


def _suits_hopper(q: torch.Tensor, k_cache: torch.Tensor, batch: ForwardBatch) -> bool:
    return (
        len(batch.work.rows) > 0
        and batch.prefixes is None
        and q.dtype in (torch.bfloat16, torch.float16)
        and q.shape[2] == 128
        and q.shape[1] // k_cache.shape[1] <= HOPPER_GROUP
        and k_cache.shape[2] % 64 == 0
    )


@triton.jit
def _decode_kernel(
    out_ptr: tl.tensor,
    partial_ptr: tl.tensor,
    lse_ptr: tl.tensor,
    counters_ptr: tl.tensor,
    q_ptr: tl.tensor,
    k_cache_ptr: tl.tensor,
    v_cache_ptr: tl.tensor,
    block_tables_ptr: tl.tensor,
    shares_ptr: tl.tensor,
    prefixes: tl.tuple,
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
    TILE: tl.constexpr,
    MERGED: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFT_CAP: tl.constexpr,
    PREFIXES: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    kv_head, kv_heads, share = tl.program_id(0), tl.num_programs(0), tl.program_id(1)
    let_next_start(PDL)
    # Shares and tables are older than the step's first layer: no kernel that runs writes them.
    entry = shares_ptr + share * 8
    token, slot, seq_len = tl.load(entry), tl.load(entry + 1), tl.load(entry + 2)
    first_tile, end_tile = tl.load(entry + 3), tl.load(entry + 4)
    count, first = tl.load(entry + 6), tl.load(entry + 7)
    wait_for_inputs(PDL)
    if token < 0:
        return
    low = tl.maximum(seq_len - WINDOW, 0) if WINDOW > 0 else seq_len * 0
    first_tile, end_tile = tiles_of_share(first_tile, end_tile, low, seq_len, TILE)
    m = tl.arange(0, BLOCK_M)
    token, head = token.to(tl.int64), kv_head * GROUP + m
    q = load_rows(q_ptr, token * q_token + head * q_head, m < GROUP, HEAD_DIM, DIM_PAD)
    acc, lse = attend(
        q, tl.where(m < GROUP, seq_len - 1, -1), low, seq_len, first_tile, end_tile,
        block_tables_ptr + slot.to(tl.int64) * table_stride, k_cache_ptr, v_cache_ptr, scale,
        kv_head, kv_heads, HEAD_DIM, DIM_PAD, BLOCK_SIZE, BLOCK_M, TILE, WINDOW, SOFT_CAP,
    )  # fmt: skip
    before = tl.load(prefixes[3] + token) if PREFIXES else 0
    if (count == 1) & (before == 0):
        cell = token * (kv_heads * GROUP) + head
        store_rows(out_ptr, cell, acc, m < GROUP, HEAD_DIM, DIM_PAD)
        return
    cell = (share * kv_heads + kv_head).to(tl.int64) * GROUP_PAD + m
    store_rows(partial_ptr, cell, acc, m < GROUP, DIM_PAD, DIM_PAD)
    tl.store(lse_ptr + cell, lse, mask=m < GROUP)
    if _came_last(counters_ptr + first * kv_heads + kv_head, count):
        _merge_row(out_ptr, partial_ptr, lse_ptr, prefixes, token, first, count, before,
                   kv_head, kv_heads,
                   GROUP, GROUP_PAD, HEAD_DIM, DIM_PAD, MERGED, PREFIXES)  # fmt: skip


@triton.jit
def _merge_row(
    out_ptr: tl.tensor,
    partial_ptr: tl.tensor,
    lse_ptr: tl.tensor,
    prefixes: tl.tuple,
    token: tl.tensor,
    first: tl.tensor,
    count: tl.tensor,
    before: tl.tensor,
    kv_head: tl.tensor,
    kv_heads: tl.tensor,
    GROUP: tl.constexpr,
    GROUP_PAD: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DIM_PAD: tl.constexpr,
    MERGED: tl.constexpr,
    PREFIXES: tl.constexpr,
) -> None:
    """Write a row's result from its shares and those of the beginning; zeros without keys."""
    acc = tl.zeros([GROUP_PAD, DIM_PAD], tl.float32)
    total = tl.zeros([GROUP_PAD], tl.float32)
    top = tl.full([GROUP_PAD], float("-inf"), tl.float32)
    acc, total, top = _merge(acc, total, top, partial_ptr, lse_ptr, first, count,
                             kv_head, kv_heads, GROUP, GROUP_PAD, DIM_PAD, MERGED)  # fmt: skip
    if PREFIXES:
        first = tl.load(prefixes[2] + token)
        acc, total, top = _merge(acc, total, top, prefixes[0], prefixes[1], first, before,
                                 kv_head, kv_heads, GROUP, GROUP_PAD, DIM_PAD, MERGED)  # fmt: skip
    m = tl.arange(0, GROUP_PAD)
    cell = token.to(tl.int64) * (kv_heads * GROUP) + kv_head * GROUP + m
    out = acc / tl.where(total > 0, total, 1.0)[:, None]
    store_rows(out_ptr, cell, out, m < GROUP, HEAD_DIM, DIM_PAD)


@triton.jit
def _came_last(counter: tl.tensor, count: tl.tensor) -> tl.tensor:
    """Whether this is the last of `count` programs; what the others have stored can be read."""
    tl.debug_barrier()
    last = tl.atomic_add(counter, 1, sem="acq_rel") == count - 1
    tl.store(counter, 0, mask=last)
    return last


@triton.jit
def _merge(
    acc: tl.tensor,
    total: tl.tensor,
    top: tl.tensor,
    partial_ptr: tl.tensor,
    lse_ptr: tl.tensor,
    first: tl.tensor,
    count: tl.tensor,
    kv_head: tl.tensor,
    kv_heads: tl.tensor,
    GROUP: tl.constexpr,
    GROUP_PAD: tl.constexpr,
    DIM_PAD: tl.constexpr,
    MERGED: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Add partial results first.. to the running (sum, weight, maximum), weighted by 2 ** lse."""
    number, m, dim = tl.arange(0, MERGED), tl.arange(0, GROUP_PAD), tl.arange(0, DIM_PAD)
    for start in range(0, count, MERGED):
        share = (first + start + number).to(tl.int64)
        cell = (share * kv_heads + kv_head)[:, None] * GROUP_PAD + m[None, :]
        live = (start + number < count)[:, None] & (m < GROUP)[None, :]
        lse = tl.load(lse_ptr + cell, mask=live, other=float("-inf"), cache_modifier=".cg")
        at = cell[:, :, None] * DIM_PAD + dim[None, None, :]
        part = tl.load(partial_ptr + at, mask=live[:, :, None], other=0.0, cache_modifier=".cg")
        new_top = tl.maximum(top, tl.max(lse, axis=0))
        finite_top = tl.where(new_top == float("-inf"), 0.0, new_top)
        weight = tl.exp2(lse - finite_top[None, :])
        shrink = tl.exp2(top - finite_top)
        total = total * shrink + tl.sum(weight, axis=0)
        acc = acc * shrink[:, None] + tl.sum(part * weight[:, :, None], axis=0)
        top = new_top
    return acc, total, top
