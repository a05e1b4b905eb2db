"""What `vllm:cache_config_info` says of the KV cache: vLLM's names for what there is here."""

from __future__ import annotations

from octavo.services.scheduler.limits import Limits
from octavo.shared.config import ProcessConfig


def cache_facts(config: ProcessConfig) -> dict[str, str]:
    """All but what `Limits` knows."""
    engine = config.server.engine
    facts = {
        "cache_dtype": "auto",  # the activations' own
        "gpu_memory_utilization": engine.gpu_memory_utilization,
        "kv_cache_memory_bytes": engine.kv_cache_memory_bytes,
        "num_gpu_blocks_override": None,
        "prefix_caching_hash_algo": "sha256",
        "sliding_window": config.model.sliding_window,
    }
    return {name: str(value) for name, value in facts.items()}


def limit_facts(limits: Limits) -> dict[str, str]:
    return {
        "block_size": str(limits.block_size),
        "num_gpu_blocks": str(limits.num_blocks),
        "enable_prefix_caching": str(limits.prefix_caching),
    }
