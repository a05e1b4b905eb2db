"""Row B: clients send no tensors, in no field and under no name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from bad_requests import BLOB, EMBEDS
from front_engine import frontend

from octavo.shared.text.tokenizer import Tokenizer


def answer(tokenizer: Tokenizer, path: str, **body: Any) -> tuple[int, str, int]:
    """Status, what the error is about, and how much reached the engine."""

    async def main() -> tuple[int, str, int]:
        async with frontend(tokenizer) as front:
            response = await front.post(path, **body)
            return (
                response.status_code,
                response.json()["error"]["param"],
                len(front.engine.submits),
            )

    return asyncio.run(main())


def test_cve_2025_62164_prompt_embeds(tokenizer: Tokenizer) -> None:
    """CVE-2025-62372: of a wrong shape."""
    for given in (BLOB, [BLOB], {"data": BLOB}):
        found = answer(tokenizer, "/v1/completions", prompt="a", prompt_embeds=given)
        assert found == (400, "prompt_embeds", 0)


@pytest.mark.parametrize("kind", EMBEDS)
def test_cve_2026_56340_embeds_of_media(tokenizer: Tokenizer, kind: str) -> None:
    """PYSEC-2026-2303, GHSA-33cg-gxv8-3p8g: those of M-RoPE models."""
    messages = [{"role": "user", "content": [{"type": kind, kind: BLOB}]}]
    found = answer(tokenizer, "/v1/chat/completions", messages=messages)
    assert found == (400, "messages[0].content[0]", 0)
