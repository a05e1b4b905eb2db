"""A plan: what a server with these settings would have on this device, and whether it would run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from octavo.services.plan.card import Card
from octavo.services.plan.reserve import Reserve, reserve
from octavo.services.plan.weights import stored_bytes, weight_bytes
from octavo.services.worker.encoder_config import EncoderConfig, load_config
from octavo.services.worker.memory import CPU_KV_BYTES, kv_bytes, usable
from octavo.services.worker.model_config import ModelConfig
from octavo.shared.config import EngineConfig, ModelInfo

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
Config = ModelConfig | EncoderConfig


@dataclass(frozen=True)
class Load:
    """`requests` of `length` tokens run at once; 0: not one fits."""

    length: int
    requests: int


@dataclass(frozen=True)
class Estimate:
    """Bytes and tokens of one rank, which are those of every rank."""

    model: str
    architecture: str
    card: Card
    engine: EngineConfig
    weights: int
    weights_from: str
    usable: int
    reserve: Reserve | None
    """None: on a CPU nothing is kept back."""
    kv_per_token: int
    kv_available: int
    num_blocks: int
    loads: list[Load] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    """Why it does not run, and what would help; none where it does."""

    @property
    def fits(self) -> bool:
        return not self.advice

    @property
    def kv_tokens(self) -> int:
        return self.num_blocks * (self.engine.block_size or 1)

    @property
    def max_model_len(self) -> int:
        return self.engine.max_model_len or 1

    @property
    def concurrency(self) -> float:
        """Requests of the longest kind; above 1 even where the slots would be fewer."""
        return self.kv_tokens / self.max_model_len


def estimate(
    engine: EngineConfig, info: ModelInfo, name: str, card: Card, lengths: list[int]
) -> Estimate:
    """For a resolved configuration."""
    config = load_config(engine.model, info.pooling)
    item_bytes = ITEM_BYTES[engine.dtype]
    weights, source = _weights(config, engine, item_bytes)
    kept = reserve(config, engine, item_bytes) if card.is_gpu else None
    allowed = usable(card.free, card.total, engine.gpu_memory_utilization)
    per_token = _kv_per_token(config, engine, item_bytes)
    available = _for_kv(engine, card, allowed, weights, kept)
    wanted = engine.kv_cache_memory_bytes or available
    block = per_token * (engine.block_size or 1)
    blocks = max(wanted, 0) // block if block else 0
    return Estimate(
        model=name,
        architecture=info.architecture,
        card=card,
        engine=engine,
        weights=weights,
        weights_from=source,
        usable=allowed,
        reserve=kept,
        kv_per_token=per_token,
        kv_available=available,
        num_blocks=blocks,
        loads=[Load(length, _requests(engine, blocks, length)) for length in lengths],
    )


def _weights(config: Config, engine: EngineConfig, item_bytes: int) -> tuple[int, str]:
    """The files tell more than the configuration where all of them goes to one rank."""
    if isinstance(config, ModelConfig) and config.pooling is None:
        whole = engine.tensor_parallel_size == 1 and engine.load_format != "dummy"
        found = stored_bytes(config, Path(engine.model), item_bytes) if whole else None
        if found is not None:
            return found, "files"
    return weight_bytes(config, engine.tensor_parallel_size, item_bytes), "config.json"


def _kv_per_token(config: Config, engine: EngineConfig, item_bytes: int) -> int:
    if isinstance(config, EncoderConfig):
        return 0
    heads = max(config.num_kv_heads // engine.tensor_parallel_size, 1)
    return kv_bytes(config.num_layers, heads, config.head_dim, item_bytes)


def _for_kv(
    engine: EngineConfig, card: Card, allowed: int, weights: int, kept: Reserve | None
) -> int:
    if kept is not None:
        return allowed - weights - kept.total
    if engine.kv_cache_memory_bytes:
        return allowed
    return CPU_KV_BYTES if weights <= allowed else allowed - weights


def _requests(engine: EngineConfig, blocks: int, length: int) -> int:
    if length > (engine.max_model_len or 1):
        return 0
    each = -(-length // (engine.block_size or 1))
    return min(blocks // each, engine.max_num_seqs or 1)
