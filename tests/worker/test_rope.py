"""Rotary tables are transformers', to float32 precision, for every kind and parameter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from octavo.services.worker.layers.rope import rotary_table
from octavo.services.worker.model_config import RopeConfig
from octavo.shared.errors import ConfigError

TRAINED, DIM = 128, 24
SHORT, LONG = [1.0 + 0.1 * i for i in range(DIM // 2)], [2.0 + i for i in range(DIM // 2)]
LONGROPE = {
    "short_factor": SHORT,
    "long_factor": LONG,
    "original_max_position_embeddings": 32,
    "factor": 4.0,
}
YARN = {"factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def ours(kind: str, length: int, parameters: dict[str, Any]) -> torch.Tensor:
    return rotary_table(RopeConfig(kind, 10000.0, DIM, parameters, TRAINED), length)


def theirs(kind: str, length: int, parameters: dict[str, Any]) -> torch.Tensor:
    config = LlamaConfig(
        hidden_size=DIM * 2,
        num_attention_heads=2,
        max_position_embeddings=TRAINED,
        rope_parameters={"rope_type": kind, "rope_theta": 10000.0, **parameters},
    )
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.arange(length)[None])
    return torch.cat([cos[0, :, : DIM // 2], sin[0, :, : DIM // 2]], dim=-1)


@pytest.mark.parametrize(
    ("kind", "length", "parameters"),
    [
        ("default", 128, {}),
        ("linear", 128, {"factor": 4.0}),
        ("dynamic", 128, {"factor": 4.0}),
        ("dynamic", 512, {"factor": 4.0}),
        ("llama3", 128, {**LLAMA3, "original_max_position_embeddings": 32}),
        ("yarn", 128, YARN),
        ("yarn", 128, {**YARN, "beta_fast": 8.0, "beta_slow": 2.0}),
        ("yarn", 128, {**YARN, "attention_factor": 0.7}),
        ("yarn", 128, {**YARN, "mscale": 0.8, "mscale_all_dim": 0.5}),
        ("yarn", 128, {**YARN, "truncate": False}),
        ("longrope", 32, LONGROPE),
        ("longrope", 33, LONGROPE),
        ("longrope", 33, {**LONGROPE, "attention_factor": 1.25}),
    ],
)
def test_table_is_transformers(kind: str, length: int, parameters: dict[str, Any]) -> None:
    expected = theirs(kind, length, parameters)
    table = ours(kind, length, parameters)
    assert table.dtype == torch.float32
    assert table.shape == (length, DIM)
    assert (table - expected).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("kind", "parameters", "complaint"),
    [
        ("mrope", {}, "'mrope' is not supported"),
        ("linear", {}, "linear needs 'factor'"),
        ("llama3", {"factor": 8.0}, "llama3 needs 'low_freq_factor'"),
        ("longrope", {**LONGROPE, "short_factor": [1.0]}, "short_factor needs 12 numbers"),
    ],
)
def test_refused_by_name(kind: str, parameters: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        ours(kind, 16, parameters)
