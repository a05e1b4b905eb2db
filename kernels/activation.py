"""SwiGLU's elementwise half (Shazeer, 2020)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from octavo.kernels.launch import let_next_start, pdl_options, wait_for_inputs

BLOCK = 1024


def silu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """x [T, 2I] = (gate, up) -> silu(gate) * up [T, I] in x's dtype; float32 inside.

    Raises ValueError unless x is two-dimensional with contiguous rows of even width.
    """
    if x.dim() != 2 or x.shape[1] % 2 or x.stride(1) != 1:
        raise ValueError(f"x {tuple(x.shape)} must be [T, 2I] with contiguous rows.")
    num_tokens, width = x.shape[0], x.shape[1] // 2
    out = torch.empty((num_tokens, width), dtype=x.dtype, device=x.device)
    if out.numel():
        grid = (num_tokens, triton.cdiv(width, BLOCK))
        _silu_and_mul_kernel[grid](
            x, out, x.stride(0), width, BLOCK=BLOCK, num_warps=4, **pdl_options(x)
        )
    return out


@triton.jit
def _silu_and_mul_kernel(
    x_ptr: tl.tensor,
    out_ptr: tl.tensor,
    x_stride: tl.tensor,
    width: tl.tensor,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    let_next_start(PDL)
    wait_for_inputs(PDL)
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    gate_at = x_ptr + row * x_stride + at
    gate = tl.load(gate_at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_at + width, mask=inside, other=0.0).to(tl.float32)
    product = gate * tl.sigmoid(gate) * up
    tl.store(out_ptr + row * width + at, product.to(out_ptr.dtype.element_ty), mask=inside)
