"""The frozen configuration: built once at start, handed down to every process as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from octavo.shared.pooling import PoolingInfo

DType = Literal["auto", "float32", "bfloat16", "float16"]


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What scheduler and workers need. Also the keyword arguments of the library's `LLM`.

    None means "decide from the model and the device"; `resolve` (services/supervisor) leaves no
    None but those marked (worker decides).
    """

    model: str = ""
    """Local directory after resolution."""
    tokenizer: str | None = None
    dtype: DType = "auto"
    runner: Literal["auto", "generate", "pooling"] = "auto"
    """Whether the model makes texts or vectors; auto: what its files say it is for."""
    convert: Literal["auto", "none", "embed", "classify"] = "auto"
    """What a pooling server makes of the model; auto: what its architecture says."""
    max_model_len: int | None = None
    """Tokens, prompt and output together."""
    max_num_seqs: int | None = None
    """Slots: requests that run at once."""
    max_num_batched_tokens: int | None = None
    """Token budget of one step."""
    prefill_beside_decode: int = 512
    """Tokens of prompts in a step beside rows that decode, when the backlog is small."""
    target_itl_ms: float | None = None
    """Time between tokens to be kept: prompts get what room it leaves in a step."""
    tenant_slowdown: float = 1.5
    """How much longer the steps of tenants within their share may last, on average, for those over
    it; 0: as long as they take."""
    priority_ageing: float = 60.0
    """Seconds of waiting that are worth one step of priority; 0: none are."""
    block_size: Literal[16, 32, 64] | None = None
    gpu_memory_utilization: float = 0.92
    """Share of the device's memory that weights, KV cache and workspaces may take together."""
    kv_cache_memory_bytes: int | None = None
    """KV cache size per rank; None: what gpu_memory_utilization leaves (CPU: 1 GiB)."""
    tensor_parallel_size: int = 1
    load_format: Literal["auto", "dummy"] = "auto"
    enable_prefix_caching: bool = True
    seed: int = 0
    enforce_eager: bool = False
    deterministic: bool = False
    """Outputs do not depend on who shares the batch, bit for bit, nor on restarts. Slower."""
    trace: str | None = None
    """FILE[:FIRST[:COUNT]]: where the device's work of some steps is written."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """After resolution "cuda" or "cpu"."""


ToolParserName = Literal[
    "auto", "none", "hermes", "qwen3", "qwen3_coder", "qwen3_xml", "llama3_json", "pythonic",
    "mistral", "granite", "deepseek_v3", "deepseek_v31", "kimi_k2", "glm45", "openai", "harmony",
]  # fmt: skip
ReasoningParserName = Literal[
    "auto", "none", "deepseek_r1", "qwen3", "glm45", "mistral", "granite", "openai_gptoss"
]


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `octavo serve` adds to the engine."""

    engine: EngineConfig
    host: str = "127.0.0.1"
    port: int = 8000
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    """Another port for /metrics and /health, which asks for no key and has a process of its own;
    None: there is neither."""
    admin_socket: str | None = None
    """Where `octavo admin` reaches the server; None: by the port, in the directory for such."""
    frontends: int = 1
    """0 where the library is the only client."""
    served_model_name: list[str] = []
    """Names answered in `model`; the first is echoed."""
    api_key: list[str] = []
    api_key_file: str | None = None
    """TOML file of keys with names, scopes and limits (shared/keys.py); read again when changed."""
    chat_template: str | None = None
    """The template's text, read at start from the file that the flag names."""
    tool_call_parser: ToolParserName = "auto"
    """auto: what the chat template speaks of."""
    reasoning_parser: ReasoningParserName = "auto"
    enable_auto_tool_choice: bool = True
    """Whether `tool_choice` may be, and is without being named, auto."""
    resumable_streams: bool = False
    """Whether streams may be resumed without asking for it (header X-Octavo-Resumable)."""
    sse_keep_alive_interval: float = 15.0
    """Seconds of silence after which a stream gets a comment line; proxies close what stays silent
    (nginx: after 60 s)."""
    shutdown_timeout: float = 30.0
    """Seconds that requests in flight get to finish after SIGTERM."""
    hang_timeout: float = 30.0
    """Seconds without progress after which a process is killed, and started again."""
    start_timeout: float = 600.0
    """The same for a process that starts: loading and compiling may report nothing for long."""
    otlp_traces_endpoint: str | None = None
    max_queued_requests: int = 4096
    """Requests waiting or running, per server; above it 503."""
    max_queued_tokens: int | None = None
    """Prompt tokens waiting, per server; above it 503. None: the scheduler chooses (`limits`)."""
    strict_requests: bool = False
    """A request with a field that nobody knows is a 400."""
    trust_request_chat_template: bool = False
    """A request may bring a chat template of its own."""
    log_format: Literal["text", "json"] = "text"
    access_log: bool = True
    """Whether the end of every request is a line of the log; probes never are."""


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the processes without torch need to know of the model's files."""

    architecture: str
    vocab_size: int
    max_model_len: int
    """The effective limit, in tokens."""
    eos_token_ids: list[int]
    bos_token_id: int | None = None
    sampling_defaults: dict[str, float] = {}
    """From generation_config.json: temperature, top_p, top_k, min_p, repetition_penalty,
    max_new_tokens; only those the file names."""
    sliding_window: int | None = None
    """Tokens that the layers with a window see; None: there are none."""
    pooling: PoolingInfo | None = None
    """Set: this server pools, and generates nothing."""


class ProcessConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The first line on a child's control pipe."""

    role: Literal["frontend", "exporter", "scheduler", "worker"]
    index: int
    """Frontend number or tensor-parallel rank; 0 for the scheduler and the exporter."""
    directory: str
    """0700 directory of this server's sockets and rendezvous file."""
    server: ServerConfig
    model: ModelInfo
    log_level: str = "INFO"
    epoch: int = 0
    """The number of this start, larger than all before; the workers of a group share one."""
    restarts: dict[str, int] = {}
    """How often processes of each role had been started again by then."""
    accused: list[bytes] = []
    """Of a scheduler: ids of the requests that were on trial when the last one died."""
    otlp_headers: str = ""
    """What the exporter of spans shows its collector, as OTEL_EXPORTER_OTLP_HEADERS has it."""

    @property
    def peer(self) -> str:
        """The name of this frontend or exporter at the scheduler: of no other, before or after."""
        return f"{self.role}-{self.index}.{self.epoch}"

    @property
    def path(self) -> Path:
        return Path(self.directory)


FRONTEND_SOCKET = "frontend.ipc"
"""Hub of the scheduler; spokes are named frontend-<index>.<epoch>, exporter-0.<epoch> (the library:
library-0)."""
WORKER_SOCKET = "worker.ipc"
"""Hub of the scheduler; spokes are named rank-<rank>."""
