"""Attention of rows with several query tokens at wgmma speed: Hopper only, in Gluon.

Persistent: a program walks over its part of the tile list. A producer warpgroup streams key and
value pages into shared memory by TMA; two consumer warpgroups hold 64 query rows each, and each
overlaps its next scores with its current values (FlashAttention-3, Shah et al., 2024). The rows of
a tile are (token, head of the group) pairs of one KV head. The plain Triton twin, for every other
GPU and shape, is `prefill_attention`.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, attr-defined"

from __future__ import annotations

import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from octavo.kernels.batch import ForwardBatch
from octavo.kernels.launch import num_sms

HEAD_DIM = 128
PAGE = 64
STAGES = 2
CONSUMER_REGISTERS, PRODUCER_REGISTERS = 240, 24
"""Times 128 threads: two and one of them fill a multiprocessor's registers."""

_PAGE_LAYOUT = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
MMA = gl.constexpr(gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 128, 16]))
"""Scores and sums, 64 x 128 of one warpgroup."""
OPERAND = gl.constexpr(gl.DotOperandLayout(0, MMA.value, 2))
ROWS = gl.constexpr(gl.BlockedLayout([1, 8], [2, 16], [4, 1], [1, 0]))
"""64 or 128 rows of 128, as memory has them."""


def prefill_attention(
    out: torch.Tensor,
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: ForwardBatch,
    scale: float,
) -> None:
    """As `prefill_attention.prefill_attention`, for head_dim 128, 16-bit dtypes, whole windows,
    blocks of a multiple of 64 and groups of a power of two up to 32."""
    kv_heads, room = k_cache.shape[1], len(batch.work.tiles)
    prefill_kernel[(min(room * kv_heads, num_sms(q.device)),)](
        out,
        q,
        _half_pages(k_cache),
        _half_pages(v_cache),
        batch.block_tables,
        batch.work.tiles,
        scale * 1.4426950408889634,
        q.stride(0),
        q.stride(1),
        batch.block_tables.stride(0),
        batch.work.num_tiles,
        kv_heads,
        GROUP=q.shape[1] // kv_heads,
        BLOCK_SIZE=k_cache.shape[2],
        STAGES=STAGES,
        REGISTERS=(CONSUMER_REGISTERS, PRODUCER_REGISTERS),
        num_warps=4,
    )


def _half_pages(cache: torch.Tensor) -> TensorDescriptor:
    """A TMA descriptor of a cache's rows, 64 positions by 64 dimensions a box: one swizzle wide."""
    return TensorDescriptor.from_tensor(cache.view(-1, HEAD_DIM), [PAGE, PAGE], _PAGE_LAYOUT)


@gluon.jit
def prefill_kernel(
    out_ptr,
    q_ptr,
    k_desc,
    v_desc,
    block_tables_ptr,
    tiles_ptr,
    scale,
    q_token,
    q_head,
    table_stride,
    num_tiles_ptr,
    kv_heads,
    GROUP: gl.constexpr,
    BLOCK_SIZE: gl.constexpr,
    STAGES: gl.constexpr,
    REGISTERS: gl.constexpr,
):
    pages: gl.constexpr = [STAGES * 4, 64, 64]
    whole: gl.constexpr = [STAGES, 128, 128]
    k_pages = gl.allocate_shared_memory(k_desc.dtype, pages, k_desc.layout)
    v_pages = gl.allocate_shared_memory(k_desc.dtype, pages, k_desc.layout)
    k_tiles = k_pages._reinterpret(k_desc.dtype, whole, k_desc.layout)
    v_tiles = v_pages._reinterpret(k_desc.dtype, whole, k_desc.layout)
    k_full = _barriers(1, STAGES)
    v_full = _barriers(1, STAGES)
    free = _barriers(2, STAGES)
    turns = _barriers(1, 2)
    fence_async_shared()
    # Older than the step's first layer, as the tiles are.
    work = (tiles_ptr, gl.load(num_tiles_ptr), kv_heads)
    queries = (out_ptr, q_ptr, scale, q_token, q_head)
    tiles = (k_tiles, v_tiles, k_full, v_full, free, turns)
    gl.warp_specialize(
        [
            (_consume, (work, queries, tiles, 0, GROUP, STAGES)),
            (_consume, (work, queries, tiles, 1, GROUP, STAGES)),
            (_produce, (work, k_desc, v_desc, k_pages, v_pages, k_full, v_full, free,
                        block_tables_ptr, table_stride, GROUP, BLOCK_SIZE, STAGES)),
        ],
        [4, 4],
        [REGISTERS[0], REGISTERS[1]],
    )  # fmt: skip


@gluon.jit
def _barriers(arrivals: gl.constexpr, STAGES: gl.constexpr):
    barriers = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(barriers.index(stage), count=arrivals)
    return barriers


@gluon.jit
def _entry(work, turn, GROUP: gl.constexpr):
    """A program's work in its turn: (first token or -1, end, slot, offset, KV head, tiles of 128
    keys). The list falls, and changes direction each turn: who had the most has the least next."""
    tiles_ptr, num_tiles, kv_heads = work
    programs = gl.num_programs(0)
    program = gl.program_id(0)
    index = turn * programs + gl.where(turn % 2 == 0, program, programs - 1 - program)
    inside = index < num_tiles * kv_heads
    index = gl.where(inside, index, 0)
    at = tiles_ptr + index // kv_heads * 4
    first = gl.where(inside, gl.load(at), -1)
    end = gl.load(at + 1)
    offset = gl.load(at + 3)
    keys = offset + gl.minimum(first + 128 // GROUP, end)
    num_keys = gl.where(first < 0, 0, gl.cdiv(keys, 128))
    return first, end, gl.load(at + 2), offset, index % kv_heads, num_keys


@gluon.jit
def _turns(work):
    _, num_tiles, kv_heads = work
    return gl.cdiv(num_tiles * kv_heads, gl.num_programs(0))


@gluon.jit
def _produce(
    work,
    k_desc,
    v_desc,
    k_pages,
    v_pages,
    k_full,
    v_full,
    free,
    block_tables_ptr,
    table_stride,
    GROUP: gl.constexpr,
    BLOCK_SIZE: gl.constexpr,
    STAGES: gl.constexpr,
):
    """Keys 128 at a time, the last ones first; a page that is not there is the one before. Values
    come one turn of the ring later than their keys, as the consumers want them: a turn is free
    when both consumers are done with its keys and with the values before."""
    _, _, kv_heads = work
    step = 0
    row_0 = 0
    row_1 = 0
    for turn in range(_turns(work)):
        first, end, slot, offset, kv_head, num_keys = _entry(work, turn, GROUP)
        table = block_tables_ptr + slot.to(gl.int64) * table_stride
        last_page = (offset + gl.minimum(first + 128 // GROUP, end) - 1) // 64
        for back in range(num_keys):
            page = 2 * (num_keys - 1 - back)
            next_0 = _page_row(table, page, kv_head, kv_heads, BLOCK_SIZE)
            next_1 = _page_row(
                table, gl.minimum(page + 1, last_page), kv_head, kv_heads, BLOCK_SIZE
            )
            mbarrier.wait(free.index(step % STAGES), step // STAGES & 1 ^ 1)
            _fetch(k_desc, k_pages, k_full, step % STAGES, next_0, next_1)
            if step > 0:
                _fetch(v_desc, v_pages, v_full, (step - 1) % STAGES, row_0, row_1)
            row_0 = next_0
            row_1 = next_1
            step += 1
    if step > 0:
        mbarrier.wait(free.index(step % STAGES), step // STAGES & 1 ^ 1)
        _fetch(v_desc, v_pages, v_full, (step - 1) % STAGES, row_0, row_1)


@gluon.jit
def _page_row(table, page, kv_head, kv_heads, BLOCK_SIZE: gl.constexpr):
    block = gl.load(table + page * 64 // BLOCK_SIZE)
    return (block * kv_heads + kv_head) * BLOCK_SIZE + page * 64 % BLOCK_SIZE


@gluon.jit
def _fetch(desc, pages, full, stage, row_0, row_1):
    """Two pages as one [128, 128]: its layout has all rows of 64 columns, then of the others."""
    barrier = full.index(stage)
    mbarrier.expect(barrier, 4 * 64 * 64 * 2)
    tma.async_copy_global_to_shared(desc, [row_0, 0], barrier, pages.index(stage * 4))
    tma.async_copy_global_to_shared(desc, [row_1, 0], barrier, pages.index(stage * 4 + 1))
    tma.async_copy_global_to_shared(desc, [row_0, 64], barrier, pages.index(stage * 4 + 2))
    tma.async_copy_global_to_shared(desc, [row_1, 64], barrier, pages.index(stage * 4 + 3))


@gluon.jit
def _consume(work, queries, tiles, ME: gl.constexpr, GROUP: gl.constexpr, STAGES: gl.constexpr):
    """Half of each tile's rows, 64 of them: the first (ME 0) or the second."""
    done = 0
    for turn in range(_turns(work)):
        first, end, _slot, offset, kv_head, num_keys = _entry(work, turn, GROUP)
        if num_keys > 0:
            _, _, kv_heads = work
            _attend(queries, tiles, first, end, offset, kv_head, kv_heads, num_keys, done,
                    ME, GROUP, STAGES)  # fmt: skip
        done += num_keys


@gluon.jit
def _attend(
    queries,
    tiles,
    first,
    end,
    offset,
    kv_head,
    kv_heads,
    num_keys,
    done,
    ME: gl.constexpr,
    GROUP: gl.constexpr,
    STAGES: gl.constexpr,
):
    out_ptr, q_ptr, scale, q_token, q_head = queries
    k_tiles, v_tiles, k_full, v_full, free, turns = tiles
    keys = offset + gl.minimum(first + 128 // GROUP, end)
    first += ME * (64 // GROUP)
    m = gl.arange(0, 64, gl.SliceLayout(1, ROWS))
    dim = gl.arange(0, 128, gl.SliceLayout(0, ROWS))
    token, head = first + m // GROUP, kv_head * GROUP + m % GROUP
    q_at = token.to(gl.int64) * q_token + head * q_head
    q = gl.load(q_ptr + q_at[:, None] + dim[None, :], mask=(token < end)[:, None], other=0.0)
    q = gl.convert_layout(q, OPERAND)
    position = offset + first + gl.arange(0, 64, gl.SliceLayout(1, MMA)) // GROUP
    key = (num_keys - 1) * 128 + gl.arange(0, 128, gl.SliceLayout(0, MMA))
    _take_turn(turns, done, ME)
    s = _scores(q, k_tiles, k_full, done, STAGES)
    _pass_turn(turns, ME)
    s = warpgroup_mma_wait(0, deps=(s,))
    mbarrier.arrive(free.index(done % STAGES), count=1)
    s = gl.where(key[None, :] <= position[:, None], s, float("-inf"))
    top = gl.max(s, 1)
    # A row that sees none of these keys: any finite maximum keeps -inf - -inf away.
    finite_top = gl.where(top == float("-inf"), 0.0, top)
    weights = gl.exp2(s * scale - (finite_top * scale)[:, None])
    total = gl.sum(weights, 1)
    p = gl.convert_layout(weights.to(q.dtype), OPERAND)
    acc = gl.zeros([64, 128], gl.float32, MMA)
    if keys % 128 != 0:
        mbarrier.wait(v_full.index(done % STAGES), done // STAGES & 1)
        _clear_tail(v_tiles.index(done % STAGES), keys % 128)

    # A tile's tokens may begin in the middle of 128 keys: the mask goes on for one step.
    masked_end = gl.minimum(done + 2, done + num_keys)
    for step in range(done + 1, masked_end):
        p, acc, top, total = _step(
            q, p, acc, top, total, tiles, step, scale, key - 128, position, True, ME, STAGES
        )
    for step in range(masked_end, done + num_keys):
        p, acc, top, total = _step(
            q, p, acc, top, total, tiles, step, scale, key, position, False, ME, STAGES
        )

    last = done + num_keys - 1
    mbarrier.wait(v_full.index(last % STAGES), last // STAGES & 1)
    acc = warpgroup_mma(p, v_tiles.index(last % STAGES), acc)
    out = gl.convert_layout((acc / total[:, None]).to(q.dtype), ROWS)
    out_at = (token.to(gl.int64) * (kv_heads * GROUP) + head) * 128
    gl.store(out_ptr + out_at[:, None] + dim[None, :], out, mask=(token < end)[:, None])


@gluon.jit
def _step(
    q,
    p,
    acc,
    top,
    total,
    tiles,
    step,
    scale,
    key,
    position,
    MASKED: gl.constexpr,
    ME: gl.constexpr,
    STAGES: gl.constexpr,
):
    """The scores of this step's keys beside the sum over the values of the step before, whose
    weights are `p`; (weights, sum, maximum, total weight)."""
    k_tiles, v_tiles, k_full, v_full, free, turns = tiles
    before = (step - 1) % STAGES
    _take_turn(turns, step, ME)
    s = _scores(q, k_tiles, k_full, step, STAGES)
    mbarrier.wait(v_full.index(before), (step - 1) // STAGES & 1)
    acc = warpgroup_mma(p, v_tiles.index(before), acc, is_async=True)
    _pass_turn(turns, ME)
    s = warpgroup_mma_wait(1, deps=(s,))
    if MASKED:
        s = gl.where(key[None, :] <= position[:, None], s, float("-inf"))
    new_top = gl.maximum(top, gl.max(s, 1))
    shrink = gl.exp2((top - new_top) * scale)
    weights = gl.exp2(s * scale - (new_top * scale)[:, None])
    total = total * shrink + gl.sum(weights, 1)
    acc = warpgroup_mma_wait(0, deps=(acc,))
    mbarrier.arrive(free.index(step % STAGES), count=1)
    acc = acc * shrink[:, None]
    return gl.convert_layout(weights.to(q.dtype), OPERAND), acc, new_top, total


@gluon.jit
def _take_turn(turns, step, ME: gl.constexpr):
    """Ping-pong: a consumer's products start when the other's are under way, so that the tensor
    cores have the one's products while the other one computes its weights."""
    mbarrier.wait(turns.index(ME), (step & 1) ^ (1 - ME))


@gluon.jit
def _pass_turn(turns, ME: gl.constexpr):
    mbarrier.arrive(turns.index(1 - ME), count=1)


@gluon.jit
def _scores(q, k_tiles, k_full, step, STAGES: gl.constexpr):
    """q @ k^T, in flight."""
    stage = step % STAGES
    none = gl.zeros([64, 128], gl.float32, MMA)
    mbarrier.wait(k_full.index(stage), step // STAGES & 1)
    k = k_tiles.index(stage).permute((1, 0))
    return warpgroup_mma(q, k, none, use_acc=False, is_async=True)


@gluon.jit
def _clear_tail(values, live):
    """Zero what lies behind the last key: anything may be there, and 0 * NaN would reach the sum.
    Both consumers do it, with the same bytes."""
    at = gl.arange(0, 128, gl.SliceLayout(1, ROWS))
    kept = gl.where((at < live)[:, None], values.load(ROWS), 0.0)
    values.store(kept.to(values.dtype))
    fence_async_shared()
