"""F1, F3 and two deaths in a row, beside requests of every kind that has a state of its own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from fault_checks import FLAGS
from octavo_server import Server, serving, wait_for
from pooling_checkpoints import make_pooling, save_sentence_files

Start = Callable[..., Server]
Faults = Callable[[Server], None]
SCHEMA = {
    "type": "object",
    "properties": {
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 12},
        "number": {"type": "integer"},
    },
    "required": ["tags", "number"],
    "additionalProperties": False,
}
NAMED = {"name": "note"}
TOOL = {"type": "function", "function": {**NAMED, "parameters": SCHEMA}}
TEXT: dict[str, Any] = {"seed": 5, "temperature": 1.0, "max_tokens": 50, "ignore_eos": True}
CHAT = {**TEXT, "ignore_eos": False, "messages": [{"role": "user", "content": "Describe a cat."}]}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "choices": ("/v1/completions", {**TEXT, "prompt": "Tell me of ten", "n": 3, "logprobs": 3}),
    "grammar": (
        "/v1/chat/completions",
        {
            **CHAT,
            "logprobs": True,
            "top_logprobs": 2,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "cat", "schema": SCHEMA},
            },
        },
    ),
    "tools": (
        "/v1/chat/completions",
        {
            **CHAT,
            "tools": [TOOL],
            "tool_choice": {"type": "function", "function": {"name": "note"}},
        },
    ),
    "prompt": (
        "/v1/completions",
        {**TEXT, "prompt": list(range(300, 900)), "prompt_logprobs": 2, "logprobs": 1},
    ),
    "penalties": (
        "/v1/completions",
        {
            **TEXT,
            "prompt": "and",
            "frequency_penalty": 0.7,
            "repetition_penalty": 1.3,
            "logit_bias": {"100": 5},
            "bad_words": ["the"],
            "stop": ["\u0000never"],
        },
    ),
}
PATIENCE = 180.0
"""Seconds, of a busy machine."""
UNLIKE = ("id", "created", "prompt_tokens_details")
"""What may differ from run to run."""


def ask(server: Server) -> dict[str, Any]:
    """Everything at once; what came of each kind."""
    with ThreadPoolExecutor(len(KINDS)) as pool:
        found = {name: pool.submit(server.post, path, body) for name, (path, body) in KINDS.items()}
        return {name: kept(one.result()) for name, one in found.items()}


def post(server: Server, path: str, body: dict[str, Any]) -> Any:
    status, answer = server.request("POST", path, body, timeout=PATIENCE)
    assert status == 200, answer
    return json.loads(answer)


def kept(value: Any) -> Any:
    """Numbers to three places: a log-probability computed again may differ in the sixth."""
    match value:
        case dict():
            return {key: kept(one) for key, one in value.items() if key not in UNLIKE}
        case list():
            return [kept(one) for one in value]
        case float():
            return pytest.approx(value, abs=1e-3)
    return value


def under(server: Server, fault: Faults) -> dict[str, Any]:
    """`ask`, and the fault once the first tokens have been made."""
    before = server.metric("vllm:generation_tokens_total")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, server)
        wait_for(lambda: server.metric("vllm:generation_tokens_total") > before + 70, PATIENCE)
        fault(server)
        return asked.result()


def kill(server: Server, name: str) -> None:
    os.kill(server.children()[name], signal.SIGKILL)


def kill_and_see(server: Server, name: str) -> None:
    """Its successor has been started."""
    old = server.children()[name]
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: server.children().get(name, old) != old, PATIENCE)


def a_worker(server: Server) -> None:
    kill(server, "worker-0")


def a_scheduler(server: Server) -> None:
    kill(server, "scheduler-0")


def a_scheduler_then_a_worker(server: Server) -> None:
    """While the other scheduler starts, which has to wait for workers then."""
    kill_and_see(server, "scheduler-0")
    kill(server, "worker-0")


def test_every_kind_goes_on(start: Start) -> None:
    server = start()
    reference = ask(server)
    for fault in (a_worker, a_scheduler, a_scheduler_then_a_worker):
        found = under(server, fault)
        for name in KINDS:
            assert found[name] == reference[name], (fault.__name__, name)


def test_a_frontend_dies_while_workers_start(start: Start) -> None:
    """Its requests end and hold nothing; the others' go on, and new ones are taken meanwhile."""
    server = start("--frontends", "2")
    body = {**TEXT, "prompt": "Tell me of ten"}
    reference = post(server, "/v1/completions", body)["choices"]

    def one() -> Any:
        try:
            return post(server, "/v1/completions", body)["choices"]
        except (OSError, HTTPException):
            return None

    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(one) for _ in range(12)]
        wait_for(lambda: server.metric("vllm:num_requests_running") >= 12, PATIENCE)
        kill_and_see(server, "worker-0")
        kill(server, "frontend-1")
        asked += [pool.submit(one) for _ in range(4)]
        found = [one.result() for one in asked]
    assert all(choices in (None, reference) for choices in found)
    assert reference in found[:12] and reference in found[12:]


def test_embeddings_come_all_the_same(embedder: Path) -> None:
    flags = (str(embedder), "--max-num-batched-tokens", "64", "--max-num-seqs", "8")
    texts = [f"x{number} " * 8 for number in range(200)]
    with serving(*FLAGS, *flags) as server, ThreadPoolExecutor(4) as pool:

        def vectors(part: int) -> Any:
            body = {"input": texts[part * 50 : part * 50 + 50]}
            data = post(server, "/v1/embeddings", body)["data"]
            return [[pytest.approx(x, abs=1e-5) for x in one["embedding"]] for one in data]

        reference = list(pool.map(vectors, range(4)))
        for victims in (["worker-0"], ["scheduler-0"], ["worker-0", "scheduler-0"]):
            asked = [pool.submit(vectors, part) for part in range(4)]
            wait_for(lambda: server.metric("vllm:num_requests_running") > 0, PATIENCE)
            for name in victims:
                kill(server, name)
            assert [one.result() for one in asked] == reference, victims
            server.wait_idle()
            wait_for(lambda: server.request("GET", "/health")[0] == 200, PATIENCE)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("embedder")
    make_pooling("Qwen3Model", path)
    save_sentence_files(path, "mean_tokens", normalize=True)
    return path
