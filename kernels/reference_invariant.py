"""What `invariance` comes to in plain torch: shapes that do not depend on the batch.

A library's product of 3 rows may sum in another order than that of 64. So products are made of
tiles of one height, and each query is attended to by itself.
"""

from __future__ import annotations

import torch

TILE = 16
"""Rows."""


def tiled_linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """x [T, K] @ weight [N, K]^T + bias [N] -> [T, N]; a row has the same bits in every batch."""
    rows = x.shape[0]
    padded = torch.nn.functional.pad(x, (0, 0, 0, -rows % TILE))
    tiles = [torch.nn.functional.linear(tile, weight, bias) for tile in padded.split(TILE)]
    return torch.cat(tiles)[:rows] if tiles else x.new_empty(0, weight.shape[0])
