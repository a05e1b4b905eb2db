"""Tensor parallelism over real GPUs gives one GPU's greedy ids on the demo model."""

from __future__ import annotations

import pytest
from octavo_server import serving

pytestmark = pytest.mark.multigpu
QUESTIONS = ["What is 47 + 38?", "Who are you?", "Tell me a short story.", "Count from 3 to 12."]


def answers(ranks: int) -> list[list[int]]:
    flags = ("--tensor-parallel-size", str(ranks), "--served-model-name", "demo")
    with serving(*flags, "--dtype", "float32") as server:
        return [
            server.post(
                "/v1/chat/completions",
                {
                    "model": "demo",
                    "messages": [{"role": "user", "content": question}],
                    "temperature": 0,
                    "max_tokens": 100,
                    "return_token_ids": True,
                },
            )["choices"][0]["token_ids"]
            for question in QUESTIONS
        ]


def test_two_gpus_equal_one() -> None:
    assert answers(2) == answers(1)
