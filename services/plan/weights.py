"""Bytes of a model's parameters on one rank, from its configuration alone.

The worker counts its own parameters on torch's meta device; a test holds the two together.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

from octavo.services.worker.checkpoint import StoredTensor, stored_tensors
from octavo.services.worker.encoder_config import EncoderConfig
from octavo.services.worker.model_config import ModelConfig

NORM_OF_HEADS = ("Qwen3ForCausalLM",)
QKV_BIAS = ("Qwen2ForCausalLM",)
NO_BIAS = ("Phi3ForCausalLM",)
CONVERTED = ("F64", "F32", "F16", "BF16")
"""Stored types that become the server's own."""
IGNORED = ("rotary_emb.inv_freq", "masked_bias")
HEAD = "lm_head.weight"


def weight_bytes(config: ModelConfig | EncoderConfig, ranks: int, item_bytes: int) -> int:
    """By the shapes that the configuration gives."""
    if isinstance(config, EncoderConfig):
        return item_bytes * _encoder(config)
    layers = config.num_layers * _layer(config, ranks)
    return item_bytes * (_outside_layers(config, ranks) + layers)


def stored_bytes(config: ModelConfig, folder: Path, item_bytes: int) -> int | None:
    """By the headers of the checkpoint's files, for one rank; None where there are no files."""
    if not any(folder.glob("*.safetensors")):
        return None
    tensors = stored_tensors(folder)
    skipped = (HEAD,) if config.tie_word_embeddings else ()
    return sum(
        _bytes(tensor, item_bytes)
        for name, tensor in tensors.items()
        if name not in skipped and not name.endswith(IGNORED)
    )


def _bytes(tensor: StoredTensor, item_bytes: int) -> int:
    if tensor.dtype in CONVERTED:
        return prod(tensor.shape) * item_bytes
    return tensor.num_bytes


def _outside_layers(config: ModelConfig, ranks: int) -> int:
    """Embedding, head and last norm."""
    pools = config.pooling is not None
    tables = 1 if config.tie_word_embeddings or pools else 2
    rows = -(-config.vocab_size // ranks)
    labels = 0
    if config.pooling is not None and config.pooling.task == "classify":
        labels = config.pooling.dimension
    return (tables * rows + 1 + labels) * config.hidden_size


def _layer(config: ModelConfig, ranks: int) -> int:
    size, inner = config.hidden_size, config.intermediate_size // ranks
    mlp = 3 * inner * size + (2 * inner + size if config.mlp_bias else 0)
    return _attention(config, ranks) + mlp + 2 * size


def _attention(config: ModelConfig, ranks: int) -> int:
    dim, size = config.head_dim, config.hidden_size
    query = config.num_heads // ranks * dim
    rows = query + 2 * max(config.num_kv_heads // ranks, 1) * dim
    biased = config.attention_bias and config.architecture not in NO_BIAS
    if biased and config.architecture not in QKV_BIAS:
        bias = rows + size
    else:
        bias = rows if config.architecture in QKV_BIAS else 0
    norms = 2 * dim if config.architecture in NORM_OF_HEADS else 0
    return (rows + query) * size + bias + norms


def _encoder(config: EncoderConfig) -> int:
    size, inner = config.hidden_size, config.intermediate_size
    rows = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
    attention, feed = 4 * (size * size + size), 2 * size * inner + inner + size
    total = (rows + 2) * size + config.num_layers * (attention + feed + 4 * size)
    if config.pooling.task == "classify":
        total += size * size + size + config.pooling.dimension * (size + 1)
    return total
