"""BERT: an encoder. Every token sees all others of its text, and no cache is left behind."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from octavo.services.worker.causal_lm import KVPair
from octavo.services.worker.checkpoint import StoredTensor
from octavo.services.worker.encoder_config import EncoderConfig
from octavo.services.worker.layers.encoder import Dense, EncoderLayer, LayerNorm
from octavo.services.worker.layers.placement import Placements, whole
from octavo.services.worker.parallel import Parallel
from octavo.services.worker.pooling.ragged import RaggedBatch

OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


class BertEncoder(nn.Module):
    """Embeddings, layers, and where it classifies two more products on the pooled state.

    Subclasses name the parts of their checkpoints: `PREFIX` of those with a head, `HEAD` the two
    products.
    """

    PREFIX: ClassVar[str] = "bert."
    HEAD: ClassVar[tuple[str, str]] = ("bert.pooler.dense", "classifier")

    def __init__(self, config: EncoderConfig, parallel: Parallel, max_model_len: int) -> None:
        super().__init__()
        size = config.hidden_size
        self.words = _table(config.vocab_size, size)
        self.positions = _table(config.max_position_embeddings, size)
        self.types = _table(config.type_vocab_size, size)
        self.norm = LayerNorm(size, config.layer_norm_eps)
        self._blocks = [EncoderLayer(config) for _ in range(config.num_layers)]
        self.layers = nn.ModuleList(self._blocks)
        self.head: tuple[Dense, Dense] | None = None
        if config.pooling.task == "classify":
            self.head_in, self.head_out = Dense(size, size), Dense(size, config.pooling.dimension)
            self.head = (self.head_in, self.head_out)
        self.num_layers = config.num_layers
        self.hidden_size = size
        self.dtype = torch.get_default_dtype()
        self._first_position = config.first_position
        self._marks_second = config.type_vocab_size > 1

    def forward(self, batch: RaggedBatch) -> torch.Tensor:
        """Hidden states [T, H] of all tokens."""
        embed = nn.functional.embedding
        types = batch.types if self._marks_second else torch.zeros_like(batch.types)
        hidden: torch.Tensor = embed(batch.ids, self.words) + embed(types, self.types)
        hidden = self.norm(hidden + embed(batch.positions + self._first_position, self.positions))
        for layer in self._blocks:
            hidden = layer(hidden, batch)
        return hidden

    def vectors(self, pooled: torch.Tensor) -> torch.Tensor:
        """float32[k, H] -> float32[k, dimension]: embeddings, or logits of the classes."""
        if self.head is None:
            return pooled
        inner, outer = self.head
        logits: torch.Tensor = outer(inner(pooled.to(self.dtype)).tanh())
        return logits.float()

    def bind_kv_cache(self, caches: list[KVPair]) -> None:
        """There is none."""

    def placements(self) -> Placements:
        prefix = f"{self.PREFIX}embeddings."
        yield f"{prefix}word_embeddings.weight", whole(self.words)
        yield f"{prefix}position_embeddings.weight", whole(self.positions)
        yield f"{prefix}token_type_embeddings.weight", whole(self.types)
        yield from self.norm.placements(f"{prefix}LayerNorm")
        for index, layer in enumerate(self._blocks):
            yield from layer.placements(f"{self.PREFIX}encoder.layer.{index}.")
        for name, dense in zip(self.HEAD, self.head or (), strict=False):
            yield from dense.placements(name)

    def own_tensors(self, stored: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
        """What of a checkpoint is ours, named as in one with a head."""
        bare = not any(name.startswith(self.PREFIX) for name in stored)
        named = {_present(name, self.PREFIX if bare else ""): one for name, one in stored.items()}
        wanted = {name for name, _ in self.placements()}
        layers = (f"{self.PREFIX}embeddings.", f"{self.PREFIX}encoder.")
        return {
            name: one
            for name, one in named.items()
            if name in wanted or (name.startswith(layers) and not name.endswith("position_ids"))
        }


def _present(name: str, prefix: str) -> str:
    """The present name of a tensor, where checkpoints differ in it."""
    for old, new in OLD_NAMES.items():
        name = name.replace(old, new)
    return prefix + name if name.startswith(("embeddings.", "encoder.", "pooler.")) else name


def _table(rows: int, size: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, size), requires_grad=False)
