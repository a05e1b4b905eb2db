"""The tile loop that plain Triton's attention kernels share.

A program holds BLOCK_M query rows, which are (token, head of the group) pairs of one KV head, and
walks over the keys that they see in tiles of TILE positions. Softmax is online (Milakov and
Gimelshein, 2018).
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
UNIT = tl.constexpr(64)
"""Positions; what the work lists count shares in."""


def dim_pad(head_dim: int) -> int:
    padded: int = triton.next_power_of_2(head_dim)
    return max(padded, 16)


@triton.jit
def load_rows(
    ptr: tl.tensor, at: tl.tensor, live: tl.tensor, HEAD_DIM: tl.constexpr, DIM_PAD: tl.constexpr
) -> tl.tensor:
    dim = tl.arange(0, DIM_PAD)
    mask = live[:, None] & (dim < HEAD_DIM)[None, :]
    return tl.load(ptr + at[:, None] + dim[None, :], mask=mask, other=0.0)


@triton.jit
def store_rows(
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
def tiles_of_share(
    first: tl.tensor, end: tl.tensor, low: tl.tensor, high: tl.tensor, TILE: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """The tiles that the share first..end, in units, has of the positions low..high."""
    if TILE < UNIT:
        first *= UNIT // TILE
        end = tl.minimum(end * (UNIT // TILE), tl.cdiv(high, TILE))
    return tl.maximum(first, low // TILE), end


@triton.jit
def _block_of(
    table: tl.tensor,
    tile: tl.tensor,
    end_tile: tl.tensor,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
) -> tl.tensor:
    """The block that holds a whole tile; 0 where blocks are smaller or the tile is none."""
    inside = (tile < end_tile) & (BLOCK_SIZE >= TILE)
    return tl.load(table + tile * TILE // BLOCK_SIZE, mask=inside, other=0).to(tl.int64)


@triton.jit
def attend(
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
    kv_head: tl.tensor,
    kv_heads: tl.tensor,
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
    top, dim = tl.full([BLOCK_M], float("-inf"), tl.float32), tl.arange(0, DIM_PAD)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, DIM_PAD], tl.float32)
    # The page of a tile is looked up a tile ahead: its keys wait for nothing then.
    next_block = _block_of(table, first_tile, end_tile, BLOCK_SIZE, TILE)
    for tile in range(first_tile, end_tile):
        at = tile * TILE + tl.arange(0, TILE)
        # What lies outside may be anything, NaN too: 0 * NaN would reach the sum.
        live = (at >= low) & (at < high)
        if BLOCK_SIZE >= TILE:
            block = next_block + tl.zeros_like(at)
            next_block = _block_of(table, tile + 1, end_tile, BLOCK_SIZE, TILE)
        else:
            block = tl.load(table + at // BLOCK_SIZE, mask=live, other=0).to(tl.int64)
        inside = live[:, None] & (dim < HEAD_DIM)[None, :]
        cell = (block * kv_heads + kv_head) * BLOCK_SIZE + at % BLOCK_SIZE
        kv_at = cell[:, None] * HEAD_DIM + dim
        k = tl.load(k_cache_ptr + kv_at, mask=inside, other=0.0)
        v = tl.load(v_cache_ptr + kv_at, mask=inside, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        if SOFT_CAP > 0.0:
            scores = SOFT_CAP * (1.0 - 2.0 / (tl.exp(scores * (2.0 / SOFT_CAP)) + 1.0))
        visible = live[None, :] & (at[None, :] <= position[:, None])
        if WINDOW > 0:
            visible &= at[None, :] > position[:, None] - WINDOW
        scores = tl.where(visible, scores * LOG2_E, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, axis=1))
        # A row that has seen nothing yet: any finite maximum keeps -inf - -inf away.
        finite_top = tl.where(new_top == float("-inf"), 0.0, new_top)
        weights = tl.exp2(scores - finite_top[:, None])
        shrink = tl.exp2(top - finite_top)
        total = total * shrink + tl.sum(weights, axis=1)
        acc = tl.dot(weights.to(v.dtype), v, acc * shrink[:, None], input_precision="ieee")
        top = new_top
    total = tl.where(total > 0, total, 1.0)
    return acc / total[:, None], top + tl.log2(total)
