"""RMSNorm, alone or fused with the residual addition before it."""

from __future__ import annotations

import torch
from torch import nn

from octavo.kernels import ops
from octavo.services.worker.layers.placement import Placements, whole


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(size), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ops.rms_norm(x, self.weight, self.eps)

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """residual += x in place; (its norm, residual)."""
        return ops.add_rms_norm(x, residual, self.weight, self.eps)

    def placements(self, name: str) -> Placements:
        yield f"{name}.weight", whole(self.weight)
