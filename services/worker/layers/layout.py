"""Layout: in what a decoder family differs from its cousins."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.services.worker.model_config import ModelConfig


@dataclass(frozen=True)
class Layout:
    """Checkpoint names of the fused projections (one name: fused in the checkpoint too), norms
    on each head's query and key, and biases (None: as the config's attention_bias says)."""

    qkv: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    gate_up: tuple[str, ...] = ("gate_proj", "up_proj")
    qk_norm: bool = False
    qkv_bias: bool | None = None
    out_bias: bool | None = None

    def has_qkv_bias(self, config: ModelConfig) -> bool:
        return config.attention_bias if self.qkv_bias is None else self.qkv_bias

    def has_out_bias(self, config: ModelConfig) -> bool:
        return config.attention_bias if self.out_bias is None else self.out_bias
