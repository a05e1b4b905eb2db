"""The gated feed-forward block: down(silu(gate(x)) * up(x))."""

from __future__ import annotations

import torch
from torch import nn

from octavo.services.worker.layers.linear import ColumnParallelLinear, Part, RowParallelLinear
from octavo.services.worker.layers.placement import Placements
from octavo.services.worker.model_config import ModelConfig
from octavo.services.worker.parallel import Parallel


class GatedMLP(nn.Module):
    def __init__(self, config: ModelConfig, names: tuple[str, ...], parallel: Parallel) -> None:
        super().__init__()
        part = Part.even(config.intermediate_size, parallel)
        self.gate_up = ColumnParallelLinear(
            config.hidden_size, [part, part], names, config.mlp_bias
        )
        self.down = RowParallelLinear(
            config.intermediate_size, config.hidden_size, "down_proj", parallel, config.mlp_bias
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.down(self.gate_up.gated(x))
        return hidden

    def placements(self, prefix: str) -> Placements:
        yield from self.gate_up.placements(prefix)
        yield from self.down.placements(prefix)
