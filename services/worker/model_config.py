"""ModelConfig: what config.json says of a decoder, in one spelling.

Both of transformers' spellings are read: rope_theta and rope_scaling beside each other (4.x),
or together as rope_parameters (5.x).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from octavo.services.worker.models import registry
from octavo.shared.errors import ConfigError
from octavo.shared.pooling import PoolingInfo

Count = Annotated[int, msgspec.Meta(ge=1, le=2**24)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


@dataclass(frozen=True)
class RopeConfig:
    """`kind` default, linear, dynamic, llama3, yarn or longrope; `parameters`: those given."""

    kind: str
    theta: float
    rotary_dim: int
    parameters: dict[str, Any]
    max_position_embeddings: int

    @property
    def original_max(self) -> int:
        """Positions that the model was trained on before any scaling."""
        original = self.parameters.get("original_max_position_embeddings")
        return int(original or self.max_position_embeddings)


@dataclass(frozen=True)
class ModelConfig:
    """`windows`: each layer's sliding window in tokens, 0 for full attention."""

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    rms_norm_eps: float
    max_position_embeddings: int
    attention_bias: bool
    mlp_bias: bool
    tie_word_embeddings: bool
    windows: tuple[int, ...]
    rope: RopeConfig
    dtype: str
    pooling: PoolingInfo | None = None
    """Set: the model is to make vectors."""

    @classmethod
    def load(cls, folder: str | Path, pooling: PoolingInfo | None = None) -> ModelConfig:
        """Read `folder`/config.json. Raises ConfigError naming the file and the field."""
        path = Path(folder) / "config.json"
        try:
            config = _resolve(msgspec.json.decode(path.read_bytes(), type=RawConfig))
            return replace(config, pooling=pooling)
        except (OSError, ValueError, RecursionError, ConfigError) as error:
            raise ConfigError(f"{path}: {error}") from error


class RawRope(msgspec.Struct):
    """rope_scaling or rope_parameters, for every kind at once."""

    rope_type: str | None = None
    type: str | None = None
    rope_theta: Positive | None = None
    partial_rotary_factor: Positive | None = None
    factor: Positive | None = None
    original_max_position_embeddings: Count | None = None
    low_freq_factor: Positive | None = None
    high_freq_factor: Positive | None = None
    short_factor: list[Positive] | None = None
    long_factor: list[Positive] | None = None
    attention_factor: float | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool | None = None


class RawConfig(msgspec.Struct):
    """The fields that are read, as transformers writes them."""

    architectures: Annotated[list[str], msgspec.Meta(min_length=1)]
    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    vocab_size: Count
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    max_position_embeddings: Count = 2048
    original_max_position_embeddings: Count | None = None
    rope_theta: Positive | None = None
    rope_scaling: RawRope | None = None
    rope_parameters: RawRope | None = None
    partial_rotary_factor: Positive | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    sliding_window: Annotated[int, msgspec.Meta(ge=0)] | None = None
    use_sliding_window: bool | None = None
    max_window_layers: int = 28
    layer_types: list[str] | None = None
    torch_dtype: str | None = None
    dtype: str | None = None
    quantization_config: dict[str, Any] | None = None
    is_causal: bool = True


def _resolve(raw: RawConfig) -> ModelConfig:
    _check(raw)
    heads = raw.num_attention_heads
    head_dim = raw.head_dim or raw.hidden_size // heads
    return ModelConfig(
        architecture=registry.family(raw.architectures[0]),
        hidden_size=raw.hidden_size,
        intermediate_size=raw.intermediate_size,
        num_layers=raw.num_hidden_layers,
        num_heads=heads,
        num_kv_heads=raw.num_key_value_heads or heads,
        head_dim=head_dim,
        vocab_size=raw.vocab_size,
        rms_norm_eps=raw.rms_norm_eps,
        max_position_embeddings=raw.max_position_embeddings,
        attention_bias=raw.attention_bias,
        mlp_bias=raw.mlp_bias,
        tie_word_embeddings=raw.tie_word_embeddings,
        windows=tuple(_windows(raw)),
        rope=_rope(raw, head_dim),
        dtype=raw.dtype or raw.torch_dtype or "float32",
    )


def _check(raw: RawConfig) -> None:
    """What a field's type cannot say."""
    heads, kv_heads = raw.num_attention_heads, raw.num_key_value_heads
    if raw.hidden_act != "silu":
        raise ConfigError(f"hidden_act {raw.hidden_act!r} is not supported, only silu.")
    if not raw.is_causal:
        raise ConfigError("is_causal: decoders that look ahead are not supported.")
    if raw.quantization_config is not None:
        method = raw.quantization_config.get("quant_method")
        raise ConfigError(f"quantization_config: quantized weights ({method}) are not supported.")
    if kv_heads and heads % kv_heads:
        raise ConfigError(f"num_key_value_heads {kv_heads} does not divide {heads} heads.")


def _windows(raw: RawConfig) -> list[int]:
    name, layers = raw.architectures[0], range(raw.num_hidden_layers)
    if not registry.has_window(name, raw.use_sliding_window):
        return [0 for _ in layers]
    window = raw.sliding_window or 0
    if raw.layer_types is not None:
        if len(raw.layer_types) != len(layers):
            raise ConfigError(f"layer_types has {len(raw.layer_types)} of {len(layers)} layers.")
        return [window if kind == "sliding_attention" else 0 for kind in raw.layer_types]
    first = raw.max_window_layers if registry.family(name) in registry.SWITCHED else 0
    return [window if layer >= first else 0 for layer in layers]


def _rope(raw: RawConfig, head_dim: int) -> RopeConfig:
    given = raw.rope_parameters or raw.rope_scaling or RawRope()
    fields = msgspec.structs.asdict(given)
    parameters = {name: value for name, value in fields.items() if value is not None}
    if raw.original_max_position_embeddings:
        parameters["original_max_position_embeddings"] = raw.original_max_position_embeddings
    rotary_dim = int(head_dim * (given.partial_rotary_factor or raw.partial_rotary_factor or 1.0))
    if rotary_dim % 2 or not 2 < rotary_dim <= head_dim:
        raise ConfigError(f"partial_rotary_factor: cannot rotate {rotary_dim} of {head_dim} dims.")
    return RopeConfig(
        kind=given.rope_type or given.type or "default",
        theta=given.rope_theta or raw.rope_theta or 10000.0,
        rotary_dim=rotary_dim,
        parameters=parameters,
        max_position_embeddings=raw.max_position_embeddings,
    )
