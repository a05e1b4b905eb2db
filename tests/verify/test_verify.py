"""`octavo verify` finds our models right, and a broken one wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from model_checkpoints import make_checkpoint
from pooling_checkpoints import make_pooling

from octavo.services.launch import run
from octavo.services.verify.comparison import common_beginning, compare, divergence
from octavo.services.verify.reference import Answer
from octavo.services.worker.model_config import ModelConfig


def verify(path: Path, *flags: str) -> int:
    return run(["verify", str(path), "--device", "cpu", "--max-tokens", "8", *flags], {})


@pytest.mark.parametrize("flags", [["--block-size", "64"], ["--dtype", "bfloat16"]])
def test_ours_are_right(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_checkpoint("qwen3", tmp_path)
    asked = ["--prompt", "one two three", "--prompt", "a" * 40]
    assert verify(tmp_path, "--json", *asked, *flags) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] and len(found["prompts"]) == 2
    if found["dtype"] == "float32":
        assert all(one["max_abs"] < 1e-3 and one["greedy_equal"] == 8 for one in found["prompts"])


def test_a_wrong_layer_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_checkpoint("llama", tmp_path)
    load = ModelConfig.load.__func__  # type: ignore[attr-defined]

    def wrong(*args: Any) -> ModelConfig:
        config: ModelConfig = load(ModelConfig, *args)
        return replace(config, rope=replace(config.rope, theta=5000.0))

    monkeypatch.setattr(ModelConfig, "load", wrong)
    assert verify(tmp_path, "--prompt", "one two three", "--prompt", "abc") == 1
    assert "DIFFERENT: 2 of 2 prompts" in capsys.readouterr().out


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_pooling("Qwen3Model", tmp_path)
    assert verify(tmp_path) == 2
    assert verify(tmp_path, "--load-format", "dummy") == 2
    assert verify(tmp_path, "-tp", "2") == 2
    assert verify(tmp_path, "--max-tokens", "0") == 2
    assert verify(tmp_path, "--max-model-lem", "0") == 2
    said = capsys.readouterr().err
    assert "this one pools" in said and "one rank" in said and "--max-model-len?" in said


def test_comparison() -> None:
    logits = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    top = logits.argmax(-1).tolist()
    theirs = Answer(prompt=[1, 2], continuation=top[1:], logits=logits)
    assert compare(theirs, logits, top[1:], "float32").ok
    assert divergence(logits, logits + 3.0).max() < 1e-12, "a constant changes nothing"
    other = compare(theirs, logits, [(top[1] + 1) % 10, 0, 0], "float32")
    assert not other.ok and other.greedy_equal == 0 and other.tie is not None and other.tie > 0
    assert not compare(theirs, logits * float("nan"), top[1:], "bfloat16").ok
    assert not compare(theirs, -logits, top[1:], "bfloat16").ok
    assert common_beginning([1, 2, 3], [1, 2, 4]) == 2 == common_beginning([1, 2], [1, 2, 3])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_ours_are_right_on_a_gpu(dtype: str, tmp_path: Path) -> None:
    make_checkpoint("llama", tmp_path)
    asked = ["verify", str(tmp_path), "--device", "cuda", "--max-num-seqs", "8"]
    assert run([*asked, "--dtype", dtype, "--max-tokens", "8"], {}) == 0
