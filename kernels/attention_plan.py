"""Who attends to what in a step, worked out on the device: one launch, read by every layer.

Rows with one query token are cut into shares of about equal work, whose number is bounded, and
into runs of equal work, one a program of a persistent kernel (the balance is that of stream-K,
Osama et al., 2023, with whole tiles); rows with more are cut into tiles of query tokens. Lengths
never leave the device, so one CUDA graph serves any of them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from octavo.kernels.attention_tiles import UNIT
from octavo.kernels.batch import MAX_RUN_ROWS, WorkLists
from octavo.kernels.invariance import is_on
from octavo.kernels.launch import num_sms
from octavo.kernels.prefill_attention import tile_tokens
from octavo.kernels.prefix_attention import rows_of_item
from octavo.kernels.tuning import tuning

TILE = UNIT.value
SHARE_FIELDS = 8
TILE_FIELDS = 4
ROW_FIELDS = 4
RUN_FIELDS = 4
MIN_TILES = 2
"""Of a share: a row cut finer takes longer to merge."""
MIN_RUN = 1
"""Tiles of a run: a row cut finer takes longer to merge."""
RUNS_PER_SM = 2
RUNS_AT_ONCE = 16


def make_work_lists(
    max_rows: int,
    max_tokens: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    device: torch.device,
) -> WorkLists:
    """Lists for batches of up to `max_rows` rows and `max_tokens` tokens."""
    group, programs = heads // kv_heads, num_sms(device) * tuning(device).decode.programs_per_sm
    splits = max(programs // kv_heads, 1)
    tokens = tile_tokens(group, head_dim, dtype, device)
    most = max_rows if is_on() else min(max_rows, max_tokens // 2)
    tiles = max_tokens // tokens + most

    def ints(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.int32, device=device)

    return WorkLists(
        shares=ints(max_rows + splits, SHARE_FIELDS),
        tiles=ints(tiles, TILE_FIELDS),
        num_tiles=ints(1),
        rows=ints(min(max_rows, MAX_RUN_ROWS), ROW_FIELDS),
        runs=ints(RUNS_PER_SM * num_sms(device) + 1, RUN_FIELDS),
        kv_heads=kv_heads,
        splits=splits,
        tile_tokens=tokens,
        rows_of_item=rows_of_item(group, head_dim, dtype, device),
        only_tiles=is_on(),
    )


def plan_attention(
    work: WorkLists,
    query_start: torch.Tensor,
    seq_lens: torch.Tensor,
    slots: torch.Tensor,
    prefix_tiles: torch.Tensor | None = None,
) -> None:
    """Fill the work lists of a step from query_start int32[n + 1], seq_lens and slots int32[n].

    Shares, for rows with one query token: (token, slot, seq_len, first tile, end tile, number of
    the share in its row, shares of the row, index of the row's first share), in tiles of 64
    positions; they leave out the first `prefix_tiles` int32[n] of a row: others attend to those.

    Rows and runs, for the same where there are few and no prefixes: (token, slot, seq_len, tiles of
    the rows before), a row without keys having one tile. Each KV head has the tiles of all rows;
    of all these, one KV head after the other, a run begins with (row, tile of the row, KV head,
    number of the tile). The last entry has (runs that are not empty, 0, KV heads, number of tiles).

    Tiles, for rows with more: (first token, end of the row's tokens, slot, position of token 0),
    `tile_tokens` tokens each, those that see most first.

    Entries of shares and tiles behind the last have token -1. A list may be empty where there are
    no such rows. Raises ValueError when the shares are too few for n rows.
    """
    num_rows = len(seq_lens)
    if 0 < len(work.shares) < num_rows + work.splits:
        raise ValueError(f"{len(work.shares)} shares do not hold {num_rows} rows.")
    num_runs = len(work.runs) - 1 if len(work.rows) else 0
    _plan_kernel[(2 + triton.cdiv(num_runs, RUNS_AT_ONCE),)](
        work.shares,
        work.tiles,
        work.num_tiles,
        work.rows,
        work.runs,
        query_start,
        seq_lens,
        slots,
        slots if prefix_tiles is None else prefix_tiles,
        num_rows,
        len(work.shares),
        len(work.tiles),
        num_runs,
        work.kv_heads,
        work.splits,
        work.tile_tokens,
        TILE=TILE,
        MIN_TILES=MIN_TILES,
        MIN_RUN=MIN_RUN,
        RUNS=RUNS_AT_ONCE,
        PREFIXES=prefix_tiles is not None,
        FEWEST=1 if work.only_tiles else 2,
        ROWS_PAD=max(triton.next_power_of_2(num_rows), 32),
        num_warps=4,
    )


@triton.jit(
    do_not_specialize=["num_rows", "num_shares", "max_tiles", "num_runs", "splits", "tile_tokens"]
)
def _plan_kernel(
    shares_ptr: tl.tensor,
    tiles_ptr: tl.tensor,
    num_tiles_ptr: tl.tensor,
    rows_ptr: tl.tensor,
    runs_ptr: tl.tensor,
    query_start_ptr: tl.tensor,
    seq_lens_ptr: tl.tensor,
    slots_ptr: tl.tensor,
    prefix_tiles_ptr: tl.tensor,
    num_rows: tl.tensor,
    num_shares: tl.tensor,
    max_tiles: tl.tensor,
    num_runs: tl.tensor,
    kv_heads: tl.tensor,
    splits: tl.tensor,
    tile_tokens: tl.tensor,
    TILE: tl.constexpr,
    MIN_TILES: tl.constexpr,
    MIN_RUN: tl.constexpr,
    RUNS: tl.constexpr,
    PREFIXES: tl.constexpr,
    FEWEST: tl.constexpr,
    ROWS_PAD: tl.constexpr,
) -> None:
    row = tl.arange(0, ROWS_PAD)
    inside = row < num_rows
    start = tl.load(query_start_ptr + row, mask=inside, other=0)
    end = tl.load(query_start_ptr + row + 1, mask=inside, other=0)
    seq_len = tl.load(seq_lens_ptr + row, mask=inside, other=0)
    slot = tl.load(slots_ptr + row, mask=inside, other=0)
    if tl.program_id(0) == 0:
        low = tl.load(prefix_tiles_ptr + row, mask=inside & PREFIXES, other=0)
        _plan_shares(
            shares_ptr, start, end, seq_len, slot, low, num_shares, splits, TILE, MIN_TILES
        )
    elif tl.program_id(0) == 1:
        _plan_tiles(
            tiles_ptr, num_tiles_ptr, start, end, seq_len, slot, max_tiles, tile_tokens, FEWEST
        )
    else:
        first = (tl.program_id(0) - 2) * RUNS
        _plan_runs(
            rows_ptr, runs_ptr, start, end, seq_len, slot, first, num_runs, kv_heads,
            TILE, MIN_RUN, RUNS,
        )  # fmt: skip


@triton.jit
def _plan_shares(
    shares_ptr: tl.tensor,
    start: tl.tensor,
    end: tl.tensor,
    seq_len: tl.tensor,
    slot: tl.tensor,
    low: tl.tensor,
    num_shares: tl.tensor,
    splits: tl.tensor,
    TILE: tl.constexpr,
    MIN_TILES: tl.constexpr,
) -> None:
    single = end - start == 1
    tiles = tl.where(single, tl.maximum(tl.cdiv(seq_len, TILE) - low, 0), 0)
    most = tl.maximum(tl.cdiv(tl.sum(tiles, axis=0), splits), MIN_TILES)
    count = tl.where(single, tl.maximum(tl.cdiv(tiles, most), 1), 0)
    first = tl.cumsum(count, axis=0) - count
    divisor = tl.maximum(count, 1)
    for number in range(0, tl.max(count, axis=0)):
        at = shares_ptr + (first + number) * 8
        live = (number < count) & (first + number < num_shares)
        tl.store(at, start, mask=live)
        tl.store(at + 1, slot, mask=live)
        tl.store(at + 2, seq_len, mask=live)
        tl.store(at + 3, low + tiles * number // divisor, mask=live)
        tl.store(at + 4, low + tiles * (number + 1) // divisor, mask=live)
        tl.store(at + 5, start * 0 + number, mask=live)
        tl.store(at + 6, count, mask=live)
        tl.store(at + 7, first, mask=live)
    _end_list(shares_ptr, tl.sum(count, axis=0), num_shares, 8)


@triton.jit
def _plan_runs(
    rows_ptr: tl.tensor,
    runs_ptr: tl.tensor,
    start: tl.tensor,
    end: tl.tensor,
    seq_len: tl.tensor,
    slot: tl.tensor,
    first: tl.tensor,
    num_runs: tl.tensor,
    kv_heads: tl.tensor,
    TILE: tl.constexpr,
    MIN_RUN: tl.constexpr,
    RUNS: tl.constexpr,
) -> None:
    """The runs first.., RUNS of them; and, every program the same, the rows."""
    single = end - start == 1
    tiles = tl.where(single, tl.maximum(tl.cdiv(seq_len, TILE), 1), 0)
    before = tl.cumsum(tiles, axis=0) - tiles
    row_at = rows_ptr + (tl.cumsum(single.to(tl.int32), axis=0) - 1) * 4
    tl.store(row_at, start, mask=single)
    tl.store(row_at + 1, slot, mask=single)
    tl.store(row_at + 2, seq_len, mask=single)
    tl.store(row_at + 3, before, mask=single)
    per_head = tl.sum(tiles, axis=0)
    total = per_head * kv_heads
    used = tl.minimum(tl.maximum(total // MIN_RUN, 1), num_runs)
    run = first + tl.arange(0, RUNS)
    begin = tl.minimum(run.to(tl.int64) * total // used, total).to(tl.int32)
    tile = begin % tl.maximum(per_head, 1)
    passed = single[None, :] & (before[None, :] <= tile[:, None])
    at, live = runs_ptr + run * 4, run < num_runs
    tl.store(at, tl.sum(passed.to(tl.int32), axis=1) - 1, mask=live)
    tl.store(at + 1, tile - tl.max(tl.where(passed, before[None, :], 0), axis=1), mask=live)
    tl.store(at + 2, begin // tl.maximum(per_head, 1), mask=live)
    tl.store(at + 3, begin, mask=live)
    end_at = runs_ptr + num_runs * 4
    tl.store(end_at, used)
    tl.store(end_at + 1, 0)
    tl.store(end_at + 2, kv_heads)
    tl.store(end_at + 3, total)


@triton.jit
def _plan_tiles(
    tiles_ptr: tl.tensor,
    num_tiles_ptr: tl.tensor,
    start: tl.tensor,
    end: tl.tensor,
    seq_len: tl.tensor,
    slot: tl.tensor,
    max_tiles: tl.tensor,
    tile_tokens: tl.tensor,
    FEWEST: tl.constexpr,
) -> None:
    """In falling order of the keys that they see: of each row the last tile is the next."""
    tokens = end - start
    left = tl.where(tokens >= FEWEST, tl.cdiv(tokens, tile_tokens), 0)
    total = tl.sum(left, axis=0)
    written = total * 0
    while written < total:
        keys = tl.where(left > 0, seq_len - tokens + left * tile_tokens, 0)
        live = (left > 0) & (keys == tl.max(keys, axis=0))
        index = written + tl.cumsum(live.to(tl.int32), axis=0) - 1
        at, fits = tiles_ptr + index * 4, live & (index < max_tiles)
        tl.store(at, start + (left - 1) * tile_tokens, mask=fits)
        tl.store(at + 1, end, mask=fits)
        tl.store(at + 2, slot, mask=fits)
        tl.store(at + 3, seq_len - end, mask=fits)
        left -= live.to(tl.int32)
        written += tl.sum(live.to(tl.int32), axis=0)
    tl.store(num_tiles_ptr, tl.minimum(total, max_tiles))
    _end_list(tiles_ptr, total, max_tiles, 4)


@triton.jit
def _end_list(list_ptr: tl.tensor, used: tl.tensor, size: tl.tensor, FIELDS: tl.constexpr) -> None:
    entry = tl.arange(0, 128)
    for start in range(used, size, 128):
        at = start + entry
        tl.store(list_ptr + at * FIELDS, tl.full([128], -1, tl.int32), mask=at < size)
