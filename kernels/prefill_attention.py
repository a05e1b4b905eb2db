"""Attention of rows with several query tokens: one program for a tile of them and a KV head.

Plain Triton, for every GPU and shape; on Hopper `prefill_hopper` takes what it can.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from octavo.kernels.attention_tiles import attend, dim_pad, load_rows, store_rows
from octavo.kernels.batch import ForwardBatch
from octavo.kernels.hopper import hopper_module
from octavo.kernels.shared_memory import Tile
from octavo.kernels.tuning import prefill_tile

HOPPER_GROUPS = (1, 2, 4, 8, 16, 32)
HOPPER_ROWS = 128


def tile_tokens(group: int, head_dim: int, dtype: torch.dtype, device: torch.device) -> int:
    """Query tokens of one tile, for `group` query heads a KV head."""
    return tile_of(group, head_dim, dtype, device).rows // group


def tile_of(group: int, head_dim: int, dtype: torch.dtype, device: torch.device) -> Tile:
    """A step has one list of tiles for both kernels: where Gluon may read it, its rows hold."""
    shared = _suits_hopper(group, head_dim, dtype) and hopper_module("prefill_hopper", device)
    return prefill_tile(device, dtype, head_dim, group, HOPPER_ROWS if shared else 16)


def prefill_attention(
    out: torch.Tensor,
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: ForwardBatch,
    scale: float,
    window: int,
    soft_cap: float,
) -> None:
    """Write out [T, Hq, D] for the rows of `batch.work.tiles`; see `paged_attention`."""
    hopper, group = hopper_module("prefill_hopper", q.device), q.shape[1] // k_cache.shape[1]
    suits = _suits_hopper(group, q.shape[2], q.dtype) and k_cache.shape[2] % 64 == 0
    if hopper is not None and suits and not window and not soft_cap:
        hopper.prefill_attention(out, q, k_cache, v_cache, batch, scale)
    else:
        plain_prefill_attention(out, q, k_cache, v_cache, batch, scale, window, soft_cap)


def _suits_hopper(group: int, head_dim: int, dtype: torch.dtype) -> bool:
    return head_dim == 128 and dtype.itemsize == 2 and group in HOPPER_GROUPS


def plain_prefill_attention(
    out: torch.Tensor,
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: ForwardBatch,
    scale: float,
    window: int,
    soft_cap: float,
) -> None:
    """As `prefill_attention`, on any GPU."""
    kv_heads, head_dim = k_cache.shape[1], q.shape[2]
    group = q.shape[1] // kv_heads
    tile = tile_of(group, head_dim, q.dtype, q.device)
    _prefill_kernel[(len(batch.work.tiles), kv_heads)](
        out,
        q,
        k_cache,
        v_cache,
        batch.block_tables,
        batch.work.tiles,
        scale,
        q.stride(0),
        q.stride(1),
        batch.block_tables.stride(0),
        GROUP=group,
        HEAD_DIM=head_dim,
        DIM_PAD=dim_pad(head_dim),
        BLOCK_SIZE=k_cache.shape[2],
        BLOCK_M=tile.rows,
        TILE=tile.keys,
        WINDOW=window,
        SOFT_CAP=soft_cap,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


@triton.jit
def _prefill_kernel(
    out_ptr: tl.tensor,
    q_ptr: tl.tensor,
    k_cache_ptr: tl.tensor,
    v_cache_ptr: tl.tensor,
    block_tables_ptr: tl.tensor,
    tiles_ptr: tl.tensor,
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
) -> None:
    TOKENS: tl.constexpr = BLOCK_M // GROUP
    kv_head, kv_heads = tl.program_id(1), tl.num_programs(1)
    entry = tiles_ptr + tl.program_id(0) * 4
    first = tl.load(entry)
    if first < 0:
        return
    end, slot, offset = tl.load(entry + 1), tl.load(entry + 2), tl.load(entry + 3)
    m = tl.arange(0, BLOCK_M)
    token, head = first + m // GROUP, kv_head * GROUP + m % GROUP
    live = (m < TOKENS * GROUP) & (token < end)
    q_at = token.to(tl.int64) * q_token + head * q_head
    q = load_rows(q_ptr, q_at, live, HEAD_DIM, DIM_PAD)
    position = tl.where(live, offset + token, -1)
    high = offset + tl.minimum(first + TOKENS, end)
    low = high * 0
    if WINDOW > 0:
        low = tl.maximum(offset + first - WINDOW + 1, 0)
    table = block_tables_ptr + slot.to(tl.int64) * table_stride
    acc, _ = attend(
        q, position, low, high, low // TILE, tl.cdiv(high, TILE),
        table, k_cache_ptr, v_cache_ptr, scale, kv_head, kv_heads,
        HEAD_DIM, DIM_PAD, BLOCK_SIZE, BLOCK_M, TILE, WINDOW, SOFT_CAP,
    )  # fmt: skip
    cell = token.to(tl.int64) * (kv_heads * GROUP) + head
    store_rows(out_ptr, cell, acc, live, HEAD_DIM, DIM_PAD)
