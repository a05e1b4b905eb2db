"""What a worker on a GPU needs beside weights and KV cache.

It measures that itself, with the largest step that its limits allow; here the tensors of that
step are counted. `services/worker/warm_up.py` says what the step is.
"""

from __future__ import annotations

from dataclasses import dataclass

from octavo.services.worker.encoder_config import EncoderConfig
from octavo.services.worker.memory import GRAPH_RESERVE
from octavo.services.worker.model_config import ModelConfig
from octavo.shared.config import EngineConfig

OUTSIDE = 256 << 20
"""Kernels and libraries on the device, which torch does not count."""
LIBRARIES = 64 << 20
"""cuBLAS's workspaces, which it does."""
FLOAT = 4
LOGIT_BYTES = 3 * FLOAT + 1
"""Of each logit where log-probabilities are asked for: adjusted, raw, normalized, compared."""


@dataclass(frozen=True)
class Reserve:
    """Bytes on one rank."""

    step: int
    """The largest step's tensors, at their peak."""
    state: int
    """Of each slot, for ever."""
    graphs: int = GRAPH_RESERVE
    outside: int = OUTSIDE + LIBRARIES

    @property
    def total(self) -> int:
        return self.step + self.state + self.graphs + self.outside


def reserve(config: ModelConfig | EncoderConfig, engine: EngineConfig, item_bytes: int) -> Reserve:
    slots, tokens = engine.max_num_seqs or 1, engine.max_num_batched_tokens or 1
    forward = tokens * _token_bytes(config, engine.tensor_parallel_size, item_bytes)
    if config.pooling is not None:
        return Reserve(step=forward, state=4 * slots * config.hidden_size)
    logits = slots * config.vocab_size * LOGIT_BYTES + tokens * config.hidden_size * item_bytes
    return Reserve(step=max(forward, logits), state=_state(config, engine))


def _token_bytes(config: ModelConfig | EncoderConfig, ranks: int, item_bytes: int) -> int:
    """A layer at its widest: its input, the residual, the normed state, what attention gave, and
    the feed-forward block's inner state before and after its gate; or attention's own part."""
    inner = config.intermediate_size // ranks
    query = config.num_heads // ranks * config.head_dim
    keys = max(config.num_kv_heads // ranks, 1) * config.head_dim
    return item_bytes * (3 * config.hidden_size + query + max(3 * inner, query + 2 * keys))


def _state(config: ModelConfig | EncoderConfig, engine: EngineConfig) -> int:
    """Token counts and block tables of the slots, and the table of rotations."""
    slots, length = engine.max_num_seqs or 1, engine.max_model_len or 1
    counts = slots * config.vocab_size * FLOAT
    tables = slots * -(-length // (engine.block_size or 1)) * FLOAT
    rotations = 0
    if isinstance(config, ModelConfig):
        rotations = length * config.rope.rotary_dim * FLOAT
    return counts + tables + rotations
