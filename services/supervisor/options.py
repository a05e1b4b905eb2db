"""The one table of options: each is a flag, an OCTAVO_ variable and a key of the TOML file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from octavo.shared.config import ReasoningParserName, ToolParserName

Parse = Callable[[str], Any]

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?", re.IGNORECASE)
POWERS = "kmgt"
OF_MODEL = -1
"""A max_model_len that asks for the model's own."""
TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off"}


def size(text: str) -> int:
    """`4096`, `32k` (32,000) or `32Ki`, `32K` (32,768), `4 GiB`, `1T`: vLLM's suffixes, a large one
    counts in 1,024s. Raises ValueError."""
    match = SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a number (4096, 32k, 1.5G, 4GiB)")
    number, suffix, binary = match.groups()
    base = 1024 if binary or (suffix or "").isupper() else 1000
    value = float(number) * base ** (POWERS.index(suffix.lower()) + 1 if suffix else 0)
    if value != int(value):
        raise ValueError(f"{text!r} is not a whole number")
    return int(value)


def length(text: str) -> int:
    """A size, or OF_MODEL for `auto` and `-1`."""
    return OF_MODEL if text.strip().lower() in ("auto", str(OF_MODEL)) else size(text)


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def boolean(text: str) -> bool:
    if text.lower() in TRUE | FALSE:
        return text.lower() in TRUE
    raise ValueError(f"{text!r} is not true or false")


def words(text: str) -> list[str]:
    """Separated by commas or spaces."""
    found = [word for word in re.split(r"[,\s]+", text) if word]
    if not found:
        raise ValueError("nothing but separators")
    return found


@dataclass(frozen=True)
class Option:
    """One option. Its default and its type stand in `octavo.shared.config`."""

    name: str
    group: str
    help: str
    parse: Parse = str
    alias: str | None = None
    choices: tuple[str, ...] = ()
    metavar: str | None = None

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "OCTAVO_" + self.name.upper()


MODEL, ENGINE, MEMORY, SERVER = "Model", "Engine", "Memory and batching", "Server"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

OPTIONS = (
    Option("tokenizer", MODEL, "Directory or hub id of the tokenizer, if not the model's."),
    Option(
        "dtype",
        MODEL,
        "Type of weights and activations; auto: the model's own on a GPU, float32 on a CPU.",
        choices=("auto", "float32", "bfloat16", "float16"),
    ),
    Option(
        "max_model_len",
        MODEL,
        "Longest sequence, prompt and output together, in tokens; 32k is 32,000, auto the model's.",
        parse=length,
    ),
    Option(
        "load_format",
        MODEL,
        "dummy: random weights, for measurements.",
        choices=("auto", "dummy"),
    ),
    Option(
        "runner",
        MODEL,
        "What the model makes; auto: vectors if it has no language head, or files of "
        "sentence-transformers.",
        choices=("auto", "generate", "pooling"),
    ),
    Option(
        "convert",
        MODEL,
        "What a pooling server makes of the model; auto: what its architecture says.",
        choices=("auto", "none", "embed", "classify"),
    ),
    Option("chat_template", MODEL, "File with a Jinja chat template, if not the model's."),
    Option(
        "device",
        ENGINE,
        "Where to run; auto: the GPU if there is one.",
        choices=("auto", "cuda", "cpu"),
    ),
    Option(
        "tensor_parallel_size",
        ENGINE,
        "Number of ranks (GPUs) that share each layer.",
        parse=integer,
        alias="-tp",
    ),
    Option("seed", ENGINE, "Seed of dummy weights.", parse=integer),
    Option(
        "target_itl_ms",
        ENGINE,
        "Milliseconds between tokens to be kept by giving prompts less of a step.",
        parse=number,
    ),
    Option(
        "tenant_slowdown",
        ENGINE,
        "How much slower tokens may come to tenants (keys, or users) within their share for those "
        "over it; 0: no matter.",
        parse=number,
    ),
    Option(
        "priority_ageing",
        ENGINE,
        "Seconds of waiting that count as one step of priority; 0: never.",
        parse=number,
    ),
    Option("enforce_eager", ENGINE, "Never use CUDA graphs.", parse=boolean),
    Option(
        "deterministic",
        ENGINE,
        "Outputs that do not depend on the batch, bit for bit; slower.",
        parse=boolean,
    ),
    Option(
        "trace",
        ENGINE,
        "Write the GPU's work of COUNT steps (20) from step FIRST (200) to a Chrome trace.",
        metavar="FILE[:FIRST[:COUNT]]",
    ),
    Option(
        "enable_prefix_caching",
        MEMORY,
        "Reuse the KV cache of equal prompt beginnings.",
        parse=boolean,
    ),
    Option("max_num_seqs", MEMORY, "Requests that run at once.", parse=size),
    Option("max_num_batched_tokens", MEMORY, "Token budget of one step.", parse=size),
    Option(
        "prefill_beside_decode",
        MEMORY,
        "Tokens of prompts in a step beside rows that decode, when the backlog is small. Higher: "
        "sooner first tokens; lower: steadier streams.",
        parse=size,
    ),
    Option("block_size", MEMORY, "Tokens in one KV block: 16, 32 or 64.", parse=integer),
    Option(
        "gpu_memory_utilization",
        MEMORY,
        "Share of the GPU's memory to use in all.",
        parse=number,
    ),
    Option("kv_cache_memory_bytes", MEMORY, "KV cache size per rank; 4GiB, 500M.", parse=size),
    Option("host", SERVER, "Address to listen on."),
    Option("port", SERVER, "Port to listen on; 0: any free one.", parse=integer),
    Option(
        "metrics_port",
        SERVER,
        "A port of its own for /metrics and /health, which asks for no key; the process behind it "
        "answers however many streams run.",
        parse=integer,
    ),
    Option("metrics_host", SERVER, "Address of the metrics port."),
    Option(
        "served_model_name",
        SERVER,
        "Names answered in `model`; the first is echoed.",
        parse=words,
        metavar="NAME",
    ),
    Option(
        "api_key",
        SERVER,
        "Keys that clients must show one of. Better in the environment or the file.",
        parse=words,
        metavar="KEY",
    ),
    Option(
        "api_key_file",
        SERVER,
        "TOML file of API keys with names, scopes and limits; changes take effect at once.",
        metavar="FILE",
    ),
    Option(
        "tool_call_parser",
        SERVER,
        "Format of the model's tool calls; auto: what its chat template speaks of.",
        choices=get_args(ToolParserName),
    ),
    Option(
        "reasoning_parser",
        SERVER,
        "Format of the model's reasoning; auto: what its chat template speaks of.",
        choices=get_args(ReasoningParserName),
    ),
    Option(
        "enable_auto_tool_choice",
        SERVER,
        "Let the model decide whether to call a tool.",
        parse=boolean,
    ),
    Option(
        "resumable_streams",
        SERVER,
        "Keep every stream's events for clients that come back, not only where they ask.",
        parse=boolean,
    ),
    Option(
        "sse_keep_alive_interval",
        SERVER,
        "Seconds of silence after which a stream gets a comment line.",
        parse=number,
    ),
    Option("frontends", SERVER, "HTTP processes.", alias="--api-server-count", parse=integer),
    Option("admin_socket", SERVER, "Where `octavo admin` reaches the server.", metavar="PATH"),
    Option(
        "shutdown_timeout",
        SERVER,
        "Seconds that requests in flight get to finish after SIGTERM.",
        parse=number,
    ),
    Option(
        "otlp_traces_endpoint",
        SERVER,
        "Collector that spans of requests go to (OTLP over HTTP); needs the extra octavo[otel].",
        metavar="URL",
    ),
    Option(
        "hang_timeout",
        SERVER,
        "Seconds without progress after which a process is killed and started again.",
        parse=number,
    ),
    Option(
        "start_timeout",
        SERVER,
        "The same for a process that loads or compiles: seconds without a report of progress.",
        parse=number,
    ),
    Option(
        "max_queued_requests",
        SERVER,
        "Requests waiting or running above which new ones get 503.",
        alias="--max-num-queued-reqs",
        parse=size,
    ),
    Option(
        "max_queued_tokens",
        SERVER,
        "Tokens of prompts waiting above which new requests get 503. Default: the most of eight KV "
        "caches, 64 full contexts, and 1,024 for each request that may be queued.",
        alias="--max-num-queued-tokens",
        parse=size,
    ),
    Option(
        "strict_requests",
        SERVER,
        "Refuse requests with unknown fields; else a response header names them.",
        parse=boolean,
    ),
    Option(
        "trust_request_chat_template",
        SERVER,
        "Let requests bring a chat template of their own. It runs in a sandbox, but nothing bounds "
        "its time.",
        parse=boolean,
    ),
    Option(
        "log_format",
        SERVER,
        "Log lines as text, or each as a JSON object.",
        choices=("text", "json"),
    ),
    Option(
        "access_log",
        SERVER,
        "A log line for the end of every request but probes.",
        parse=boolean,
    ),
    Option("log_level", SERVER, "Least level to log.", parse=str.upper, choices=LOG_LEVELS),
)
BY_NAME = {option.name: option for option in OPTIONS}
