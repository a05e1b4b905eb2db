"""EncoderConfig: what config.json says of a BERT-style encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from octavo.services.worker.model_config import Count, ModelConfig
from octavo.services.worker.models import registry
from octavo.shared.errors import ConfigError
from octavo.shared.pooling import PoolingInfo

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu")


@dataclass(frozen=True)
class EncoderConfig:
    """`first_position`: the index of a text's first row in the position table."""

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    vocab_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    hidden_act: str
    first_position: int
    pooling: PoolingInfo
    tie_word_embeddings: bool = True

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def num_kv_heads(self) -> int:
        return self.num_heads

    @classmethod
    def load(cls, folder: str | Path, pooling: PoolingInfo) -> EncoderConfig:
        """Read `folder`/config.json. Raises ConfigError naming the file and the field."""
        path = Path(folder) / "config.json"
        try:
            return _resolve(msgspec.json.decode(path.read_bytes(), type=RawEncoder), pooling)
        except (OSError, ValueError, RecursionError, ConfigError) as error:
            raise ConfigError(f"{path}: {error}") from error


class RawEncoder(msgspec.Struct):
    """The fields that are read, as transformers writes them."""

    architectures: Annotated[list[str], msgspec.Meta(min_length=1)]
    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    vocab_size: Count
    max_position_embeddings: Count = 512
    type_vocab_size: Count = 2
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"
    position_embedding_type: str | None = "absolute"
    pad_token_id: Annotated[int, msgspec.Meta(ge=0)] | None = None
    is_decoder: bool = False


def load_config(folder: str, pooling: PoolingInfo | None) -> ModelConfig | EncoderConfig:
    """Of a model that generates, or pools as `pooling` says."""
    if pooling is not None and pooling.encoder:
        return EncoderConfig.load(folder, pooling)
    return ModelConfig.load(folder, pooling)


def _resolve(raw: RawEncoder, pooling: PoolingInfo) -> EncoderConfig:
    if raw.hidden_act not in ACTIVATIONS:
        raise ConfigError(f"hidden_act {raw.hidden_act!r} is not supported.")
    if raw.position_embedding_type not in ("absolute", None) or raw.is_decoder:
        raise ConfigError("Only absolute positions and bidirectional attention are supported.")
    if raw.hidden_size % raw.num_attention_heads:
        raise ConfigError(f"num_attention_heads {raw.num_attention_heads} does not divide the size")
    return EncoderConfig(
        architecture=raw.architectures[0],
        hidden_size=raw.hidden_size,
        intermediate_size=raw.intermediate_size,
        num_layers=raw.num_hidden_layers,
        num_heads=raw.num_attention_heads,
        vocab_size=raw.vocab_size,
        max_position_embeddings=raw.max_position_embeddings,
        type_vocab_size=raw.type_vocab_size,
        layer_norm_eps=raw.layer_norm_eps,
        hidden_act=raw.hidden_act,
        first_position=registry.first_position(raw.architectures[0], raw.pad_token_id),
        pooling=pooling,
    )
