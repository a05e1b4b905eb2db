"""RMS norm (Zhang and Sennrich, 2019), alone and behind the residual sum: one program a row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from octavo.kernels.launch import let_next_start, pdl_options, wait_for_inputs

MAX_HIDDEN = 65536


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x [..., H] scaled to unit root mean square, times weight [H]; float32 inside.

    Raises ValueError on shapes that do not fit.
    """
    _check(x, weight)
    rows = x.reshape(-1, x.shape[-1])
    out = torch.empty_like(rows, memory_format=torch.contiguous_format)
    _launch(_rms_norm_kernel, rows, (rows, weight, out, rows.stride(0)), eps)
    return out.view(x.shape)


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """residual [T, H] += x [T, H] in place; returns (its norm, residual).

    The sum is rounded to residual's dtype before it is normed, so that the norm is that of what
    the next layer reads. Raises ValueError on shapes that do not fit.
    """
    _check(residual, weight)
    if x.shape != residual.shape or x.dim() != 2:
        raise ValueError(f"x {tuple(x.shape)} and residual {tuple(residual.shape)} must be [T, H].")
    if x.stride(1) != 1 or residual.stride(1) != 1:
        raise ValueError("Rows of x and residual must be contiguous.")
    out = torch.empty_like(residual, memory_format=torch.contiguous_format)
    strides = (x.stride(0), residual.stride(0))
    _launch(_add_rms_norm_kernel, residual, (x, residual, weight, out, *strides), eps)
    return out, residual


def _check(x: torch.Tensor, weight: torch.Tensor) -> None:
    if weight.dim() != 1 or x.dim() < 1 or x.shape[-1] != weight.shape[0]:
        raise ValueError(f"weight {tuple(weight.shape)} does not fit x {tuple(x.shape)}.")
    if x.stride(-1) != 1 or not weight.is_contiguous():
        raise ValueError("weight and the rows of x must be contiguous.")
    if not 0 < weight.shape[0] <= MAX_HIDDEN:
        raise ValueError(f"hidden size {weight.shape[0]} is not between 1 and {MAX_HIDDEN}.")


def _launch(
    kernel: triton.JITFunction, rows: torch.Tensor, args: tuple[object, ...], eps: float
) -> None:
    num_rows, hidden = rows.shape
    if num_rows == 0:
        return
    block = triton.next_power_of_2(hidden)
    num_warps = min(max(block // 512, 1), 16)
    kernel[(num_rows,)](*args, hidden, eps, BLOCK=block, num_warps=num_warps, **pdl_options(rows))


@triton.jit
def _rms_norm_kernel(
    x_ptr: tl.tensor,
    weight_ptr: tl.tensor,
    out_ptr: tl.tensor,
    x_stride: tl.tensor,
    hidden: tl.tensor,
    eps: tl.tensor,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    let_next_start(PDL)
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < hidden
    weight = tl.load(weight_ptr + at, mask=inside, other=0.0).to(tl.float32)
    wait_for_inputs(PDL)
    x = tl.load(x_ptr + row * x_stride + at, mask=inside, other=0.0).to(tl.float32)
    normed = x * tl.rsqrt(tl.sum(x * x, axis=0) / hidden + eps) * weight
    tl.store(out_ptr + row * hidden + at, normed.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _add_rms_norm_kernel(
    x_ptr: tl.tensor,
    residual_ptr: tl.tensor,
    weight_ptr: tl.tensor,
    out_ptr: tl.tensor,
    x_stride: tl.tensor,
    residual_stride: tl.tensor,
    hidden: tl.tensor,
    eps: tl.tensor,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    let_next_start(PDL)
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < hidden
    residual_at = residual_ptr + row * residual_stride + at
    weight = tl.load(weight_ptr + at, mask=inside, other=0.0).to(tl.float32)
    wait_for_inputs(PDL)
    x = tl.load(x_ptr + row * x_stride + at, mask=inside, other=0.0).to(tl.float32)
    total = x + tl.load(residual_at, mask=inside, other=0.0).to(tl.float32)
    stored = total.to(residual_ptr.dtype.element_ty)
    tl.store(residual_at, stored, mask=inside)
    total = stored.to(tl.float32)
    normed = total * tl.rsqrt(tl.sum(total * total, axis=0) / hidden + eps) * weight
    tl.store(out_ptr + row * hidden + at, normed.to(out_ptr.dtype.element_ty), mask=inside)
