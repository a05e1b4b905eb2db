"""Limits: the numbers that bound the scheduler, resolved once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from octavo.shared.config import ProcessConfig, ServerConfig
from octavo.shared.errors import ConfigError

Floats = npt.NDArray[np.float64]

KV_CACHES_QUEUED = 8
CONTEXTS_QUEUED = 64
TOKENS_PER_QUEUED_REQUEST = 1024


@dataclass(frozen=True)
class Limits:
    """Lengths and budgets are in tokens; `num_blocks` blocks of `block_size` tokens exist."""

    num_blocks: int
    block_size: int
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    prefill_beside_decode: int = 512
    max_queued_requests: int = 4096
    max_queued_tokens: int = 1 << 62
    """Of prompts that wait."""
    target_itl: float | None = None
    """Seconds that a step with decodes may take."""
    tenant_slowdown: float = 1.5
    """How much longer a step may last for tenants over their share; 0: as long as it takes."""
    priority_ageing: float = 0.0
    """Seconds of waiting that are worth one step of priority; 0: none are."""
    vocab_size: int = 1 << 17
    prefix_caching: bool = True
    pooling: bool = False
    """Requests want vectors, not tokens; a prompt may be as long as the context."""
    whole_prompts: bool = False
    """A prompt is computed in one step, or waits."""

    @property
    def kv_tokens(self) -> int:
        return self.num_blocks * self.block_size

    @property
    def spare_blocks(self) -> int:
        """Kept back from admission while requests run: they grow, and must not preempt at once."""
        return self.num_blocks // 100

    @property
    def longest_prompt(self) -> int:
        longest = self.max_model_len - (not self.pooling)
        return min(longest, self.max_num_batched_tokens) if self.whole_prompts else longest

    def rank(self, priority: int, arrival_time: float) -> float:
        """What a request is sorted by among its tenant's: it ages by keeping its place."""
        return priority + (arrival_time / self.priority_ageing if self.priority_ageing else 0.0)

    def aged(self, priority: Floats, waited: Floats) -> Floats:
        """float64[n]: the priorities of requests that have waited for so many seconds."""
        if not self.priority_ageing:
            return priority
        return priority - np.maximum(waited, 0.0) // self.priority_ageing

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    @classmethod
    def of(cls, config: ProcessConfig, num_blocks: int) -> Limits:
        """Raise ConfigError for a configuration that was not resolved."""
        engine, pooling = config.server.engine, config.model.pooling
        return cls(
            num_blocks=num_blocks,
            block_size=_resolved("block_size", engine.block_size),
            max_model_len=_resolved("max_model_len", engine.max_model_len),
            max_num_seqs=_resolved("max_num_seqs", engine.max_num_seqs),
            max_num_batched_tokens=_resolved(
                "max_num_batched_tokens", engine.max_num_batched_tokens
            ),
            prefill_beside_decode=engine.prefill_beside_decode,
            target_itl=engine.target_itl_ms / 1e3 if engine.target_itl_ms else None,
            priority_ageing=engine.priority_ageing,
            tenant_slowdown=engine.tenant_slowdown,
            max_queued_requests=config.server.max_queued_requests,
            max_queued_tokens=queued_tokens(
                config.server, num_blocks * _resolved("block_size", engine.block_size)
            ),
            vocab_size=config.model.vocab_size,
            prefix_caching=engine.enable_prefix_caching and pooling is None,
            pooling=pooling is not None,
            whole_prompts=pooling is not None and pooling.encoder,
        )


def queued_tokens(server: ServerConfig, kv_tokens: int = 0) -> int:
    """How many tokens of prompts may wait: as many as the operator says. Else so many that usual
    prompts come to the bound of requests first, and that what long ones make wait has an end.
    `kv_tokens`: of the KV cache, once it is known."""
    if server.max_queued_tokens is not None:
        return server.max_queued_tokens
    return max(
        KV_CACHES_QUEUED * kv_tokens,
        CONTEXTS_QUEUED * _resolved("max_model_len", server.engine.max_model_len),
        TOKENS_PER_QUEUED_REQUEST * server.max_queued_requests,
    )


def _resolved(name: str, value: int | None) -> int:
    if value is None or value < 1:
        raise ConfigError(f"{name} must be at least 1 when the scheduler starts, it is {value}.")
    return value
