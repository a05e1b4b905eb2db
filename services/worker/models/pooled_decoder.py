"""A decoder whose hidden states are wanted, not its next tokens; with a `score` head where it
classifies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from octavo.kernels.batch import ForwardBatch
from octavo.services.worker.causal_lm import KVPair
from octavo.services.worker.checkpoint import StoredTensor
from octavo.services.worker.layers.placement import Placements, whole
from octavo.services.worker.model_config import ModelConfig
from octavo.services.worker.models.registry import model_class
from octavo.services.worker.parallel import Parallel

PREFIX = "model."
HEADS = ("lm_head.", "score.")


class PooledDecoder(nn.Module):
    def __init__(self, config: ModelConfig, parallel: Parallel, max_model_len: int) -> None:
        super().__init__()
        # Tied, so that no head of its own is made: nobody asks for logits.
        tied = replace(config, tie_word_embeddings=True)
        self.decoder: Any = model_class(config.architecture)(tied, parallel, max_model_len)
        self.score: nn.Parameter | None = None
        if config.pooling is not None and config.pooling.task == "classify":
            shape = (config.pooling.dimension, config.hidden_size)
            self.score = nn.Parameter(torch.empty(shape), requires_grad=False)
        self.hidden_size = config.hidden_size
        self.num_layers = self.decoder.num_layers
        self.num_heads = self.decoder.num_heads
        self.num_kv_heads = self.decoder.num_kv_heads
        self.head_dim = self.decoder.head_dim
        self.dtype = self.decoder.dtype

    def forward(self, input_ids: torch.Tensor, batch: ForwardBatch) -> torch.Tensor:
        hidden: torch.Tensor = self.decoder(input_ids, batch)
        return hidden

    def vectors(self, pooled: torch.Tensor) -> torch.Tensor:
        """float32[k, H] -> float32[k, dimension]: embeddings, or logits of the classes."""
        if self.score is None:
            return pooled
        return nn.functional.linear(pooled.to(self.dtype), self.score).float()

    def bind_kv_cache(self, caches: list[KVPair]) -> None:
        self.decoder.bind_kv_cache(caches)

    def placements(self) -> Placements:
        yield from self.decoder.placements()
        if self.score is not None:
            yield "score.weight", whole(self.score)

    def own_tensors(self, stored: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
        """What of a checkpoint is ours, named as in one with a head."""
        bare = not any(name.startswith(PREFIX) for name in stored)
        unused = HEADS if self.score is None else HEADS[:1]
        return {
            PREFIX + name if bare and not name.startswith(HEADS) else name: tensor
            for name, tensor in stored.items()
            if not name.startswith(unused)
        }
