"""Decode attention of few rows at the speed of memory: Hopper only, in Gluon.

Persistent: the keys of all rows and KV heads are one sequence of tiles, cut into equal runs, one
a program (the balance is that of stream-K, Osama et al., 2023). One warp streams the pages of a run
into a ring in shared memory by TMA, across the borders of rows, so the memory never waits; under
PDL it begins while the kernels before still make the queries. A warpgroup attends. Where a border
of runs cuts a row, the last program to finish merges its parts, in their order.
The plain Triton twin, for every other GPU and shape, is `decode_attention`; it is the faster one
where rows are many, since more programs than these hide the start of each row.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, attr-defined"

from __future__ import annotations

import torch
import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from octavo.kernels.batch import ForwardBatch
from octavo.kernels.decode_hopper_parts import SUMS, leave_part
from octavo.kernels.launch import zeros

HEAD_DIM = 128
PAGE = 64
MAX_GROUP = 16
STAGES = 3
REGISTERS = 128
"""Both let two programs run on a multiprocessor."""

_PAGE_LAYOUT = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
SCORES = gl.constexpr(gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 64, 16]))
"""64 x 64 of one warpgroup."""
QUERIES = gl.constexpr(gl.DotOperandLayout(0, SCORES.value, 2))
WEIGHTS = gl.constexpr(gl.DotOperandLayout(0, SUMS.value, 2))
VALUES = gl.constexpr(gl.BlockedLayout([1, 8], [2, 16], [4, 1], [1, 0]))


def decode_attention(
    out: torch.Tensor,
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: ForwardBatch,
    scale: float,
) -> None:
    """As `decode_attention.decode_attention`, for head_dim 128, 16-bit dtypes, whole windows,
    blocks of a multiple of 64, groups of up to 16 and no shared beginnings."""
    kv_heads, work = k_cache.shape[1], batch.work
    group, programs = q.shape[1] // kv_heads, len(work.runs) - 1
    group_pad = triton.next_power_of_2(group)
    parts = (2 * programs, group_pad)
    decode_kernel[(programs,)](
        out,
        torch.empty((*parts, HEAD_DIM), dtype=torch.float32, device=q.device),
        torch.empty(parts, dtype=torch.float32, device=q.device),
        zeros(q.device, programs),
        q,
        _half_pages(k_cache),
        _half_pages(v_cache),
        batch.block_tables,
        work.rows,
        work.runs,
        scale * 1.4426950408889634,
        q.stride(0),
        q.stride(1),
        batch.block_tables.stride(0),
        kv_heads,
        GROUP=group,
        GROUP_PAD=group_pad,
        BLOCK_SIZE=k_cache.shape[2],
        STAGES=STAGES,
        num_warps=4,
        maxnreg=REGISTERS,
        launch_pdl=True,
    )


def _half_pages(cache: torch.Tensor) -> TensorDescriptor:
    """A TMA descriptor of a cache's rows, 64 positions by 64 dimensions a box: one swizzle wide."""
    return TensorDescriptor.from_tensor(cache.view(-1, HEAD_DIM), [PAGE, PAGE], _PAGE_LAYOUT)


@gluon.jit
def decode_kernel(
    out_ptr,
    partial_ptr,
    lse_ptr,
    counters_ptr,
    q_ptr,
    k_desc,
    v_desc,
    block_tables_ptr,
    rows_ptr,
    runs_ptr,
    scale,
    q_token,
    q_head,
    table_stride,
    kv_heads,
    GROUP: gl.constexpr,
    GROUP_PAD: gl.constexpr,
    BLOCK_SIZE: gl.constexpr,
    STAGES: gl.constexpr,
):
    pages: gl.constexpr = [STAGES * 2, 64, 64]
    whole: gl.constexpr = [STAGES, 64, 128]
    k_pages = gl.allocate_shared_memory(k_desc.dtype, pages, k_desc.layout)
    v_pages = gl.allocate_shared_memory(k_desc.dtype, pages, k_desc.layout)
    k_tiles = k_pages._reinterpret(k_desc.dtype, whole, k_desc.layout)
    v_tiles = v_pages._reinterpret(k_desc.dtype, whole, k_desc.layout)
    full = _barriers(STAGES)
    free = _barriers(STAGES)
    fence_async_shared()
    total = gl.load(runs_ptr + gl.num_programs(0) * 4 + 3)
    work = (rows_ptr, runs_ptr, kv_heads, total // kv_heads)
    queries = (q_ptr, q_token, q_head, scale)
    results = (out_ptr, partial_ptr, lse_ptr, counters_ptr)
    gl.warp_specialize(
        [
            (_consume, (work, queries, results, k_tiles, v_tiles, full, free,
                        GROUP, GROUP_PAD, STAGES)),
            (_produce, (work, k_desc, v_desc, k_pages, v_pages, full, free,
                        block_tables_ptr, table_stride, BLOCK_SIZE, STAGES)),
        ],
        [1],
        [24],
    )  # fmt: skip


@gluon.jit
def _barriers(STAGES: gl.constexpr):
    barriers = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(barriers.index(stage), count=1)
    return barriers


@gluon.jit
def _run(work):
    """This program's run: (row, tile of the row and KV head it begins with, its first tile of all,
    and the one behind it)."""
    _, runs_ptr, _, _ = work
    at = runs_ptr + gl.program_id(0) * 4
    return gl.load(at), gl.load(at + 1), gl.load(at + 2), gl.load(at + 3), gl.load(at + 7)


@gluon.jit
def _unit(work, row, head):
    """A row's tiles for one KV head: (row, head, token, slot, length, tiles before, tiles).

    Units are looked up two ahead, and what they lead to, pages and queries, one: no row's beginning
    waits for memory three times."""
    rows_ptr, _, _, _ = work
    at = rows_ptr + row * 4
    length = gl.load(at + 2)
    tiles = gl.maximum(gl.cdiv(length, 64), 1)
    return row, head, gl.load(at), gl.load(at + 1), length, gl.load(at + 3), tiles


@gluon.jit
def _after(work, unit):
    """The unit behind one: that of the next row, or of the next head's first row."""
    _, _, _, per_head = work
    row, head, _, _, _, before, tiles = unit
    wraps = before + tiles == per_head
    return _unit(work, gl.where(wraps, 0, row + 1), gl.where(wraps, head + 1, head))


@gluon.jit
def _produce(
    work,
    k_desc,
    v_desc,
    k_pages,
    v_pages,
    full,
    free,
    block_tables_ptr,
    table_stride,
    BLOCK_SIZE: gl.constexpr,
    STAGES: gl.constexpr,
):
    gdc_launch_dependents()
    _, _, kv_heads, _ = work
    row, tile, head, begin, end = _run(work)
    step = 0
    unit = _unit(work, row, head)
    next_unit = _after(work, unit)
    first_block = gl.load(_table(unit, block_tables_ptr, table_stride) + tile * 64 // BLOCK_SIZE)
    while begin < end:
        _row, head, _token, _slot, _length, _before, tiles = unit
        later_unit = _after(work, next_unit)
        table = _table(unit, block_tables_ptr, table_stride)
        next_first = gl.load(_table(next_unit, block_tables_ptr, table_stride))
        stop = gl.minimum(tiles, tile + end - begin)
        begin += stop - tile
        block = first_block
        for at in range(tile, stop):
            next_block = gl.load(table + gl.minimum(at + 1, tiles - 1) * 64 // BLOCK_SIZE)
            first = (block * kv_heads + head) * BLOCK_SIZE + at * 64 % BLOCK_SIZE
            stage = step % STAGES
            mbarrier.wait(free.index(stage), step // STAGES & 1 ^ 1)
            # Only a row's last tile has a key of this step; the others have been there for long.
            if at == tiles - 1:
                gdc_wait()
            barrier = full.index(stage)
            mbarrier.expect(barrier, 4 * 64 * 64 * 2)
            page = stage * 2
            tma.async_copy_global_to_shared(k_desc, [first, 0], barrier, k_pages.index(page))
            tma.async_copy_global_to_shared(k_desc, [first, 64], barrier, k_pages.index(page + 1))
            tma.async_copy_global_to_shared(v_desc, [first, 0], barrier, v_pages.index(page))
            tma.async_copy_global_to_shared(v_desc, [first, 64], barrier, v_pages.index(page + 1))
            block = next_block
            step += 1
        unit, next_unit, first_block = next_unit, later_unit, next_first
        tile = tile * 0


@gluon.jit
def _table(unit, block_tables_ptr, table_stride):
    _, _, _, slot, _, _, _ = unit
    return block_tables_ptr + slot.to(gl.int64) * table_stride


@gluon.jit
def _consume(
    work,
    queries,
    results,
    k_tiles,
    v_tiles,
    full,
    free,
    GROUP: gl.constexpr,
    GROUP_PAD: gl.constexpr,
    STAGES: gl.constexpr,
):
    gdc_wait()
    _, _, kv_heads, per_head = work
    row, tile, head, begin, end = _run(work)
    run_begin = begin
    step = 0
    unit = _unit(work, row, head)
    next_unit = _after(work, unit)
    q = _load_queries(queries, unit, kv_heads, begin < end, GROUP)
    while begin < end:
        _row, head, token, _slot, length, before, tiles = unit
        next_q = _load_queries(queries, next_unit, kv_heads, True, GROUP)
        later_unit = _after(work, next_unit)
        stop = gl.minimum(tiles, tile + end - begin)
        begin += stop - tile
        acc, top, total = _attend(
            q, queries, k_tiles, v_tiles, full, free, length, tile, stop, step, STAGES
        )
        step += stop - tile
        out_head = token.to(gl.int64) * kv_heads + head
        if stop - tile == tiles:
            _store(results, acc, out_head, GROUP)
        else:
            first_tile = head * per_head + before
            leave_part(work, results, acc, top, total, out_head, first_tile, tiles, run_begin,
                       GROUP, GROUP_PAD)  # fmt: skip
        unit, next_unit, q = next_unit, later_unit, next_q
        tile = tile * 0


@gluon.jit
def _load_queries(queries, unit, kv_heads, live, GROUP: gl.constexpr):
    q_ptr, q_token, q_head, _ = queries
    _, head, token, _, _, _, _ = unit
    head = gl.minimum(head, kv_heads - 1)  # behind the last unit there is none
    m = gl.arange(0, 64, gl.SliceLayout(1, QUERIES))
    dim = gl.arange(0, 128, gl.SliceLayout(0, QUERIES))
    at = q_ptr + token.to(gl.int64) * q_token + (head * GROUP + m) * q_head
    return gl.load(at[:, None] + dim[None, :], mask=((m < GROUP) & live)[:, None], other=0.0)


@gluon.jit
def _attend(
    q,
    queries,
    k_tiles,
    v_tiles,
    full,
    free,
    length,
    tile,
    stop,
    step,
    STAGES: gl.constexpr,
):
    """(outputs, maximum, total weight) over the tiles tile..stop of a row, steps of the ring."""
    _, _, _, scale = queries
    top = gl.full([64], float("-inf"), gl.float32, gl.SliceLayout(1, SCORES))
    total = gl.zeros([64], gl.float32, gl.SliceLayout(1, SCORES))
    acc = gl.zeros([64, 128], gl.float32, SUMS)
    key = gl.arange(0, 64, gl.SliceLayout(0, SCORES))
    for at in range(tile, stop):
        stage = step % STAGES
        mbarrier.wait(full.index(stage), step // STAGES & 1)
        none = gl.zeros([64, 64], gl.float32, SCORES)
        s = warpgroup_mma(q, k_tiles.index(stage).permute((1, 0)), none, use_acc=False)
        live = length - at * 64
        if live < 64:
            _clear_tail(v_tiles.index(stage), live)
        s = gl.where((key < live)[None, :], s, float("-inf"))
        new_top = gl.maximum(top, gl.max(s, 1))
        # A row without keys has seen nothing: any finite maximum keeps -inf - -inf away.
        finite_top = gl.where(new_top == float("-inf"), 0.0, new_top)
        shrink = gl.exp2((top - finite_top) * scale)
        weights = gl.exp2(s * scale - (finite_top * scale)[:, None])
        total = total * shrink + gl.sum(weights, 1)
        acc = acc * gl.convert_layout(shrink, gl.SliceLayout(1, SUMS))[:, None]
        p = gl.convert_layout(weights.to(q.dtype), WEIGHTS)
        acc = warpgroup_mma(p, v_tiles.index(stage), acc)
        mbarrier.arrive(free.index(stage), count=1)
        top = new_top
        step += 1
    live_total = gl.where(total > 0, total, 1.0)
    acc = acc / gl.convert_layout(live_total, gl.SliceLayout(1, SUMS))[:, None]
    return acc, top * scale, total


@gluon.jit
def _clear_tail(values, live):
    """Zero what lies behind the last key: it may be NaN, and 0 * NaN would reach the sum."""
    at = gl.arange(0, 64, gl.SliceLayout(1, VALUES))
    kept = gl.where((at < live)[:, None], values.load(VALUES), 0.0)
    values.store(kept.to(values.dtype))
    fence_async_shared()


@gluon.jit
def _store(results, acc, out_head, GROUP: gl.constexpr):
    out_ptr, _, _, _ = results
    m = gl.arange(0, 64, gl.SliceLayout(1, SUMS))
    dim = gl.arange(0, 128, gl.SliceLayout(0, SUMS))
    at = out_ptr + ((out_head * GROUP + m) * 128)[:, None] + dim[None, :]
    gl.store(at, acc.to(out_ptr.dtype.element_ty), mask=(m < GROUP)[:, None])
