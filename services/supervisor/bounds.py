"""What settings may be, as far as it can be said before a model's files are read."""

from __future__ import annotations

from pathlib import Path

from octavo.shared.arguments import check_url
from octavo.shared.config import EngineConfig, ServerConfig
from octavo.shared.errors import ConfigError
from octavo.shared.keys import check_key, read_key_file

MAX_FRONTENDS = 64
MAX_SEQS = 65536

Ranges = dict[str, tuple[float, float]]

ENGINE: Ranges = {
    "max_model_len": (1, 2**30),
    "max_num_seqs": (1, MAX_SEQS),
    "max_num_batched_tokens": (1, 2**24),
    "prefill_beside_decode": (1, 2**24),
    "target_itl_ms": (0.1, 1e6),
    "priority_ageing": (0, 1e9),
    "gpu_memory_utilization": (0.01, 1.0),
    "kv_cache_memory_bytes": (1, 2**50),
    "tensor_parallel_size": (1, 1024),
    "seed": (-(2**63), 2**63 - 1),
}
SERVER: Ranges = {
    "port": (0, 65535),
    "metrics_port": (0, 65535),
    "frontends": (1, MAX_FRONTENDS),
    "sse_keep_alive_interval": (0.1, 3600),
    "shutdown_timeout": (0, 86400),
    "hang_timeout": (3, 86400),
    "start_timeout": (3, 86400),
    "max_queued_requests": (1, 10**9),
    "max_queued_tokens": (1, 10**12),
}


def check_server(server: ServerConfig) -> None:
    """Raises ConfigError, naming the option. What is None is left open."""
    for name in ("api_key", "served_model_name"):
        # An empty key would let everybody in, or, taken for none, the whole world.
        if not all(word.strip() for word in getattr(server, name)):
            raise ConfigError(f"{name} holds an empty entry")
    for key in server.api_key:
        try:
            check_key(key.strip())
        except ConfigError as error:
            raise ConfigError(f"api_key: {error}") from None
    if server.api_key_file is not None:
        read_key_file(Path(server.api_key_file))
    if server.otlp_traces_endpoint is not None:
        check_url("otlp_traces_endpoint", server.otlp_traces_endpoint)
    check_ranges(server, SERVER)
    check_engine(server.engine)


def check_engine(engine: EngineConfig) -> None:
    """Raises ConfigError, naming the option. What is None is left open."""
    check_ranges(engine, ENGINE)
    if engine.tenant_slowdown != 0:
        check_range("tenant_slowdown", engine.tenant_slowdown, 1.1, 100)
    if engine.deterministic and engine.tensor_parallel_size > 1:
        raise ConfigError("deterministic is for one rank: sums over ranks depend on the batch")
    seqs, tokens = engine.max_num_seqs, engine.max_num_batched_tokens
    if seqs is not None and tokens is not None and tokens < seqs:
        raise ConfigError(
            f"max_num_batched_tokens {tokens} is less than max_num_seqs {seqs}: a step could not "
            "give every running request a token"
        )


def check_ranges(settings: EngineConfig | ServerConfig, ranges: Ranges) -> None:
    for name, (low, high) in ranges.items():
        if (value := getattr(settings, name)) is not None:
            check_range(name, value, low, high)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ConfigError, naming the option, for a value outside its bounds (or not a number)."""
    if not low <= value <= high:
        raise ConfigError(f"{name} must be between {low} and {high}, not {value}")
