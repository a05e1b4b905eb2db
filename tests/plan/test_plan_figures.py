"""A plan's figures are the worker's own, and its verdict says which flag to change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from model_checkpoints import VARIANTS, make_checkpoint
from pooling_checkpoints import make_pooling

from octavo.services.plan.card import named_card
from octavo.services.plan.command import make_plan, plan, read_lengths
from octavo.services.plan.weights import stored_bytes, weight_bytes
from octavo.services.supervisor.nvidia_smi import read_line
from octavo.services.supervisor.resolve import resolve
from octavo.services.supervisor.settings import read_settings
from octavo.services.worker import weights
from octavo.services.worker.encoder_config import load_config
from octavo.services.worker.kv_cache import Budget, KVSpec, count_blocks
from octavo.services.worker.memory import CPU_KV_BYTES, GIB
from octavo.services.worker.model_config import ModelConfig
from octavo.services.worker.parallel import Parallel
from octavo.shared.errors import ConfigError


@pytest.mark.parametrize("name", VARIANTS)
def test_weights_are_what_a_worker_counts(name: str, tmp_path: Path) -> None:
    make_checkpoint(name, tmp_path)
    config = ModelConfig.load(tmp_path)
    for ranks in (1, 2, 4):
        found = weights.weight_bytes(config, Parallel(0, ranks), torch.bfloat16)
        assert weight_bytes(config, ranks, 2) == found, ranks
    whole = weights.weight_bytes(config, Parallel.single(), torch.float32)
    assert stored_bytes(config, tmp_path, 4) == whole


POOLING = (
    *("Qwen3Model", "LlamaForSequenceClassification", "BertModel", "RobertaModel"),
    "XLMRobertaForSequenceClassification",
)


@pytest.mark.parametrize("architecture", POOLING)
def test_weights_of_what_pools(architecture: str, tmp_path: Path) -> None:
    make_pooling(architecture, tmp_path)
    server, info = resolve(read_settings([str(tmp_path), "--device", "cpu"], {}).server, {})
    config = load_config(server.engine.model, info.pooling)
    counted = weights.weight_bytes(config, Parallel.single(), torch.float32)
    assert weight_bytes(config, 1, 4) == counted


def plan_of(*argv: str, gpu: str | None = None, lengths: str = "1k,8k") -> Any:
    return make_plan(read_settings(list(argv), {}).server, gpu, read_lengths(lengths), {})


def test_blocks_are_what_a_worker_allocates(tmp_path: Path) -> None:
    make_checkpoint("qwen3", tmp_path)
    for flags in ([], ["--kv-cache-memory-bytes", "3M"], ["--block-size", "64"]):
        found = plan_of(str(tmp_path), "--device", "cpu", *flags)
        config = ModelConfig.load(tmp_path)
        size = found.engine.block_size or 0
        spec = KVSpec(config.num_layers, config.num_kv_heads, 32, size, torch.float32)
        budget = Budget.measure(found.engine, torch.device("cpu"))
        available = budget.usable if found.engine.kv_cache_memory_bytes else CPU_KV_BYTES
        assert found.num_blocks == count_blocks(found.engine, spec, available)


def big_model(folder: Path, **changes: Any) -> str:
    """Llama 3.1 8B by its configuration, without a file of weights."""
    config = {
        "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 128256, "max_position_embeddings": 131072, "torch_dtype": "bfloat16",
        "rope_theta": 500000.0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return str(folder)


def test_a_gpu_is_shared_between_weights_step_and_cache(tmp_path: Path) -> None:
    found = plan_of(big_model(tmp_path), gpu="H100", lengths="1k,8k,200k")
    assert found.fits and found.reserve and found.kv_per_token == 128 << 10
    assert found.weights == 8_030_261_248 * 2
    used = found.weights + found.reserve.total + found.kv_tokens * found.kv_per_token
    assert 0 <= found.usable - used < 64 * found.kv_per_token
    assert [load.requests for load in found.loads] == [
        found.num_blocks // 16,
        found.num_blocks // 125,
        0,
    ]


@pytest.mark.parametrize(
    ("gpu", "flags", "hint"),
    [
        ("4090", [], "--max-model-len"),
        ("12", [], "--tensor-parallel-size 4"),
        ("18.2", ["--max-model-len", "1000"], "--max-num-batched-tokens 2048"),
        ("H100", ["--kv-cache-memory-bytes", "100Gi"], "lower --kv-cache-memory-bytes"),
        ("20", ["--gpu-memory-utilization", "0.5", "--max-model-len", "1000"], "0.95"),
    ],
)
def test_advice_works(gpu: str, flags: list[str], hint: str, tmp_path: Path) -> None:
    found = plan_of(big_model(tmp_path), *flags, gpu=gpu)
    assert not found.fits and any(hint in line for line in found.advice), found.advice


def test_following_the_advice_makes_it_fit(tmp_path: Path) -> None:
    model = big_model(tmp_path)
    words = plan_of(model, gpu="4090").advice[1].split()
    assert plan_of(model, *words, gpu="4090").fits


def test_the_command_prints_and_says_by_its_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = big_model(tmp_path)
    assert plan([model, "--gpu", "H200", "--json"], {}) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] and found["weights_from"] == "config.json"
    assert plan([model, "--gpu", "L4"], {}) == 1
    assert "It does not fit" in capsys.readouterr().out
    assert plan([model, "--gpu", "abacus"], {}) == 2
    assert plan([model, "--gpu", "L4", "--lengths", "0"], {}) == 2
    assert plan([model, "--gpu", "L4", "--block-sizes", "16"], {}) == 2
    assert "did you mean --block-size?" in capsys.readouterr().err


def test_cards_by_name_and_size() -> None:
    assert named_card("nvidia h100").total == named_card("H100").total
    assert named_card("A100-80GB").total == named_card("a100_80").total
    assert named_card("RTX 4090").name == "4090"
    assert named_card("24").total == named_card("24GiB").total == 24 * GIB
    with pytest.raises(ConfigError, match="one of"):
        named_card("0")


def test_nvidia_smi_lines() -> None:
    gpu = read_line("NVIDIA H200, 143771, 621, 143149, 580.159.04, 9.0")
    assert gpu is not None and gpu.total == (143771 - 621) << 20 and gpu.driver == "580.159.04"
    assert read_line("NVIDIA GH, [N/A], [N/A], [N/A], 5, 9.0") is None
    assert read_line("No devices were found") is None
