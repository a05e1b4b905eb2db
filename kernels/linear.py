"""The product with a weight: torch's, except where a kernel of ours reads the weight faster."""

from __future__ import annotations

import torch

from octavo.kernels.activation import silu_and_mul
from octavo.kernels.hopper import hopper_module
from octavo.kernels.invariance import is_on
from octavo.kernels.invariant_linear import invariant_linear

MAX_ROWS = 32
"""Beyond, torch is as fast."""


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [T, K] @ weight [N, K]^T + bias [N] -> [T, N] in x's dtype, summed in float32."""
    if is_on():
        return invariant_linear(x, weight, bias)
    hopper = hopper_module("linear_hopper", x.device) if 0 < x.shape[0] <= MAX_ROWS else None
    if hopper is not None and _suits_hopper(x, weight):
        product: torch.Tensor = hopper.linear(x, weight, bias)
        return product
    return torch.nn.functional.linear(x, weight, bias)


def gated_linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """silu(x @ gate^T) * (x @ up^T) [T, I] in x's dtype, of weight [2I, K] = (gate, up)."""
    if is_on():
        return silu_and_mul(invariant_linear(x, weight, bias))
    hopper = hopper_module("linear_hopper", x.device) if 0 < x.shape[0] <= MAX_ROWS else None
    if hopper is not None and bias is None and _suits_hopper(x, weight):
        product: torch.Tensor = hopper.linear(x, weight, None, gated=True)
        return product
    return silu_and_mul(linear(x, weight, bias))


def _suits_hopper(x: torch.Tensor, weight: torch.Tensor) -> bool:
    return (
        x.dim() == 2
        and x.dtype == weight.dtype
        and x.dtype in (torch.bfloat16, torch.float16)
        and weight.shape[0] % 64 == 0
        and weight.shape[1] % 128 == 0
        and weight.is_contiguous()
        and x.stride(1) == 1
        and x.stride(0) % 8 == 0
    )
