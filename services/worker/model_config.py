"""ModelConfig: what config.json says of a decoder, in one spelling.

Both of transformers' spellings are read: rope_theta and rope_scaling beside each other (4.x),
or together as rope_parameters (5.x).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from octavo.shared.errors import ConfigError


@dataclass(frozen=True)
class RopeConfig:
    """`kind` default, linear, dynamic, llama3, yarn or longrope; `parameters` as in the file."""

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

    @classmethod
    def load(cls, folder: str | Path) -> ModelConfig:
        """Read `folder`/config.json. Raises ConfigError naming the file and the field."""
        path = Path(folder) / "config.json"
        try:
            raw = msgspec.json.decode(path.read_bytes(), type=RawConfig)
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigError(f"{path}: {error}") from error
        if raw.hidden_act != "silu":
            raise ConfigError(f"{path}: hidden_act {raw.hidden_act!r} is not supported, only silu.")
        return _resolve(raw)


class RawConfig(msgspec.Struct):
    """The fields that are read, as transformers writes them."""

    architectures: list[str]
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    vocab_size: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 2048
    original_max_position_embeddings: int | None = None
    rope_theta: float | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    partial_rotary_factor: float | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    sliding_window: int | None = None
    use_sliding_window: bool | None = None
    max_window_layers: int | None = None
    layer_types: list[str] | None = None
    torch_dtype: str | None = None
    dtype: str | None = None


def _resolve(raw: RawConfig) -> ModelConfig:
    heads = raw.num_attention_heads
    head_dim = raw.head_dim or raw.hidden_size // heads
    return ModelConfig(
        architecture=raw.architectures[0] if raw.architectures else "",
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


def _windows(raw: RawConfig) -> list[int]:
    window = raw.sliding_window or 0
    layers = range(raw.num_hidden_layers)
    if raw.use_sliding_window is False:
        return [0 for _ in layers]
    if raw.layer_types is not None:
        return [window if kind == "sliding_attention" else 0 for kind in raw.layer_types]
    if raw.use_sliding_window and raw.max_window_layers is not None:
        return [window if layer >= raw.max_window_layers else 0 for layer in layers]
    return [window for _ in layers]


def _rope(raw: RawConfig, head_dim: int) -> RopeConfig:
    parameters = dict(raw.rope_parameters or raw.rope_scaling or {})
    if raw.original_max_position_embeddings:
        parameters["original_max_position_embeddings"] = raw.original_max_position_embeddings
    partial = parameters.get("partial_rotary_factor") or raw.partial_rotary_factor or 1.0
    return RopeConfig(
        kind=parameters.get("rope_type") or parameters.get("type") or "default",
        theta=parameters.get("rope_theta") or raw.rope_theta or 10000.0,
        rotary_dim=int(head_dim * partial),
        parameters=parameters,
        max_position_embeddings=raw.max_position_embeddings,
    )
