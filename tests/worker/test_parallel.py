"""Two gloo ranks give what one gives, for every family."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from model_checkpoints import VARIANTS, make_checkpoint
from parallel_rank import outcome

from octavo.services.worker.model_config import ModelConfig
from octavo.services.worker.parallel import Parallel
from octavo.services.worker.weights import load_model, weight_bytes
from octavo.shared.errors import ConfigError

SUPPORT = Path(__file__).parents[1] / "support"
NAMES = ["llama_biased", "qwen3", "phi3"]
OTHERS = ["llama", "llama_tied", "llama_odd_heads", "mistral", "qwen2", "phi3_longrope"]
SPLITS = [
    (2, NAMES),
    pytest.param(2, OTHERS, marks=pytest.mark.slow),
    pytest.param(4, ["qwen3"], marks=pytest.mark.slow),
]


def run_ranks(size: int, folder: Path, paths: list[Path]) -> list[dict[str, object]]:
    def start(rank: int) -> subprocess.Popen[str]:
        script = [sys.executable, str(SUPPORT / "parallel_rank.py"), str(rank), str(size)]
        command = [*script, str(folder / f"meet-{size}"), *map(str, paths)]
        path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path}  # under PYTHONSAFEPATH too
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    ranks = [start(rank) for rank in range(size)]
    printed = [rank.communicate(timeout=120)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * size
    return [json.loads(line) for line in printed[0].splitlines() if line.startswith("{")]


@pytest.mark.parametrize(("size", "names"), SPLITS)
def test_ranks_agree_with_one(size: int, names: list[str], tmp_path: Path) -> None:
    """4 ranks: more than there are KV heads (2), which are then replicated."""
    paths = [tmp_path / name for name in names]
    for path in paths:
        make_checkpoint(path.name, path)
    split = run_ranks(size, tmp_path, paths)
    assert len(split) == len(paths)
    for path, result in zip(paths, split, strict=True):
        alone = outcome(path, Parallel.single())
        assert result["ids"] == alone["ids"], path.name
        difference = torch.tensor(result["logits"]) - torch.tensor(alone["logits"])
        assert difference.abs().max() < 1e-4, path.name


def test_dummy_weights_are_the_same_split_or_not(tmp_path: Path) -> None:
    make_checkpoint("llama", tmp_path)
    config = ModelConfig.load(tmp_path)

    def weights(parallel: Parallel) -> torch.Tensor:
        model = load_model(
            config, tmp_path, parallel, torch.device("cpu"), torch.float32, "dummy", 0, 64,
            lambda *_: None,
        )  # fmt: skip
        found: torch.Tensor = model.layers[0].mlp.down.weight
        return found

    halves = [weights(Parallel(rank, 2)) for rank in range(2)]
    assert torch.equal(torch.cat(halves, dim=1), weights(Parallel.single()))


def test_uneven_split_is_refused(tmp_path: Path) -> None:
    make_checkpoint("llama", tmp_path)
    config = ModelConfig.load(tmp_path)
    with pytest.raises(ConfigError, match="tensor_parallel_size 3"):
        weight_bytes(config, Parallel(0, 3), torch.float32)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_weight_bytes_counts_the_checkpoint(name: str, tmp_path: Path) -> None:
    model = make_checkpoint(name, tmp_path)
    total = sum(p.numel() * 4 for p in model.parameters())
    assert weight_bytes(ModelConfig.load(tmp_path), Parallel.single(), torch.float32) == total
