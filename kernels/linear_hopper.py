"""x @ W^T for few rows at the speed of memory: Hopper only, in Gluon.

Persistent: the weight is cut into units of 64 outputs by 128 columns, and every program takes an
equal run of them (stream-K, Osama et al., 2023). One warp streams the weight into a ring in shared
memory by TMA and waits for nobody (PDL): while the kernels before still run, the ring fills. A
second one brings x as soon as it is there. Where a run begins amid 64 outputs, its sum over them
is left in memory for the program before, which ends with them.
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
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from octavo.kernels.launch import num_sms, zeros

OUTPUTS, COLUMNS = 64, 128
RING_BYTES = 160 << 10
"""One program a multiprocessor: two of a kernel on one, and none on another, would be slow."""
REGISTERS = 96
"""A thread: as little as leaves room for the kernels around."""

_LAYOUT = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)


def linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, gated: bool = False
) -> torch.Tensor:
    """As `linear.linear`, for up to 64 rows of a 16-bit dtype, N a multiple of 64, K of 128.

    `gated`: as `linear.gated_linear`, without bias. A tile is then 32 outputs of either half.
    """
    (rows, columns), outputs = x.shape, weight.shape[0]
    rows_pad = max(8, triton.next_power_of_2(rows))
    programs = min(num_sms(x.device), outputs // OUTPUTS * (columns // COLUMNS))
    out = torch.empty((rows, outputs // (1 + gated)), dtype=x.dtype, device=x.device)
    box = [OUTPUTS // 2, COLUMNS // 2] if gated else [OUTPUTS, COLUMNS]
    size = (programs, OUTPUTS, rows_pad)
    partial = torch.empty(size, dtype=torch.float32, device=x.device)
    linear_kernel[(programs,)](
        out,
        partial,
        zeros(x.device, outputs // OUTPUTS),
        TensorDescriptor.from_tensor(weight, box, _LAYOUT),
        TensorDescriptor.from_tensor(x, [rows_pad, COLUMNS], _LAYOUT),
        weight if bias is None else bias,
        rows,
        outputs,
        columns // COLUMNS,
        ROWS_PAD=rows_pad,
        STAGES=RING_BYTES // ((OUTPUTS + rows_pad) * COLUMNS * 2),
        BIAS=bias is not None,
        GATED=gated,
        num_warps=4,
        maxnreg=REGISTERS,
        launch_pdl=True,
    )
    return out


@gluon.jit(do_not_specialize=["rows"])
def linear_kernel(
    out_ptr,
    partial_ptr,
    counters_ptr,
    w_desc,
    x_desc,
    bias_ptr,
    rows,
    outputs,
    units,
    ROWS_PAD: gl.constexpr,
    STAGES: gl.constexpr,
    BIAS: gl.constexpr,
    GATED: gl.constexpr,
):
    pieces: gl.constexpr = [STAGES * 4, 32, 64] if GATED else [STAGES, 64, 128]
    w_pieces = gl.allocate_shared_memory(w_desc.dtype, pieces, w_desc.layout)
    w_ring = w_pieces._reinterpret(w_desc.dtype, [STAGES, 64, 128], w_desc.layout)
    x_ring = gl.allocate_shared_memory(w_desc.dtype, [STAGES, ROWS_PAD, 128], x_desc.layout)
    w_full = _barriers(STAGES)
    x_full = _barriers(STAGES)
    free = _barriers(STAGES)
    fence_async_shared()
    total = outputs // 64 * units
    first = gl.program_id(0) * total // gl.num_programs(0)
    end = (gl.program_id(0) + 1) * total // gl.num_programs(0)
    gl.warp_specialize(
        [
            (_multiply, (out_ptr, partial_ptr, counters_ptr, bias_ptr, w_ring, x_ring, w_full,
                         x_full, free, rows, outputs, units, first, end, ROWS_PAD, STAGES, BIAS,
                         GATED)),
            (_stream_weight, (w_desc, w_pieces, w_full, free, outputs, units, first, end, STAGES,
                              GATED)),
            (_stream_x, (x_desc, x_ring, x_full, free, units, first, end, ROWS_PAD, STAGES)),
        ],
        [1, 1],
        [24, 24],
    )  # fmt: skip


@gluon.jit
def _barriers(STAGES: gl.constexpr):
    barriers = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(barriers.index(stage), count=1)
    return barriers


@gluon.jit
def _stream_weight(
    desc,
    pieces,
    full,
    free,
    outputs,
    units,
    first,
    end,
    STAGES: gl.constexpr,
    GATED: gl.constexpr,
):
    for unit in range(first, end):
        stage = (unit - first) % STAGES
        phase = (unit - first) // STAGES & 1
        mbarrier.wait(free.index(stage), phase ^ 1)
        barrier = full.index(stage)
        mbarrier.expect(barrier, 64 * 128 * 2)
        column = unit % units * 128
        if GATED:
            gate = unit // units * 32
            up = outputs // 2 + gate
            # As one [64, 128]: its layout has all rows of 64 columns, then of the others.
            tma.async_copy_global_to_shared(desc, [gate, column], barrier, pieces.index(stage * 4))
            column_2 = column + 64
            piece = stage * 4 + 1
            tma.async_copy_global_to_shared(desc, [up, column], barrier, pieces.index(piece))
            tma.async_copy_global_to_shared(
                desc, [gate, column_2], barrier, pieces.index(piece + 1)
            )
            tma.async_copy_global_to_shared(desc, [up, column_2], barrier, pieces.index(piece + 2))
        else:
            row = unit // units * 64
            tma.async_copy_global_to_shared(desc, [row, column], barrier, pieces.index(stage))
    gdc_launch_dependents()


@gluon.jit
def _stream_x(
    desc, ring, full, free, units, first, end, ROWS_PAD: gl.constexpr, STAGES: gl.constexpr
):
    gdc_wait()
    for unit in range(first, end):
        stage = (unit - first) % STAGES
        phase = (unit - first) // STAGES & 1
        mbarrier.wait(free.index(stage), phase ^ 1)
        mbarrier.expect(full.index(stage), ROWS_PAD * 128 * 2)
        tma.async_copy_global_to_shared(
            desc, [0, unit % units * 128], full.index(stage), ring.index(stage)
        )


@gluon.jit
def _multiply(
    out_ptr,
    partial_ptr,
    counters_ptr,
    bias_ptr,
    w_ring,
    x_ring,
    w_full,
    x_full,
    free,
    rows,
    outputs,
    units,
    first,
    end,
    ROWS_PAD: gl.constexpr,
    STAGES: gl.constexpr,
    BIAS: gl.constexpr,
    GATED: gl.constexpr,
):
    MMA: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, ROWS_PAD, 16])
    n = gl.arange(0, 64, gl.SliceLayout(1, MMA))
    row = gl.arange(0, ROWS_PAD, gl.SliceLayout(0, MMA))
    for tile in range(first // units, gl.cdiv(end, units)):
        low = gl.maximum(first, tile * units)
        high = gl.minimum(end, (tile + 1) * units)
        acc = gl.zeros([64, ROWS_PAD], gl.float32, MMA)
        for unit in range(low, high):
            stage = (unit - first) % STAGES
            phase = (unit - first) // STAGES & 1
            mbarrier.wait(w_full.index(stage), phase)
            mbarrier.wait(x_full.index(stage), phase)
            acc = warpgroup_mma(
                w_ring.index(stage), x_ring.index(stage).permute((1, 0)), acc, is_async=True
            )
            acc = warpgroup_mma_wait(0, deps=(acc,))
            mbarrier.arrive(free.index(stage), count=1)
        if low == tile * units:
            cell = n[:, None] * ROWS_PAD + row[None, :]
            acc = _add_others(acc, partial_ptr, counters_ptr, cell, tile, units, outputs, ROWS_PAD)
            if GATED:
                _store_gated(out_ptr, acc, tile, rows, outputs // 2, ROWS_PAD)
            else:
                out_n = tile * 64 + n
                if BIAS:
                    acc += gl.load(bias_ptr + out_n).to(gl.float32)[:, None]
                out_at = out_ptr + (row * outputs)[None, :] + out_n[:, None]
                gl.store(out_at, acc.to(out_ptr.dtype.element_ty), mask=(row < rows)[None, :])
        else:
            cell = n[:, None] * ROWS_PAD + row[None, :]
            gl.store(partial_ptr + gl.program_id(0) * (64 * ROWS_PAD) + cell, acc)
            gl.thread_barrier()
            gl.atomic_add(counters_ptr + tile, 1, sem="release")


@gluon.jit
def _store_gated(out_ptr, acc, tile, rows, width, ROWS_PAD: gl.constexpr):
    """silu of the tile's first 32 rows times the others, each rounded first as if it were out."""
    BOTH: gl.constexpr = gl.BlockedLayout([1, 1, 2], [32, 1, 1], [1, 4, 1], [2, 1, 0])
    ONE: gl.constexpr = gl.BlockedLayout([1, 1], [32, 1], [1, 4], [1, 0])
    pairs = acc.to(out_ptr.dtype.element_ty).reshape([2, 32, ROWS_PAD]).permute([1, 2, 0])
    gate, up = gl.split(gl.convert_layout(pairs, BOTH))
    gate = gl.convert_layout(gate, ONE).to(gl.float32)
    up = gl.convert_layout(up, ONE).to(gl.float32)
    product = gate / (1.0 + gl.exp2(gate * -1.4426950408889634)) * up
    row = gl.arange(0, ROWS_PAD, gl.SliceLayout(0, ONE))
    n = tile * 32 + gl.arange(0, 32, gl.SliceLayout(1, ONE))
    out_at = out_ptr + (row * width)[None, :] + n[:, None]
    gl.store(out_at, product.to(out_ptr.dtype.element_ty), mask=(row < rows)[None, :])


@gluon.jit
def _add_others(acc, partial_ptr, counters_ptr, cell, tile, units, outputs, ROWS_PAD: gl.constexpr):
    """Add the sums of the programs behind, of whose runs this tile's rest is the beginning: they
    have left them long ago, or are about to (all programs of the kernel run at once)."""
    programs = gl.num_programs(0)
    total = outputs // 64 * units
    last = ((tile + 1) * units * programs - 1) // total
    others = last - gl.program_id(0)
    if others > 0:
        while gl.atomic_add(counters_ptr + tile, 0, sem="acquire") < others:
            pass
        gl.store(counters_ptr + tile, 0)
        for program in range(gl.program_id(0) + 1, last + 1):
            at = partial_ptr + program * (64 * ROWS_PAD) + cell
            acc += gl.load(at, cache_modifier=".cg")
    return acc
