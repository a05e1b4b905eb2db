"""Vectors on a GPU: those of transformers on the CPU, without waiting and without compiling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from model_checkpoints import VOCAB
from pooling_checkpoints import make_pooling, save_sentence_files
from pooling_harness import PoolingHarness

from octavo.services.worker.compile_counter import CompileCounter
from octavo.services.worker.model_runner import Launched
from octavo.shared.pooling import PoolingParams
from octavo.shared.steps import StepPlan

pytestmark = pytest.mark.gpu
PROMPTS = [
    torch.randint(
        3, VOCAB - 62, (length,), generator=torch.Generator().manual_seed(length)
    ).tolist()
    for length in (1, 5, 17, 33, 39, 128, 2, 64)
]
EMBEDDERS = [
    ("LlamaModel", "lasttoken"),
    ("Qwen3Model", "mean_tokens"),
    ("Qwen2Model", "cls_token"),
    ("BertModel", "cls_token"),
    ("XLMRobertaModel", "mean_tokens"),
]
CLASSIFIERS = ["BertForSequenceClassification", "Qwen3ForSequenceClassification"]
RAW = PoolingParams(use_activation=False)


def budget_of(architecture: str) -> int:
    """Small: decoders compute their prompts in chunks."""
    return 128 if architecture.startswith(("Bert", "XLM")) else 23


@pytest.mark.parametrize(("architecture", "mode"), EMBEDDERS)
def test_float32_embeddings_equal_the_cpu_s(architecture: str, mode: str, tmp_path: Path) -> None:
    make_pooling(architecture, tmp_path)
    save_sentence_files(tmp_path, mode, normalize=True)
    expected = PoolingHarness(tmp_path).vectors(PROMPTS)
    ours = PoolingHarness(tmp_path, device="cuda", budget=budget_of(architecture))
    np.testing.assert_allclose(ours.vectors(PROMPTS), expected, atol=1e-3)
    whole = PoolingHarness(tmp_path, device="cuda")
    np.testing.assert_allclose(whole.vectors(PROMPTS), expected, atol=1e-3)


@pytest.mark.parametrize("architecture", CLASSIFIERS)
def test_float32_classes_equal_the_cpu_s(architecture: str, tmp_path: Path) -> None:
    make_pooling(architecture, tmp_path, num_labels=3)
    expected = PoolingHarness(tmp_path).vectors(PROMPTS)
    ours = PoolingHarness(tmp_path, device="cuda", budget=budget_of(architecture))
    np.testing.assert_allclose(ours.vectors(PROMPTS), expected, atol=1e-3)


@pytest.mark.parametrize(("architecture", "mode"), EMBEDDERS)
def test_bfloat16_points_the_same_way(architecture: str, mode: str, tmp_path: Path) -> None:
    make_pooling(architecture, tmp_path)
    save_sentence_files(tmp_path, mode, normalize=True)
    exact = PoolingHarness(tmp_path).vectors(PROMPTS)
    ours = PoolingHarness(tmp_path, device="cuda", dtype=torch.bfloat16).vectors(PROMPTS)
    assert ((ours * exact).sum(axis=1) > 0.99).all()


@pytest.mark.parametrize(("architecture", "mode"), EMBEDDERS)
def test_steps_neither_wait_nor_compile(architecture: str, mode: str, tmp_path: Path) -> None:
    make_pooling(architecture, tmp_path)
    save_sentence_files(tmp_path, mode, normalize=True)
    harness = PoolingHarness(tmp_path, device="cuda", budget=max(budget_of(architecture), 32))
    execute = harness.runner.execute

    def watched(plan: StepPlan) -> Launched:
        torch.cuda.set_sync_debug_mode("error")
        try:
            return execute(plan)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    harness.runner.execute = watched  # type: ignore[method-assign]
    counter = CompileCounter()
    counter.install()
    harness.vectors(PROMPTS, RAW)
    assert (counter.compiled, counter.from_cache) == ([], 0)
