"""The product with a weight, each output summed in the same order whatever the number of rows.

One program computes a tile of outputs alone, over all of K from its beginning: nothing is split,
and a row of a tile knows nothing of the others. The tile's size depends on the weight alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK_M, BLOCK_K = 64, 64
WIDE = 16384
"""Outputs from which tiles are wide; below, narrow ones make programs enough for a few rows."""
GROUP = 8
"""Row tiles that share a weight tile in the cache."""


def invariant_linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """x [T, K] @ weight [N, K]^T + bias [N] -> [T, N] in x's dtype, summed in float32."""
    rows = x.reshape(-1, x.shape[-1])
    num_rows, (outputs, inner) = rows.shape[0], weight.shape
    out = torch.empty((num_rows, outputs), dtype=x.dtype, device=x.device)
    block_n = 128 if outputs >= WIDE else 32
    grid = (triton.cdiv(num_rows, BLOCK_M) * triton.cdiv(outputs, block_n),)
    if num_rows:
        _kernel[grid](
            rows, weight, weight if bias is None else bias, out, num_rows, outputs, inner,
            rows.stride(0), weight.stride(0),
            BLOCK_M=BLOCK_M, BLOCK_N=block_n, BLOCK_K=BLOCK_K, GROUP=GROUP,
            BIASED=bias is not None, num_warps=4, num_stages=4,
        )  # fmt: skip
    return out.view(*x.shape[:-1], outputs)


@triton.jit(do_not_specialize=["num_rows"])
def _kernel(
    x_ptr: tl.tensor,
    weight_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    out_ptr: tl.tensor,
    num_rows: tl.tensor,
    outputs: tl.tensor,
    inner: tl.tensor,
    x_stride: tl.tensor,
    weight_stride: tl.tensor,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,
    BIASED: tl.constexpr,
) -> None:
    tiles_m, tiles_n = tl.cdiv(num_rows, BLOCK_M), tl.cdiv(outputs, BLOCK_N)
    number, band = tl.program_id(0), GROUP * tiles_n
    first = number // band * GROUP
    height = tl.minimum(tiles_m - first, GROUP)
    tile_m, tile_n = first + number % band % height, number % band // height
    m = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    x_at = x_ptr + m.to(tl.int64)[:, None] * x_stride + k[None, :]
    w_at = weight_ptr + n.to(tl.int64)[None, :] * weight_stride + k[:, None]
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in range(0, inner, BLOCK_K):
        inside = start + k < inner
        x = tl.load(x_at + start, mask=(m < num_rows)[:, None] & inside[None, :], other=0.0)
        w = tl.load(w_at + start, mask=(n < outputs)[None, :] & inside[:, None], other=0.0)
        acc = tl.dot(x, w, acc, input_precision="ieee")
    if BIASED:
        acc += tl.load(bias_ptr + n, mask=n < outputs, other=0.0).to(tl.float32)[None, :]
    out_at = out_ptr + m.to(tl.int64)[:, None] * outputs + n[None, :]
    tl.store(
        out_at,
        acc.to(out_ptr.dtype.element_ty),
        mask=(m < num_rows)[:, None] & (n < outputs)[None, :],
    )
