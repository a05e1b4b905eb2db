"""Requests that no server takes, by the rows of FAULTS that they are about.

The tests of each row send their own; `all_bad` is all of them, to be sent beside good ones.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from security import CHAT, COMPLETIONS, KEYS

CANARY = "canary-prompt-8e1f77"
HI = [{"role": "user", "content": "Hi"}]
MODELS = "/v1/models"
REQUIRED: dict[str, dict[str, Any]] = {CHAT: {"messages": HI}, COMPLETIONS: {"prompt": "a"}}

# --- B: tensors ------------------------------------------------------------------------------

BLOB = base64.b64encode(b"PK\x03\x04 a torch.save archive").decode()
EMBEDS = ["image_embeds", "audio_embeds", "video_embeds", "tensor"]

# --- E: grammars -----------------------------------------------------------------------------

BAD_GRAMMARS: dict[str, list[Any]] = {
    "regex": ["(", "[", "*", "(?<=a)b", "(?P<n>a)(?P=n)", "a{999999999}"],
    "json": ["{", [], {"type": "nothing"}, {"$ref": "#/missing"}, {"$ref": "http://x/y"}],
    "grammar": ["start: missing", "%import x", "root ::= root"],
    "choice": [[], [1], "x"],
    "structural_tag": ["{", {"structures": 5}, {}],
}
BAD_SCHEMAS: list[Any] = [
    {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}},
    {"type": "object", "properties": {"a": {"type": "string", "format": "\\"}}},
    {"type": "nothing"},
    {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}},
    {"type": 5},
    {"anyOf": "x"},
    {"type": "string", "minLength": -1},
    {"type": "integer", "minimum": 10**40},
]

# --- F: fields out of bounds -----------------------------------------------------------------

OUT_OF_BOUNDS: list[tuple[str, dict[str, Any], str]] = [
    ("cve_2024_8939_best_of", {"best_of": 10**6}, "best_of"),
    ("cve_2024_8768_empty_prompt", {"prompt": "", "add_special_tokens": False}, "prompt"),
    ("cve_2024_8768_no_prompt", {"prompt": []}, "prompt"),
    ("cve_2024_8768_no_messages", {"messages": []}, "messages"),
    ("cve_2026_34756_n", {"n": 17}, "n"),
    ("cve_2026_34756_n_huge", {"n": 2**31}, "n"),
    ("cve_2026_73559_prompts", {"prompt": ["a"] * 65}, "prompt"),
    ("cve_2026_116173_logprob_ids", {"logprob_token_ids": list(range(129))}, "logprob_token_ids"),
    ("cve_2026_116173_top_logprobs", {"messages": HI, "logprobs": True, "top_logprobs": 129},
     "top_logprobs"),
    ("cve_2026_116173_prompt_logprobs", {"prompt_logprobs": 21}, "prompt_logprobs"),
    ("cve_2026_114051_min_tokens", {"min_tokens": 9, "max_tokens": 3}, "min_tokens"),
    ("cve_2026_105756_cache_salt_number", {"cache_salt": 5}, "cache_salt"),
    ("cve_2026_105756_cache_salt_object", {"cache_salt": {}}, "cache_salt"),
    ("cve_2026_105756_cache_salt_path", {"cache_salt": "../a"}, "cache_salt"),
    ("cve_2026_105756_cache_salt_nul", {"cache_salt": "a\0b"}, "cache_salt"),
    ("cve_2026_105756_cache_salt_long", {"cache_salt": "a" * 129}, "cache_salt"),
    ("cve_2026_44223_presence", {"presence_penalty": 2.1}, "presence_penalty"),
    ("cve_2026_44223_frequency", {"frequency_penalty": -1e308}, "frequency_penalty"),
    ("cve_2026_44223_repetition", {"repetition_penalty": 0}, "repetition_penalty"),
    ("cve_2026_94626_tp_size", {"kv_transfer_params": {"tp_size": 0}}, "kv_transfer_params"),
    ("cve_2026_93840_allowed_ids", {"allowed_token_ids": [10**6]}, "allowed_token_ids"),
    ("cve_2026_93840_no_ids", {"allowed_token_ids": []}, "allowed_token_ids"),
    ("cve_2026_93840_negative_ids", {"allowed_token_ids": [-1]}, "allowed_token_ids"),
    ("cve_2026_93989_bad_words", {"bad_words": ["a"] * 100_000}, "bad_words"),
    ("cve_2026_93989_empty_word", {"bad_words": [""]}, "bad_words[0]"),
    ("logit_bias_of_strangers", {"logit_bias": {"99999999": 1}}, "logit_bias"),
    ("stop_is_long", {"stop": "x" * 257}, "stop"),
    ("thinking_budget", {"messages": HI, "thinking_token_budget": -1}, "thinking_token_budget"),
]  # fmt: skip

# --- H: HTTP ---------------------------------------------------------------------------------


def request(
    line: str, *headers: str, body: str = "", host: str | None = "Host: x", key: str = ""
) -> bytes:
    """One request, in bytes; the connection is closed after it."""
    fields = [*([host] if host else []), *headers, "Connection: close"]
    if key:
        fields.append(f"Authorization: Bearer {key}")
    return "\r\n".join([line, *fields, "", body]).encode("latin-1")


def first(path: str) -> str:
    return f"GET {path} HTTP/1.1"


CHUNKED = "Transfer-Encoding: chunked"
HIDDEN = "GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
SMUGGLED: dict[str, bytes] = {
    "dots": request(first("/health/../v1/models")),
    "encoded dots": request(first("/health/%2e%2e/v1/models")),
    "encoded slash": request(first("/health%2f..%2fv1%2fmodels")),
    "twice encoded": request(first("/health%252f..%252fv1%252fmodels")),
    "two slashes": request(first("//v1/models")),
    "a slash behind": request(first("/v1/models/")),
    "backslash": request(first("/health\\..\\v1\\models")),
    "semicolon": request(first("/v1/models;/health")),
    "parameter": request(first("/health;x=/v1/models")),
    "query": request(first("/v1/models?path=/health")),
    "fragment": request(first("/v1/models#/health")),
    "capitals": request(first("/V1/MODELS")),
    "nul": request(first("/v1/models%00/health")),
    "dot": request(first("/./v1/models")),
    "overlong": request(first("/health/%c0%ae%c0%ae/v1/models")),
    "fullwidth": request(first("/health/\xef\xbc\x8e/v1/models")),
    "absolute": request(first("http://x/v1/models")),
    "absolute, of another host": request(first("http://x/health/../v1/models")),
    "host is a path": request(first(MODELS), host="Host: x/health?"),
    "host with user": request(first(MODELS), host="Host: a@b/health#"),
    "two hosts": request(first(MODELS), "Host: x/health"),
    "no host": request(first(MODELS), host=None),
    "original url": request(first(MODELS), "X-Original-URL: /health"),
    "rewrite url": request(first(MODELS), "X-Rewrite-URL: /health"),
    "forwarded": request(first(MODELS), "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: x"),
    "prefix": request(first(MODELS), "X-Forwarded-Prefix: /health", "Forwarded: for=127.0.0.1"),
    "root path": request(first(MODELS), "X-Script-Name: /health", "Script-Name: /health"),
    "method override": request(first(MODELS), "X-HTTP-Method-Override: OPTIONS"),
    "length and chunks": request(
        "POST /v1/models HTTP/1.1", "Content-Length: 4", CHUNKED, body="0\r\n\r\n" + HIDDEN
    ),
    "two lengths": request(
        "POST /v1/models HTTP/1.1", "Content-Length: 0", "Content-Length: 50", body=HIDDEN
    ),
    "strange chunks": request(
        "POST /v1/models HTTP/1.1", "Transfer-Encoding: xchunked", body="0\r\n\r\n" + HIDDEN
    ),
    "folded header": request(first(MODELS), "Transfer-Encoding:\r\n chunked", body=HIDDEN),
    "space before colon": request(first(MODELS), "Content-Length : 50", body=HIDDEN),
    "bad chunk size": request("POST /v1/models HTTP/1.1", CHUNKED, body="-1\r\n" + HIDDEN),
    "bad chunk end": request("POST /v1/models HTTP/1.1", CHUNKED, body="1\r\nZXX0\r\n\r\n"),
    "old protocol": b"GET /v1/models\r\n\r\n",
    "strange protocol": request("GET /v1/models HTTP/9.9"),
    "empty key": request(first(MODELS), "Authorization: Bearer "),
    "two keys": request(first(MODELS), "Authorization: Bearer x", "x-api-key: x"),
    "key and more": request(first(MODELS), f"Authorization: Bearer {KEYS[0]} x"),
    "key in the query": request(first(f"{MODELS}?api_key={KEYS[0]}")),
    "key with nul": request(first(MODELS), f"Authorization: Bearer {KEYS[0]}\x00"),
}

# --- I: media --------------------------------------------------------------------------------


def media(url: str) -> list[Any]:
    """Parts of a message's content that name something to be fetched."""
    return [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image_url", "image_url": url},
        {"type": "input_image", "image_url": url},
        {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}},
        {"type": "video_url", "video_url": {"url": url}},
        {"type": "file", "file": {"file_id": url}},
        {"type": "image", "source": {"type": "url", "url": url}},
    ]


# --- J: whatever is wrong --------------------------------------------------------------------

WRONG: list[tuple[str, Any]] = [
    (COMPLETIONS, b"\xff\xfe"),
    (COMPLETIONS, b"[]"),
    (COMPLETIONS, {"prompt": CANARY, "temperature": CANARY}),
    (COMPLETIONS, {"prompt": [CANARY, 1]}),
    (COMPLETIONS, {"prompt": "a", "stop": [CANARY * 100]}),
    (COMPLETIONS, {"prompt": "a", "structured_outputs": {"regex": "("}}),
    (COMPLETIONS, {"prompt": "a", "structured_outputs": {"grammar": "start: x"}}),
    (COMPLETIONS, {"prompt": "a", "structured_outputs": {"json": {"type": 5}}}),
    (COMPLETIONS, {"prompt": "a", "response_format": {"type": []}}),
    (COMPLETIONS, {"prompt": "a " * 5000}),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
    (CHAT, {"messages": HI, "tools": [{"type": "function", "function": {"name": "a b"}}]}),
    (CHAT, {"messages": HI, "tool_choice": "required"}),
    (CHAT, {"messages": [{"role": "tool", "content": None, "tool_calls": [{"function": 5}]}]}),
    (CHAT, {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "{"}}]}]}),
    (CHAT, {"messages": HI, "chat_template": "{{ x"}),
    ("/detokenize", {"tokens": [2**63]}),
    ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
    ("/v1/responses", {"input": [{"type": "nothing"}]}),
    ("/v1/embeddings", {"input": CANARY}),
    ("/v1/models/" + "x" * 3000, b""),
]


def all_bad() -> Iterator[bytes]:
    """Rows B to J, each whole request once; most are a 400, none of them anything of ours."""
    yield from (post(path, body) for path, body in _bodies())
    yield from SMUGGLED.values()


def _bodies() -> Iterator[tuple[str, Any]]:
    for embeds in (BLOB, [BLOB], {"data": BLOB}):
        yield COMPLETIONS, {"prompt": "a", "prompt_embeds": embeds}
    parts = [*({"type": kind, kind: BLOB} for kind in EMBEDS), *media("http://127.0.0.1:1/x")]
    for part in parts:
        yield CHAT, {"messages": [{"role": "user", "content": [part]}]}
    for name in ("tokenize", "messages", "chat_template"):  # D
        yield CHAT, {"messages": HI, "chat_template_kwargs": {name: True}}
    yield CHAT, {"messages": HI, "chat_template": "{{ x }}"}
    for kind, values in BAD_GRAMMARS.items():
        for value in values:
            yield COMPLETIONS, {"prompt": "a", "structured_outputs": {kind: value}}
    for schema in BAD_SCHEMAS:
        function = {"name": "f", "parameters": schema, "strict": True}
        tools = {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}
        yield CHAT, {"messages": HI, "max_tokens": 2, **tools}
    for _, fields, _ in OUT_OF_BOUNDS:
        path = CHAT if "messages" in fields else COMPLETIONS
        yield path, {**REQUIRED[path], **fields}
    for params in ({"remote_host": "127.0.0.1"}, {"tp_size": 0}):  # G, I: others' blocks
        yield COMPLETIONS, {"prompt": "a", "kv_transfer_params": params}
    yield from WRONG


def post(path: str, body: Any) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data
