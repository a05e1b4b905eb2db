"""The paged KV cache: how many blocks fit, and their tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from octavo.services.worker.causal_lm import KVPair
from octavo.services.worker.memory import GIB, host_memory, kv_bytes, usable
from octavo.shared.config import EngineConfig
from octavo.shared.errors import ConfigError, ResourceBusy


@dataclass(frozen=True)
class KVSpec:
    """Shape of one rank's cache."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    block_size: int
    dtype: torch.dtype

    @property
    def bytes_per_block(self) -> int:
        per_token = kv_bytes(self.num_layers, self.num_kv_heads, self.head_dim, self.dtype.itemsize)
        return per_token * self.block_size

    def allocate(self, num_blocks: int, device: torch.device) -> list[KVPair]:
        """Zeroed (k, v) of [num_blocks, num_kv_heads, block_size, head_dim] for each layer."""
        shape = (num_blocks, self.num_kv_heads, self.block_size, self.head_dim)

        def tensor() -> torch.Tensor:
            return torch.zeros(shape, dtype=self.dtype, device=device)

        return [(tensor(), tensor()) for _ in range(self.num_layers)]


@dataclass(frozen=True)
class Budget:
    """Bytes on one device: `total` there are, `free` of them unused at start, and what we may
    use of them (`usable`)."""

    total: int
    free: int
    usable: int

    @staticmethod
    def measure(config: EngineConfig, device: torch.device) -> Budget:
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
        else:
            free, total = host_memory()
        return Budget(total, free, usable(free, total, config.gpu_memory_utilization))


def check_fit(config: EngineConfig, spec: KVSpec, weight_bytes: int, budget: Budget) -> None:
    """Refuse, before anything is loaded, a model that cannot run. Raises ConfigError, or
    ResourceBusy where it could if the device's memory were not in use."""
    one_request = blocks_for(config.max_model_len or 1, spec) * spec.bytes_per_block
    if weight_bytes + one_request <= budget.usable:
        return
    if weight_bytes + one_request <= usable(
        budget.total, budget.total, config.gpu_memory_utilization
    ):
        raise ResourceBusy(
            f"The device is in use: {_gib(budget.free)} of its {_gib(budget.total)} are free, and "
            f"weights and one request need {_gib(weight_bytes + one_request)}. Stop what uses it "
            "(nvidia-smi shows who), or choose another with CUDA_VISIBLE_DEVICES."
        )
    limit = f"{_gib(budget.usable)} of the device's {_gib(budget.total)} may be used"
    limit += f" ({_gib(budget.free)} free, gpu_memory_utilization {config.gpu_memory_utilization})"
    if weight_bytes > budget.usable:
        raise ConfigError(f"The weights do not fit: they need {_gib(weight_bytes)}, but {limit}.")
    longest = (budget.usable - weight_bytes) // spec.bytes_per_block * spec.block_size
    raise ConfigError(
        f"One request of max_model_len {config.max_model_len} does not fit: weights need "
        f"{_gib(weight_bytes)} and its KV cache {_gib(one_request)}, but {limit}. "
        f"About {longest} tokens would fit: lower --max-model-len."
    )


def count_blocks(config: EngineConfig, spec: KVSpec, available: int) -> int:
    """Blocks of the cache, given the bytes left for it. Raises ConfigError when too few, or when
    kv_cache_memory_bytes asks for more than there are."""
    wanted = config.kv_cache_memory_bytes or available
    if wanted > available:
        raise ConfigError(
            f"kv_cache_memory_bytes asks for {_gib(wanted)}, but {_gib(available)} are left."
        )
    if not spec.bytes_per_block:
        return blocks_in_flight(config, spec)
    num_blocks = max(wanted, 0) // spec.bytes_per_block
    needed = blocks_for(config.max_model_len or 1, spec)
    if num_blocks < needed:
        raise ConfigError(
            f"The KV cache gets {_gib(max(wanted, 0))}, {num_blocks * spec.block_size} tokens, "
            f"but one request of max_model_len {config.max_model_len} needs "
            f"{_gib(needed * spec.bytes_per_block)}. Lower --max-model-len or raise "
            "--gpu-memory-utilization or --kv-cache-memory-bytes."
        )
    return num_blocks


def blocks_in_flight(config: EngineConfig, spec: KVSpec) -> int:
    """Of a model without a cache: so many that the scheduler never waits for blocks, which stand
    for no memory. A request has its own for the two steps that may be in flight."""
    full = blocks_for(config.max_num_batched_tokens or 1, spec) + (config.max_num_seqs or 1)
    return 4 * full + blocks_for(config.max_model_len or 1, spec)


def blocks_for(num_tokens: int, spec: KVSpec) -> int:
    return -(-num_tokens // spec.block_size)


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.2f} GiB"
