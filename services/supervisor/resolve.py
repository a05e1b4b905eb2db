"""From settings to a configuration without open questions: model found, limits decided, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from octavo.services.supervisor.bounds import check_engine
from octavo.services.supervisor.model_info import ModelFile, model_info, read_model_file
from octavo.services.supervisor.model_source import locate, served_name
from octavo.services.supervisor.pooling_info import longest_text, pooling_info
from octavo.shared.config import DType, EngineConfig, ModelInfo, ServerConfig
from octavo.shared.errors import ConfigError
from octavo.shared.pooling import PoolingInfo

DEVICES = Path("/dev")


@dataclass(frozen=True)
class Defaults:
    """Limits by device, where the user names none."""

    block_size: int
    max_num_seqs: int
    max_num_batched_tokens: int


DEFAULTS = {"cuda": Defaults(64, 512, 8192), "cpu": Defaults(16, 64, 2048)}


def resolve(server: ServerConfig, environ: Mapping[str, str]) -> tuple[ServerConfig, ModelInfo]:
    """Download if need be, read the model's files, decide what is open. Raises ConfigError."""
    engine = server.engine
    directory = locate(engine.model, weights=engine.load_format != "dummy")
    tokenizer = directory
    if engine.tokenizer:
        tokenizer = locate(engine.tokenizer, weights=False)
    file = read_model_file(directory)
    pooling = pooling_info(directory, file, engine)
    if pooling is not None:
        engine, file = as_pooling(engine, file, pooling, longest_text(directory, file), environ)
    decided = resolve_engine(engine, file, environ)
    decided = msgspec.structs.replace(decided, model=str(directory), tokenizer=str(tokenizer))
    names = server.served_model_name or [served_name(engine.model)]
    server = msgspec.structs.replace(server, engine=decided, served_model_name=names)
    model = model_info(directory, file, tokenizer, decided.max_model_len or file.max_len)
    return server, msgspec.structs.replace(model, pooling=pooling)


def as_pooling(
    engine: EngineConfig,
    file: ModelFile,
    pooling: PoolingInfo,
    longest: int,
    environ: Mapping[str, str],
) -> tuple[EngineConfig, ModelFile]:
    """Settings and limits of a server that pools. An encoder's step holds its longest text."""
    engine = msgspec.structs.replace(engine, enable_prefix_caching=False, runner="pooling")
    file = msgspec.structs.replace(
        file, max_position_embeddings=longest, rope_scaling=None, rope_parameters=None
    )
    if not pooling.encoder:
        return engine, file
    if engine.deterministic:
        raise ConfigError("deterministic is for decoders: an encoder's sums depend on the batch")
    tokens = engine.max_num_batched_tokens
    if tokens is None:
        usual = DEFAULTS[_device(engine, environ)].max_num_batched_tokens
        tokens = max(usual, engine.max_model_len or longest)
    elif engine.max_model_len is not None and tokens < engine.max_model_len:
        raise ConfigError(
            f"max_num_batched_tokens {tokens} is less than max_model_len {engine.max_model_len}: "
            "an encoder computes a text in one step"
        )
    length = engine.max_model_len or min(longest, tokens)
    engine = msgspec.structs.replace(engine, max_num_batched_tokens=tokens, max_model_len=length)
    return engine, file


def resolve_engine(
    engine: EngineConfig, file: ModelFile, environ: Mapping[str, str]
) -> EngineConfig:
    """`engine` with every None decided but kv_cache_memory_bytes, and every value checked."""
    device = _device(engine, environ)
    defaults = DEFAULTS[device]
    tokens = _first(engine.max_num_batched_tokens, defaults.max_num_batched_tokens)
    engine = msgspec.structs.replace(
        engine,
        device=device,
        dtype=_dtype(engine.dtype, device, file),
        max_model_len=_max_model_len(engine, file),
        max_num_batched_tokens=tokens,
        max_num_seqs=_first(engine.max_num_seqs, min(defaults.max_num_seqs, tokens)),
        block_size=engine.block_size or defaults.block_size,
    )
    check_engine(engine)
    _check_ranks(engine, file, environ)
    return engine


def _device(engine: EngineConfig, environ: Mapping[str, str]) -> str:
    return engine.device if engine.device != "auto" else detect_device(environ)


def _first(asked: int | None, default: int) -> int:
    return default if asked is None else asked


def detect_device(environ: Mapping[str, str]) -> str:
    return "cuda" if count_gpus(environ) else "cpu"


def count_gpus(environ: Mapping[str, str]) -> int:
    """GPUs that CUDA would see, without asking CUDA: this process must not load it."""
    devices = [path for path in DEVICES.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not devices:
        return len(devices)
    names = [name.strip() for name in visible.split(",")]
    # CUDA stops at the first name that is none.
    return next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))


def _dtype(asked: DType, device: str, file: ModelFile) -> str:
    if asked != "auto":
        return asked
    if device == "cpu":
        return "float32"
    own = file.dtype or file.torch_dtype or "bfloat16"
    return own if own in ("bfloat16", "float16") else "bfloat16"


def _max_model_len(engine: EngineConfig, file: ModelFile) -> int:
    asked, limit = engine.max_model_len, file.max_len
    if asked is None:
        return limit
    if asked > limit:
        raise ConfigError(
            f"max_model_len {asked} is more than the model's {limit} tokens "
            f"(max_position_embeddings {file.max_position_embeddings}, rope scaling included)"
        )
    return asked


def _check_ranks(engine: EngineConfig, file: ModelFile, environ: Mapping[str, str]) -> None:
    ranks, heads, kv_heads = engine.tensor_parallel_size, file.num_attention_heads, file.kv_heads
    if heads % ranks:
        raise ConfigError(f"tensor_parallel_size {ranks} does not divide {heads} attention heads")
    if kv_heads % ranks and ranks % kv_heads:
        raise ConfigError(f"tensor_parallel_size {ranks} does not fit {kv_heads} KV heads")
    gpus = count_gpus(environ)
    if engine.device == "cuda" and 0 < gpus < ranks:
        raise ConfigError(f"tensor_parallel_size {ranks} needs as many GPUs; there are {gpus}")
