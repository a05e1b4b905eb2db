"""Grouped-query attention over the paged cache."""

from __future__ import annotations

import torch
from torch import nn

from octavo.kernels import ops
from octavo.kernels.batch import ForwardBatch
from octavo.services.worker.layers.layout import Layout
from octavo.services.worker.layers.linear import ColumnParallelLinear, Part, RowParallelLinear
from octavo.services.worker.layers.norm import RMSNorm
from octavo.services.worker.layers.placement import Placements
from octavo.services.worker.model_config import ModelConfig
from octavo.services.worker.parallel import Parallel


class Attention(nn.Module):
    """Packed q, k, v projection; norm, rotation and cache write in one op; attention. The output
    projection stands apart (`out`): of the last layer, few rows may want it.

    `window`: keys a query sees, 0 for all. The cache is bound later.
    """

    k_cache: torch.Tensor
    v_cache: torch.Tensor

    def __init__(
        self, config: ModelConfig, layout: Layout, window: int, parallel: Parallel
    ) -> None:
        super().__init__()
        dim = config.head_dim
        query = Part.heads(config.num_heads, dim, parallel)
        key = Part.heads(config.num_kv_heads, dim, parallel)
        self.num_heads, self.num_kv_heads = query.rows // dim, key.rows // dim
        self._dim, self._window, self._eps = dim, window, config.rms_norm_eps
        self.qkv = ColumnParallelLinear(
            config.hidden_size, [query, key, key], layout.qkv, layout.has_qkv_bias(config)
        )
        self.out = RowParallelLinear(
            config.num_heads * dim,
            config.hidden_size,
            "o_proj",
            parallel,
            layout.has_out_bias(config),
        )
        self.q_norm = RMSNorm(dim, self._eps) if layout.qk_norm else None
        self.k_norm = RMSNorm(dim, self._eps) if layout.qk_norm else None

    def forward(self, x: torch.Tensor, batch: ForwardBatch, cos_sin: torch.Tensor) -> torch.Tensor:
        """x [T, H] -> what this rank's heads give, [T, heads * dim], for `out`."""
        heads = (self.num_heads, self.num_kv_heads, self.num_kv_heads)
        q, k, v = self.qkv(x).unflatten(-1, (-1, self._dim)).split(heads, dim=1)
        ops.rotary_and_kv_write(
            q,
            k,
            v,
            batch.positions,
            cos_sin,
            batch.slot_mapping,
            self.k_cache,
            self.v_cache,
            None if self.q_norm is None else self.q_norm.weight,
            None if self.k_norm is None else self.k_norm.weight,
            self._eps,
        )
        mixed = ops.paged_attention(
            q, self.k_cache, self.v_cache, batch, self._dim**-0.5, self._window
        )
        return mixed.flatten(1)

    def placements(self, prefix: str) -> Placements:
        yield from self.qkv.placements(prefix)
        yield from self.out.placements(prefix)
        if self.q_norm is not None and self.k_norm is not None:
            yield from self.q_norm.placements(f"{prefix}q_norm")
            yield from self.k_norm.placements(f"{prefix}k_norm")
