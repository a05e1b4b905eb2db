"""A step's ids, positions, slot mapping and lengths from per-slot state, in one launch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK = 128


def prepare_inputs(
    host_ids: torch.Tensor,
    query_start: torch.Tensor,
    slots: torch.Tensor,
    num_computed: torch.Tensor,
    last_token: torch.Tensor,
    block_tables: torch.Tensor,
    block_size: int,
    input_ids: torch.Tensor,
    positions: torch.Tensor,
    slot_mapping: torch.Tensor,
    seq_lens: torch.Tensor,
) -> None:
    """Fill the step's inputs from its n rows of T tokens.

    Read: host_ids int32[T], query_start int32[n + 1] (its last entry is T), slots int32[n];
    num_computed, last_token int32[max_slots], block_tables int32[max_slots, max_blocks].
    Token j of row i stands at num_computed[slots[i]] + j; its id is host_ids where that is >= 0,
    else last_token[slots[i]].
    Written: input_ids, positions int32, slot_mapping int64, all [>= T], and seq_lens int32[>= n];
    what is beyond is padding: id 0, position 0, slot mapping -1, length 0.
    Raises ValueError on shapes that do not fit.
    """
    num_rows, num_tokens = slots.shape[0], host_ids.shape[0]
    padded = input_ids.shape[0]
    if query_start.shape[0] != num_rows + 1 or seq_lens.shape[0] < num_rows:
        raise ValueError(f"query_start or seq_lens does not fit {num_rows} rows.")
    if padded < num_tokens or {positions.shape[0], slot_mapping.shape[0]} != {padded}:
        raise ValueError(f"outputs must have one length of at least {num_tokens}.")
    if block_tables.dim() != 2 or block_tables.stride(1) != 1:
        raise ValueError("block_tables must be [max_slots, max_blocks] with contiguous rows.")
    grid = (triton.cdiv(max(padded, seq_lens.shape[0]), BLOCK),)
    if grid[0] == 0:
        return
    _prepare_kernel[grid](
        host_ids,
        query_start,
        slots,
        num_computed,
        last_token,
        block_tables,
        input_ids,
        positions,
        slot_mapping,
        seq_lens,
        block_tables.stride(0),
        num_rows,
        num_tokens,
        seq_lens.shape[0],
        padded,
        num_rows.bit_length(),
        BLOCK_SIZE=block_size,
        BLOCK=BLOCK,
        num_warps=4,
    )


@triton.jit(
    do_not_specialize=["num_rows", "num_tokens", "padded_rows", "padded_tokens", "search_steps"]
)
def _prepare_kernel(
    host_ids_ptr: tl.tensor,
    query_start_ptr: tl.tensor,
    slots_ptr: tl.tensor,
    num_computed_ptr: tl.tensor,
    last_token_ptr: tl.tensor,
    block_tables_ptr: tl.tensor,
    input_ids_ptr: tl.tensor,
    positions_ptr: tl.tensor,
    slot_mapping_ptr: tl.tensor,
    seq_lens_ptr: tl.tensor,
    table_stride: tl.tensor,
    num_rows: tl.tensor,
    num_tokens: tl.tensor,
    padded_rows: tl.tensor,
    padded_tokens: tl.tensor,
    search_steps: tl.tensor,
    BLOCK_SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = at < num_rows
    slot = tl.load(slots_ptr + at, mask=real, other=0)
    count = tl.load(query_start_ptr + at + 1, mask=real, other=0)
    count -= tl.load(query_start_ptr + at, mask=real, other=0)
    computed = tl.load(num_computed_ptr + slot, mask=real, other=0)
    tl.store(seq_lens_ptr + at, tl.where(real, computed + count, 0), mask=at < padded_rows)

    real = at < num_tokens
    row = _row_of(at, real, query_start_ptr, num_rows, search_steps)
    slot = tl.load(slots_ptr + row, mask=real, other=0)
    offset = at - tl.load(query_start_ptr + row, mask=real, other=0)
    position = tl.load(num_computed_ptr + slot, mask=real, other=0) + offset
    table = block_tables_ptr + slot.to(tl.int64) * table_stride
    block = tl.load(table + position // BLOCK_SIZE, mask=real, other=0).to(tl.int64)
    mapped = block * BLOCK_SIZE + position % BLOCK_SIZE
    given = tl.load(host_ids_ptr + at, mask=real, other=0)
    sampled = tl.load(last_token_ptr + slot, mask=real & (given < 0), other=0)
    inside = at < padded_tokens
    tl.store(input_ids_ptr + at, tl.where(given < 0, sampled, given), mask=inside)
    tl.store(positions_ptr + at, tl.where(real, position, 0), mask=inside)
    tl.store(slot_mapping_ptr + at, tl.where(real, mapped, -1), mask=inside)


@triton.jit
def _row_of(
    token: tl.tensor,
    real: tl.tensor,
    query_start_ptr: tl.tensor,
    num_rows: tl.tensor,
    search_steps: tl.tensor,
) -> tl.tensor:
    """The last row that starts at or before each token: rows without tokens are passed over."""
    low = token * 0
    high = low + num_rows
    for _ in range(search_steps):
        middle = (low + high) // 2
        starts = tl.load(query_start_ptr + middle, mask=real, other=0)
        searching = low + 1 < high
        low = tl.where(searching & (starts <= token), middle, low)
        high = tl.where(searching & (starts > token), middle, high)
    return low
