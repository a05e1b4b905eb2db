"""config.json in every spelling, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.services.worker.model_config import ModelConfig
from octavo.shared.errors import ConfigError

SMALL: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 320,
    "max_position_embeddings": 256,
}


def load(folder: Path, **changes: Any) -> ModelConfig:
    (folder / "config.json").write_text(json.dumps(SMALL | changes))
    return ModelConfig.load(folder)


def test_defaults(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert (config.num_kv_heads, config.head_dim, config.dtype) == (4, 16, "float32")
    assert (config.rope.kind, config.rope.theta, config.rope.rotary_dim) == ("default", 10000.0, 16)
    assert config.windows == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "spelling",
    [
        {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 2}},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500000}},
    ],
)
def test_rope_spellings(tmp_path: Path, spelling: dict[str, Any]) -> None:
    rope = load(tmp_path, **spelling).rope
    assert (rope.kind, rope.theta, rope.parameters["factor"]) == ("linear", 5e5, 2.0)


@pytest.mark.parametrize("nested", [True, False])
def test_partial_rotation_and_trained_length(tmp_path: Path, nested: bool) -> None:
    fields = {"partial_rotary_factor": 0.75, "original_max_position_embeddings": 64}
    rope = load(tmp_path, **({"rope_scaling": fields} if nested else fields)).rope
    assert (rope.rotary_dim, rope.original_max) == (12, 64)


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_dtype_spellings(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, **{name: "bfloat16"}).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("family", "changes", "windows"),
    [
        ("Llama", {}, (0, 0, 0, 0)),
        ("Mistral", {}, (9, 9, 9, 9)),
        ("Mistral", {"sliding_window": None}, (0, 0, 0, 0)),
        ("Phi3", {}, (9, 9, 9, 9)),
        ("Qwen2", {}, (0, 0, 0, 0)),
        ("Qwen2", {"use_sliding_window": False, "max_window_layers": 0}, (0, 0, 0, 0)),
        ("Qwen2", {"use_sliding_window": True}, (0, 0, 0, 0)),
        ("Qwen2", {"use_sliding_window": True, "max_window_layers": 3}, (0, 0, 0, 9)),
        (
            "Qwen3",
            {
                "use_sliding_window": True,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
            },
            (9, 0, 9, 0),
        ),
    ],
)
def test_windows(
    tmp_path: Path, family: str, changes: dict[str, Any], windows: tuple[int, ...]
) -> None:
    given = {"architectures": [f"{family}ForCausalLM"], "sliding_window": 9} | changes
    assert load(tmp_path, **given).windows == windows


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"vocab_size": 10**12}, "vocab_size"),
        ({"num_key_value_heads": 3}, "num_key_value_heads 3"),
        ({"architectures": []}, "architectures"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"quantization_config": {"quant_method": "fp8"}}, r"quantization_config.*fp8"),
        ({"rope_scaling": {"factor": 0}}, r"rope_scaling\.factor"),
        ({"rope_scaling": {"type": ["yarn"]}}, r"rope_scaling\.type"),
        ({"head_dim": 7}, "cannot rotate 7 of 7"),
        ({"partial_rotary_factor": 3.0}, "cannot rotate 48 of 16"),
        (
            {"architectures": ["MistralForCausalLM"], "layer_types": ["full_attention"]},
            "layer_types has 1 of 4",
        ),
    ],
)
def test_bad_fields(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=rf"config\.json: .*{complaint}"):
        load(tmp_path, **changes)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "[" * 100_000])
def test_bad_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json: "):
        ModelConfig.load(tmp_path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json"):
        ModelConfig.load(tmp_path)
