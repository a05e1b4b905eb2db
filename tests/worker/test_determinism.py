"""--deterministic: ids and log-probabilities have the same bits however a model is batched.

A request is computed again from its ids after a worker's death as after a preemption, so the same
holds over deaths.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from engine_harness import Answer, Harness
from model_checkpoints import VOCAB, make_checkpoint

from octavo.kernels import invariance
from octavo.shared.sampling import SamplingParams

LENGTHS = (1, 5, 37, 100, 200, 301, 450, 129)
LARGE = {
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "intermediate_size": 1024,
    "max_position_embeddings": 1024,
}
"""Whose attention the kernels for Hopper take."""


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invariance, "_on", True)


def check(
    path: Path, tokens: int, longest: int, lengths: tuple[int, ...] = LENGTHS, **options: Any
) -> None:
    """Greedy and seeded rows, with penalties in one, whose neighbours want no log-probabilities."""
    draw = torch.Generator().manual_seed(0)
    prompts = [
        torch.randint(0, VOCAB, (min(length, longest),), generator=draw).tolist()
        for length in lengths
    ]
    params = [
        SamplingParams(
            temperature=float(row % 2),
            seed=row,
            max_tokens=tokens,
            logprobs=3 if row % 3 else None,
            ignore_eos=True,
            repetition_penalty=1.1 if row == 2 else 1.0,
        )
        for row in range(len(prompts))
    ]
    graphs, fewest = options.pop("graphs", False), options.pop("fewest")
    harness = Harness(path, **options)
    alone = [harness.generate([a], [b])[0] for a, b in zip(prompts, params, strict=True)]
    ways: dict[str, dict[str, Any]] = {
        "batch": {},
        "chunks": {"budget": 17},
        "preempted": {"num_blocks": fewest},
        **({"graphs": {"graphs": True}} if graphs else {}),
    }
    for way, changes in ways.items():
        harness = Harness(path, **{**options, **changes})
        same(way, harness.generate(prompts, params), alone)
        assert (way != "preempted") or harness.num_preemptions()
        same(f"{way}, cached", harness.generate(prompts, params), alone)


def same(way: str, answers: list[Answer], expected: list[Answer]) -> None:
    for row, (one, other) in enumerate(zip(answers, expected, strict=True)):
        assert one.token_ids == other.token_ids, (way, row)
        assert one.logprobs == other.logprobs, (way, row)


@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)]
)
def test_on_a_cpu(dtype: torch.dtype, tmp_path: Path, deterministic: None) -> None:
    make_checkpoint("llama", tmp_path)
    check(tmp_path, 9, 40, LENGTHS[1:5], dtype=dtype, block_size=4, fewest=36)


@pytest.mark.gpu
@pytest.mark.parametrize("block_size", [16, 64])
def test_on_a_gpu(block_size: int, tmp_path: Path, deterministic: None) -> None:
    make_checkpoint("llama", tmp_path, **LARGE)
    sizes: dict[str, Any] = {
        "max_model_len": 1024,
        "block_size": block_size,
        "fewest": 1536 // block_size,
    }
    check(tmp_path, 150, 450, device="cuda", dtype=torch.bfloat16, graphs=True, **sizes)
