"""Llama, and Mistral (Llama with sliding windows): the shape that the other families vary."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from octavo.kernels.batch import ForwardBatch
from octavo.services.worker.causal_lm import KVPair
from octavo.services.worker.layers.decoder import DecoderLayer
from octavo.services.worker.layers.embedding import VocabShard
from octavo.services.worker.layers.layout import Layout
from octavo.services.worker.layers.norm import RMSNorm
from octavo.services.worker.layers.placement import Placements
from octavo.services.worker.layers.rope import rotary_table
from octavo.services.worker.model_config import ModelConfig
from octavo.services.worker.parallel import Parallel


class LlamaForCausalLM(nn.Module):
    """Embedding, decoder blocks, norm, head. Subclasses set `LAYOUT`."""

    LAYOUT: ClassVar[Layout] = Layout()
    cos_sin: torch.Tensor

    def __init__(self, config: ModelConfig, parallel: Parallel, max_model_len: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = VocabShard(config.vocab_size, config.hidden_size, parallel)
        self._blocks = [
            DecoderLayer(config, self.LAYOUT, index, parallel) for index in range(config.num_layers)
        ]
        self.layers = nn.ModuleList(self._blocks)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.head = self.embedding
        if not config.tie_word_embeddings:
            self.head = VocabShard(config.vocab_size, config.hidden_size, parallel)
        with torch.device("cpu"):
            table = rotary_table(config.rope, max_model_len)
        self.register_buffer("cos_sin", table, persistent=False)
        self.num_layers = config.num_layers
        self.num_heads = config.num_heads // parallel.size
        self.num_kv_heads = max(config.num_kv_heads // parallel.size, 1)
        self.head_dim = config.head_dim
        self.dtype = torch.get_default_dtype()
        self.has_window = any(config.windows)

    def forward(self, input_ids: torch.Tensor, batch: ForwardBatch) -> torch.Tensor:
        hidden, residual = self.embedding.embed(input_ids), None
        *others, last = self._blocks
        for layer in others:
            hidden, residual = layer(hidden, residual, batch, self.cos_sin)
        mixed, residual = last.attend(hidden, residual, batch, self.cos_sin)
        if batch.sampled is not None:
            mixed, residual = (each.index_select(0, batch.sampled) for each in (mixed, residual))
        if not len(mixed):  # the chunk's keys and values were all that was wanted
            return residual
        hidden, residual = last.feed(mixed, residual)
        return self.norm.add(hidden, residual)[0]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.head.logits(hidden)

    def bind_kv_cache(self, caches: list[KVPair]) -> None:
        for layer, (k_cache, v_cache) in zip(self._blocks, caches, strict=True):
            layer.attention.k_cache, layer.attention.v_cache = k_cache, v_cache

    def placements(self) -> Placements:
        """Every checkpoint tensor that this rank takes something from."""
        yield from self.embedding.placements("model.embed_tokens.weight")
        for index, layer in enumerate(self._blocks):
            yield from layer.placements(f"model.layers.{index}.")
        yield from self.norm.placements("model.norm")
        if self.head is not self.embedding:
            yield from self.head.placements("lm_head.weight")
