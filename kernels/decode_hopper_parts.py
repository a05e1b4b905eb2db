"""What programs of `decode_hopper` leave of a row that several of them share, and its merge."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, attr-defined"

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

SUMS = gl.constexpr(gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 128, 16]))
"""64 x 128 of one warpgroup; only as many rows as a group has heads mean anything."""
PARTS = gl.constexpr(gl.BlockedLayout([1, 1, 4], [1, 1, 32], [1, 4, 1], [2, 1, 0]))
MERGED = gl.constexpr(8)


@gluon.jit
def leave_part(
    work,
    results,
    acc,
    top,
    total,
    out_head,
    unit,
    tiles,
    run_begin,
    GROUP: gl.constexpr,
    GROUP_PAD: gl.constexpr,
):
    """Leave what a program has of the unit (a row's tiles unit.. for one KV head); merge if last.

    A run can cut two units: the one it begins in and the one it ends in, hence two places."""
    _, partial_ptr, lse_ptr, counters_ptr = results
    _, runs_ptr, kv_heads, per_head = work
    programs = gl.load(runs_ptr + gl.num_programs(0) * 4)  # that have work
    total_tiles = per_head * kv_heads
    begin_first = run_begin >= unit
    place = gl.program_id(0) * 2 + gl.where(begin_first, 0, 1)
    m = gl.arange(0, 64, gl.SliceLayout(1, SUMS))
    dim = gl.arange(0, 128, gl.SliceLayout(0, SUMS))
    at = partial_ptr + ((place * GROUP_PAD + m) * 128)[:, None] + dim[None, :]
    gl.store(at, acc, mask=(m < GROUP)[:, None])
    lse = top + gl.log2(total)
    row = gl.arange(0, 64, top.type.layout)
    gl.store(lse_ptr + place * GROUP_PAD + row, lse, mask=row < GROUP)
    first = _program_of(unit, programs, total_tiles)
    last = _program_of(unit + tiles - 1, programs, total_tiles)
    gl.thread_barrier()
    arrived = gl.atomic_add(counters_ptr + first, 1, sem="acq_rel")
    if arrived == last - first:
        gl.store(counters_ptr + first, 0)
        begin = first.to(gl.int64) * total_tiles // programs
        first_place = first * 2 + gl.where(begin >= unit, 0, 1)
        _merge(results, out_head, first, last, first_place, GROUP, GROUP_PAD)


@gluon.jit
def _program_of(tile, programs, total_tiles):
    """Whose run has a tile: run p begins with the tile p * total_tiles // programs."""
    return (((tile + 1).to(gl.int64) * programs - 1) // total_tiles).to(gl.int32)


@gluon.jit
def _merge(
    results, out_head, first, last, first_place, GROUP: gl.constexpr, GROUP_PAD: gl.constexpr
):
    """Write the sum of the parts of the programs first..last, weighted by 2 ** lse."""
    out_ptr, partial_ptr, lse_ptr, _ = results
    PAIRS: gl.constexpr = gl.SliceLayout(2, PARTS)
    HEADS: gl.constexpr = gl.SliceLayout(0, PAIRS)
    OUT: gl.constexpr = gl.SliceLayout(0, PARTS)
    number = gl.arange(0, MERGED, gl.SliceLayout(1, PAIRS))
    m = gl.arange(0, GROUP_PAD, HEADS)
    dim = gl.arange(0, 128, gl.SliceLayout(0, OUT))
    top = gl.full([GROUP_PAD], float("-inf"), gl.float32, HEADS)
    total = gl.zeros([GROUP_PAD], gl.float32, HEADS)
    acc = gl.zeros([GROUP_PAD, 128], gl.float32, OUT)
    for start in range(first, last + 1, MERGED):
        program = start + number
        place = gl.where(program == first, first_place, program * 2)
        cell = place[:, None] * GROUP_PAD + m[None, :]
        live = (program <= last)[:, None] & (m < GROUP)[None, :]
        lse = gl.load(lse_ptr + cell, mask=live, other=float("-inf"), cache_modifier=".cg")
        at = partial_ptr + (cell * 128)[:, :, None] + dim[None, :][None, :, :]
        part = gl.load(at, mask=live[:, :, None], other=0.0, cache_modifier=".cg")
        new_top = gl.maximum(top, gl.max(lse, 0))
        finite_top = gl.where(new_top == float("-inf"), 0.0, new_top)
        weight = gl.exp2(lse - finite_top[None, :])
        shrink = gl.exp2(top - finite_top)
        total = total * shrink + gl.sum(weight, 0)
        shrink = gl.convert_layout(shrink, gl.SliceLayout(1, OUT))
        acc = acc * shrink[:, None] + gl.sum(part * weight[:, :, None], 0)
        top = new_top
    total = gl.convert_layout(gl.where(total > 0, total, 1.0), gl.SliceLayout(1, OUT))
    head = gl.arange(0, GROUP_PAD, gl.SliceLayout(1, OUT))
    at = out_ptr + ((out_head * GROUP + head) * 128)[:, None] + dim[None, :]
    gl.store(at, (acc / total[:, None]).to(out_ptr.dtype.element_ty), mask=(head < GROUP)[:, None])
