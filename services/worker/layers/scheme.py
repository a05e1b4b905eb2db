"""Linear schemes: who owns a linear's parameters and applies them.

Layers shard and name; a scheme stores and multiplies. Quantization is another scheme, and no
layer or model knows which one it has.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from octavo.kernels import ops


class LinearScheme(Protocol):
    def create(self, layer: nn.Module, rows: int, columns: int) -> torch.Tensor:
        """Register the parameters of [rows, columns] on `layer`; return the one to be filled."""
        ...

    def apply(self, layer: nn.Module, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """x [..., columns] -> [..., rows]."""
        ...

    def apply_gated(
        self, layer: nn.Module, x: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """x [..., columns] -> silu(first half of the rows) * second half."""
        ...


class Unquantized:
    """One weight in the model's dtype."""

    def create(self, layer: nn.Module, rows: int, columns: int) -> torch.Tensor:
        weight = nn.Parameter(torch.empty(rows, columns), requires_grad=False)
        layer.register_parameter("weight", weight)
        return weight

    def apply(self, layer: nn.Module, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        weight: torch.Tensor = layer.get_parameter("weight")
        return ops.linear(x, weight, bias)

    def apply_gated(
        self, layer: nn.Module, x: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        return ops.gated_linear(x, layer.get_parameter("weight"), bias)
