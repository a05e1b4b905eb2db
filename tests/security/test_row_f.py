"""Row F: no number, list or text of a request is without a bound, and none ends the engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from bad_requests import OUT_OF_BOUNDS, REQUIRED
from front_engine import Frontend, frontend
from security import CHAT, COMPLETIONS, Target

from octavo.services.frontend.schema import ChatRequest, CompletionRequest
from octavo.shared.text.tokenizer import Tokenizer


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
