"""One pre-norm decoder block; the residual stream travels beside the hidden states."""

from __future__ import annotations

import torch
from torch import nn

from octavo.kernels.batch import ForwardBatch
from octavo.services.worker.layers.attention import Attention
from octavo.services.worker.layers.layout import Layout
from octavo.services.worker.layers.mlp import GatedMLP
from octavo.services.worker.layers.norm import RMSNorm
from octavo.services.worker.layers.placement import Placements
from octavo.services.worker.model_config import ModelConfig
from octavo.services.worker.parallel import Parallel


class DecoderLayer(nn.Module):
    def __init__(self, config: ModelConfig, layout: Layout, index: int, parallel: Parallel) -> None:
        super().__init__()
        self.attention = Attention(config, layout, config.windows[index], parallel)
        self.mlp = GatedMLP(config, layout.gate_up, parallel)
        self.input_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        hidden: torch.Tensor,
        residual: torch.Tensor | None,
        batch: ForwardBatch,
        cos_sin: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both [T, H]; the block's output is still to be added to the residual."""
        return self.feed(*self.attend(hidden, residual, batch, cos_sin))

    def attend(
        self,
        hidden: torch.Tensor,
        residual: torch.Tensor | None,
        batch: ForwardBatch,
        cos_sin: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The first half: (what the heads give [T, heads * dim], residual [T, H])."""
        if residual is None:
            hidden, residual = self.input_norm(hidden), hidden
        else:
            hidden, residual = self.input_norm.add(hidden, residual)
        return self.attention(hidden, batch, cos_sin), residual

    def feed(
        self, mixed: torch.Tensor, residual: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The second half, in which no token looks at another: any rows of `attend`'s result."""
        hidden, residual = self.post_norm.add(self.attention.out(mixed), residual)
        return self.mlp(hidden), residual

    def placements(self, prefix: str) -> Placements:
        yield from self.attention.placements(f"{prefix}self_attn.")
        yield from self.mlp.placements(f"{prefix}mlp.")
        yield from self.input_norm.placements(f"{prefix}input_layernorm")
        yield from self.post_norm.placements(f"{prefix}post_attention_layernorm")
