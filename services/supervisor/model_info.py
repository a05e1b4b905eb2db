"""What the processes without torch need to know of a model, read from its JSON files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from octavo.services.worker.models import registry
from octavo.shared.config import ModelInfo
from octavo.shared.errors import ConfigError

T = TypeVar("T")
Ids = int | list[int] | None

SAMPLING_KEYS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "max_new_tokens",
)


class RopeScaling(msgspec.Struct):
    """The part of rope_scaling (transformers 4) or rope_parameters (5) that moves the limit."""

    rope_type: str | None = None
    type: str | None = None
    factor: float | None = None
    original_max_position_embeddings: int | None = None

    @property
    def kind(self) -> str:
        return self.rope_type or self.type or "default"


class ModelFile(msgspec.Struct):
    """config.json, as far as it concerns the supervisor."""

    architectures: list[str]
    vocab_size: int
    max_position_embeddings: int
    num_attention_heads: int
    num_key_value_heads: int | None = None
    dtype: str | None = None
    torch_dtype: str | None = None
    rope_scaling: RopeScaling | None = None
    rope_parameters: RopeScaling | None = None
    sliding_window: int | None = None
    use_sliding_window: bool | None = None
    bos_token_id: Ids = None
    eos_token_id: Ids = None

    @property
    def kv_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def max_len(self) -> int:
        """Longest sequence in tokens, rope scaling included.

        llama3 and longrope checkpoints give the scaled length already. linear and dynamic give
        the unscaled one. yarn gives either, and the original one beside it.
        """
        rope = self.rope_parameters or self.rope_scaling or RopeScaling()
        length, factor = self.max_position_embeddings, rope.factor or 1.0
        if rope.kind in ("linear", "dynamic"):
            return int(length * factor)
        if rope.kind == "yarn":
            return max(length, int((rope.original_max_position_embeddings or length) * factor))
        return length


class _AddedToken(msgspec.Struct):
    id: int
    content: str


LARGEST_DEFAULT = 2**31
"""Of a sampling parameter; what is larger is no default that anybody meant."""


class _TokenizerFile(msgspec.Struct):
    added_tokens: list[_AddedToken] = []


def read_model_file(directory: Path) -> ModelFile:
    """config.json. Raises ConfigError for a file without what every model needs."""
    file = read_json(directory / "config.json", ModelFile)
    if not file.architectures:
        raise ConfigError(f"{directory / 'config.json'}: architectures is empty")
    registry.check_architecture(file.architectures[0])
    return file


def model_info(directory: Path, file: ModelFile, tokenizer: Path, max_model_len: int) -> ModelInfo:
    generation = _read_optional(directory / "generation_config.json")
    name = file.architectures[0]
    windowed = registry.has_window(name, file.use_sliding_window)
    return ModelInfo(
        architecture=name,
        sliding_window=(file.sliding_window or None) if windowed else None,
        vocab_size=file.vocab_size,
        max_model_len=max_model_len,
        eos_token_ids=_eos_ids(file, generation, tokenizer),
        bos_token_id=next(iter(_ids(file.bos_token_id)), None),
        sampling_defaults={
            key: float(value)
            for key in SAMPLING_KEYS
            if isinstance(value := generation.get(key), int | float)
            and abs(value) <= LARGEST_DEFAULT
        },
    )


def _eos_ids(file: ModelFile, generation: dict[str, Any], tokenizer: Path) -> list[int]:
    """Every id that one of the files calls the end: chat models spread them over all three."""
    ids = [*_ids(generation.get("eos_token_id")), *_ids(file.eos_token_id)]
    ids += _tokenizer_eos(tokenizer)
    return [token_id for token_id in dict.fromkeys(ids) if 0 <= token_id < file.vocab_size]


def _tokenizer_eos(directory: Path) -> list[int]:
    eos = _read_optional(directory / "tokenizer_config.json").get("eos_token")
    content = eos.get("content") if isinstance(eos, dict) else eos
    if not content or not (path := directory / "tokenizer.json").is_file():
        return []
    tokens = read_json(path, _TokenizerFile).added_tokens
    return [token.id for token in tokens if token.content == content]


def _ids(value: Any) -> list[int]:
    if isinstance(value, list):
        return [item for item in value if isinstance(item, int)]
    return [value] if isinstance(value, int) else []


def _read_optional(path: Path) -> dict[str, Any]:
    return read_json(path, dict[str, Any]) if path.is_file() else {}


def read_json(path: Path, kind: type[T]) -> T:
    """A JSON file as `kind`. Raises ConfigError naming file and field."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: {reason}") from error
