"""Why a planned server would not run, and which flag would help."""

from __future__ import annotations

import msgspec

from octavo.services.plan.card import Card
from octavo.services.plan.estimate import Estimate, estimate
from octavo.services.worker.memory import GIB
from octavo.shared.config import EngineConfig, ModelInfo
from octavo.shared.errors import ConfigError

MOST_RANKS = 16
HIGHEST_SHARE = 0.95


SMALL = GIB // 10


def gib(num_bytes: int) -> str:
    if abs(num_bytes) < SMALL:
        return f"{num_bytes / (1 << 20):.1f} MiB"
    return f"{num_bytes / GIB:.2f} GiB"


def advise(found: Estimate, info: ModelInfo) -> list[str]:
    """Nothing where the server runs."""
    trouble = _trouble(found)
    if trouble is None:
        return []
    hints = [hint for hint in (_shorter(found), _more_share(found, info)) if hint]
    if found.engine.kv_cache_memory_bytes and found.kv_available > 0:
        hints.append(f"lower --kv-cache-memory-bytes to {found.kv_available >> 20}Mi or leave it")
    hints += _ranks(found, info) if found.card.is_gpu else []
    return [trouble, *(hints or ["no flag helps: take a larger device, or a smaller model"])]


def _trouble(found: Estimate) -> str | None:
    allowed = f"{gib(found.usable)} of {found.card.name} may be used"
    if found.weights > found.usable:
        return f"the weights need {gib(found.weights)} on each rank, but {allowed}"
    if found.kv_available <= 0:
        return f"weights and what a step needs leave nothing for the KV cache: {allowed}"
    asked = found.engine.kv_cache_memory_bytes or 0
    if asked > found.kv_available:
        return f"kv_cache_memory_bytes asks for {gib(asked)}, {gib(found.kv_available)} are left"
    if found.kv_per_token and found.kv_tokens < found.max_model_len:
        return (
            f"one request of max_model_len {found.max_model_len} does not fit "
            f"the KV cache of {found.kv_tokens} tokens"
        )
    return None


def _shorter(found: Estimate) -> str | None:
    if 0 < found.kv_tokens < found.max_model_len:
        return f"--max-model-len {found.kv_tokens}"
    return None


def _more_share(found: Estimate, info: ModelInfo) -> str | None:
    now = found.engine.gpu_memory_utilization
    if now < HIGHEST_SHARE and _would_run(found, info, gpu_memory_utilization=HIGHEST_SHARE):
        return f"--gpu-memory-utilization {HIGHEST_SHARE} (it is {now})"
    smaller = {"max_num_batched_tokens": 2048, "max_num_seqs": 64}
    if found.card.is_gpu and _would_run(found, info, **smaller):
        return "--max-num-batched-tokens 2048 --max-num-seqs 64: a smaller step needs less"
    return None


def _ranks(found: Estimate, info: ModelInfo) -> list[str]:
    ranks = found.engine.tensor_parallel_size * 2
    while ranks <= MOST_RANKS:
        if _would_run(found, info, tensor_parallel_size=ranks):
            return [f"--tensor-parallel-size {ranks}, on as many GPUs"]
        ranks *= 2
    return []


def _would_run(found: Estimate, info: ModelInfo, **changes: float) -> bool:
    engine: EngineConfig = msgspec.structs.replace(found.engine, **changes)
    return runs(engine, info, found.card)


def runs(engine: EngineConfig, info: ModelInfo, card: Card) -> bool:
    try:
        return _trouble(estimate(engine, info, "", card, [])) is None
    except ConfigError:
        return False
