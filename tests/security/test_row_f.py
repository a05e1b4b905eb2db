"""Row F: no number, list or text of a request is without a bound, and none ends the engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from front_engine import Frontend, frontend
from security import CHAT, COMPLETIONS, Target

from octavo.services.frontend.schema import ChatRequest, CompletionRequest
from octavo.shared.text.tokenizer import Tokenizer

HI = [{"role": "user", "content": "Hi"}]
REQUIRED: dict[str, dict[str, Any]] = {CHAT: {"messages": HI}, COMPLETIONS: {"prompt": "a"}}
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


def run(tokenizer: Tokenizer, test: Any) -> None:
    async def main() -> None:
        async with frontend(tokenizer) as front:
            await test(front)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fields", "param"), [pytest.param(f, p, id=name) for name, f, p in OUT_OF_BOUNDS]
)
def test_out_of_bounds(tokenizer: Tokenizer, fields: dict[str, Any], param: str) -> None:
    """CVE-2024-8939, CVE-2024-8768, CVE-2026-34756, CVE-2026-73559, CVE-2026-116173,
    CVE-2026-114051, CVE-2026-105756, CVE-2026-44223, CVE-2026-94626, CVE-2026-93840 and
    CVE-2026-93989, by the names of the cases."""

    async def test(front: Frontend) -> None:
        path = CHAT if "messages" in fields else COMPLETIONS
        response = await front.post(path, **{**REQUIRED[path], **fields})
        assert response.status_code == 400, response.text
        assert response.json()["error"]["param"].startswith(param)
        assert front.engine.submits == []

    run(tokenizer, test)


NOT_FINITE = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", '"nan"', '"inf"', "1e308", "null,"]
FLOATS = ["temperature", "top_p", "min_p", "presence_penalty", "repetition_penalty"]


@pytest.mark.parametrize("name", [*FLOATS, "length_penalty", "frequency_penalty"])
def test_cve_2026_54235_not_finite(tokenizer: Tokenizer, name: str) -> None:
    async def test(front: Frontend) -> None:
        for value in NOT_FINITE:
            body = f'{{"prompt": "a", "{name}": {value}}}'.encode()
            response = await front.client.post(COMPLETIONS, content=body)
            assert response.status_code == 400, (value, response.text)
        for value in ("NaN", "1e999", "Infinity", "101"):
            body = f'{{"prompt": "a", "logit_bias": {{"5": {value}}}}}'.encode()
            assert (await front.client.post(COMPLETIONS, content=body)).status_code == 400
        assert front.engine.submits == []

    run(tokenizer, test)


def test_cve_2026_71486_detokenize(tokenizer: Tokenizer) -> None:
    async def test(front: Frontend) -> None:
        bad: list[Any] = [[-1], [10**6], [2**63], [2**31], ["a"], [None], [[1]], [1.5], "x", 5, {}]
        for ids in bad:
            response = await front.post("/detokenize", tokens=ids)
            assert response.status_code == 400, ids
        many = await front.post("/detokenize", tokens=[5] * (2**22 + 1))
        assert many.status_code in (400, 413)

    run(tokenizer, test)


ODD: list[Any] = [
    *(-1, 0, 1, 2**31, 2**63, -(2**63) - 1, 10**40, 1e308, -1e308, 0.5, True, "", "x", "nan"),
    *([], [1], ["x"], [[]], {}, {"a": 1}, "x" * 70_000, [0] * 5000, ["x"] * 5000),
]


def bodies(kind: type[msgspec.Struct], path: str) -> Iterator[dict[str, Any]]:
    for name in kind.__struct_fields__:
        for value in (*ODD, None):
            yield {**REQUIRED[path], name: value}


@pytest.mark.parametrize(("kind", "path"), [(ChatRequest, CHAT), (CompletionRequest, COMPLETIONS)])
def test_every_field_with_every_odd_value(
    tokenizer: Tokenizer, kind: type[msgspec.Struct], path: str
) -> None:
    """CVE-2026-9540, CVE-2026-110807 and CVE-2026-110809, and those to come."""

    async def test(front: Frontend) -> None:
        for body in bodies(kind, path):
            data = json.dumps(body).encode()
            response = await front.client.post(path, content=data)
            allowed = (200, 400, 404) if "model" in body else (200, 400)
            assert response.status_code in allowed, (str(body)[:200], response.text[:200])

    run(tokenizer, test)


def test_cve_2026_44223_penalties_at_their_bounds(served: Target) -> None:
    bounds: dict[str, list[float]] = {
        "presence_penalty": [-2, 2],
        "frequency_penalty": [-2, 2],
        "repetition_penalty": [1e-3, 100],
        "temperature": [0, 1e-30, 100],
        "top_p": [1e-6],
        "min_p": [1],
    }
    for name, values in bounds.items():
        for value in values:
            served.complete(**{name: value})
    served.complete(**{name: values[0] for name, values in bounds.items()}, top_k=1)
    served.complete(**{name: values[-1] for name, values in bounds.items()}, logprobs=20)


def test_cve_2026_116180_logprobs_are_of_this_request(served: Target) -> None:
    """Not what was in the memory before: finite, in order, and the same beside others."""

    def logprobs() -> Any:
        fields = {"logprobs": 20, "temperature": 0, "prompt": "Tell me", "max_tokens": 6}
        return served.complete(**fields)["choices"][0]["logprobs"]

    alone = logprobs()
    for _ in range(3):
        served.complete(logprobs=1, n=8, temperature=1)
        found = logprobs()
        assert found["tokens"] == alone["tokens"]
        assert found["token_logprobs"] == pytest.approx(alone["token_logprobs"], abs=1e-3)
    for row in alone["top_logprobs"]:
        assert len(row) >= 20 and all(-1e4 < value <= 0 for value in row.values())
