"""What is decided from the model's files and the device, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from house_models import write_json, write_model

from octavo.services.supervisor import resolve as resolving
from octavo.services.supervisor.model_info import read_model_file
from octavo.services.supervisor.resolve import count_gpus, resolve
from octavo.services.supervisor.settings import build
from octavo.shared.config import ModelInfo, ServerConfig
from octavo.shared.errors import ConfigError


@pytest.fixture(autouse=True)
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /dev of our own, without a GPU until a test makes one."""
    path = tmp_path / "dev"
    path.mkdir()
    monkeypatch.setattr(resolving, "DEVICES", path)
    return path


def decide(model: Path, environ: dict[str, str] | None = None, **values: Any) -> ServerConfig:
    return resolve(build({"model": str(model), **values}).server, environ or {})[0]


def info(model: Path, **values: Any) -> ModelInfo:
    return resolve(build({"model": str(model), **values}).server, {})[1]


def test_cpu_defaults(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m")
    server = decide(model)
    engine = server.engine
    assert (engine.device, engine.dtype, engine.block_size) == ("cpu", "float32", 16)
    assert (engine.max_num_seqs, engine.max_num_batched_tokens) == (64, 2048)
    assert (engine.max_model_len, engine.model, engine.tokenizer) == (128, str(model), str(model))
    assert server.served_model_name == [str(model)]


def test_cuda_defaults(tmp_path: Path, devices: Path) -> None:
    (devices / "nvidia3").touch()
    engine = decide(write_model(tmp_path / "m")).engine
    assert (engine.device, engine.dtype, engine.block_size) == ("cuda", "bfloat16", 64)
    assert (engine.max_num_seqs, engine.max_num_batched_tokens) == (512, 8192)


def test_a_small_token_budget_bounds_the_default_of_slots(tmp_path: Path) -> None:
    engine = decide(write_model(tmp_path / "m"), max_num_batched_tokens=32).engine
    assert engine.max_num_seqs == 32


def test_what_is_asked_for_stays(tmp_path: Path, devices: Path) -> None:
    (devices / "nvidia0").touch()
    model = write_model(tmp_path / "m")
    server = decide(
        model, device="cpu", dtype="bfloat16", max_model_len=64, served_model_name=["a"]
    )
    assert (server.engine.device, server.engine.dtype) == ("cpu", "bfloat16")
    assert (server.engine.max_model_len, server.served_model_name) == (64, ["a"])
    assert info(model, max_model_len=64).max_model_len == 64


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"max_model_len": 129}, "max_model_len 129 is more than the model's 128 tokens"),
        ({"tensor_parallel_size": 3}, "3 does not divide 8 attention heads"),
        ({"tensor_parallel_size": 2, "deterministic": True}, "deterministic is for one rank"),
        ({"tensor_parallel_size": 0}, "tensor_parallel_size must be between 1 and"),
        ({"max_num_seqs": 9, "max_num_batched_tokens": 8}, "tokens 8 is less than max_num_seqs 9"),
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization must be between"),
        ({"kv_cache_memory_bytes": 0}, "kv_cache_memory_bytes must be between"),
        ({"max_num_seqs": 0}, "max_num_seqs must be between"),
        ({"prefill_beside_decode": 0}, "prefill_beside_decode must be between 1 and"),
        ({"tokenizer": "/none"}, "/none: no such directory"),
    ],
)
def test_refused(tmp_path: Path, values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        decide(write_model(tmp_path / "m"), **values)


def test_ranks_need_gpus_and_kv_heads(tmp_path: Path, devices: Path) -> None:
    (devices / "nvidia0").touch()
    with pytest.raises(ConfigError, match="2 needs as many GPUs; there are 1"):
        decide(write_model(tmp_path / "m"), tensor_parallel_size=2)
    odd = write_model(tmp_path / "odd", num_attention_heads=6, num_key_value_heads=3)
    with pytest.raises(ConfigError, match="2 does not fit 3 KV heads"):
        decide(odd, tensor_parallel_size=2, device="cpu")
    assert decide(odd, tensor_parallel_size=6, device="cpu").engine.tensor_parallel_size == 6


@pytest.mark.parametrize(
    ("visible", "count"), [(None, 2), ("", 0), ("-1", 0), ("1", 1), ("0,1", 2), ("0,-1,1", 1)]
)
def test_visible_gpus(devices: Path, visible: str | None, count: int) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (devices / name).touch()
    assert count_gpus({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == count


@pytest.mark.parametrize(
    ("rope", "length"),
    [
        ({}, 128),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 512),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, 256),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 128),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 8.0}}, 128),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, 512),
        (
            {
                "rope_scaling": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 32,
                }
            },
            128,
        ),
    ],
)
def test_context_length(tmp_path: Path, rope: dict[str, Any], length: int) -> None:
    assert read_model_file(write_model(tmp_path / "m", **rope)).max_len == length


def test_model_info(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m", eos_token_id=[3, 4], bos_token_id=257)
    generation = {
        "eos_token_id": [5, 3, 258, -1],
        "temperature": 0.6,
        "top_k": 20,
        "max_new_tokens": None,
    }
    write_json(model / "generation_config.json", generation)
    assert info(model) == ModelInfo(
        architecture="LlamaForCausalLM",
        vocab_size=258,
        max_model_len=128,
        eos_token_ids=[5, 3, 4, 256],
        bos_token_id=257,
        sampling_defaults={"temperature": 0.6, "top_k": 20.0},
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "config.json: "),
        ("{}", "config.json: Object missing required field `architectures`"),
        ('{"architectures": []}', "config.json: "),
    ],
)
def test_broken_config(tmp_path: Path, text: str, says: str) -> None:
    model = write_model(tmp_path / "m")
    (model / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=says):
        decide(model)


def test_unknown_architecture(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"T5EncoderModel.* is not supported.*Llama"):
        decide(write_model(tmp_path / "m", architectures=["T5EncoderModel"]))
