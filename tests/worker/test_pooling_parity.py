"""Parity of vectors with transformers, float32 on the CPU, under every way of batching."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_checkpoints import VOCAB
from pooling_checkpoints import make_pooling, save_sentence_files
from pooling_harness import PoolingHarness

from octavo.shared.pooling import PoolingParams

LENGTHS = (1, 5, 17, 33, 39, 128, 2, 64)
PROMPTS = [
    torch.randint(
        3, VOCAB - 62, (length,), generator=torch.Generator().manual_seed(length)
    ).tolist()
    for length in LENGTHS
]
EMBEDDERS = [
    ("LlamaModel", "lasttoken"),
    ("LlamaModel", "mean_tokens"),
    ("Qwen2Model", "cls_token"),
    ("Qwen3Model", "lasttoken"),
    ("Qwen3Model", "mean_tokens"),
    ("MistralModel", "mean_tokens"),
    ("Qwen3ForCausalLM", "lasttoken"),
    ("BertModel", "cls_token"),
    ("BertModel", "mean_tokens"),
    ("XLMRobertaModel", "mean_tokens"),
    ("RobertaModel", "cls_token"),
]
CLASSIFIERS = [
    "BertForSequenceClassification",
    "XLMRobertaForSequenceClassification",
    "Qwen3ForSequenceClassification",
    "LlamaForSequenceClassification",
]
ENCODERS = ("Bert", "XLMRoberta", "Roberta")


def hidden_states(model: Any, prompt: list[int]) -> torch.Tensor:
    base = getattr(model, "model", model)
    with torch.no_grad():
        states: torch.Tensor = base(torch.tensor([prompt])).last_hidden_state[0]
    return states


def expected(model: Any, prompt: list[int], mode: str) -> torch.Tensor:
    states = hidden_states(model, prompt)
    match mode:
        case "lasttoken":
            return states[-1]
        case "cls_token":
            return states[0]
    return states.mean(dim=0)


@pytest.mark.parametrize(("architecture", "mode"), EMBEDDERS)
def test_embeddings_equal_transformers(architecture: str, mode: str, tmp_path: Path) -> None:
    model = make_pooling(architecture, tmp_path)
    save_sentence_files(tmp_path, mode, normalize=True)
    theirs = torch.stack([expected(model, prompt, mode) for prompt in PROMPTS])
    raw = PoolingParams(use_activation=False)

    whole = PoolingHarness(tmp_path)
    assert whole.info.encoder == architecture.startswith(ENCODERS)
    np.testing.assert_allclose(whole.vectors(PROMPTS, raw), theirs, atol=1e-4)
    assert whole.max_in_step == len(PROMPTS)
    normed = torch.nn.functional.normalize(theirs, dim=-1)
    np.testing.assert_allclose(whole.vectors(PROMPTS), normed, atol=1e-4)

    budget = 128 if whole.info.encoder else 7  # an encoder's step holds its longest text
    chunks = PoolingHarness(tmp_path, budget=budget, max_num_seqs=4)
    np.testing.assert_allclose(chunks.vectors(PROMPTS, raw), theirs, atol=1e-4)
    np.testing.assert_allclose(chunks.vectors(PROMPTS[::-1], raw), theirs.flip(0), atol=1e-4)


@pytest.mark.parametrize("architecture", CLASSIFIERS)
def test_classes_equal_transformers(architecture: str, tmp_path: Path) -> None:
    model = make_pooling(architecture, tmp_path, num_labels=3)
    with torch.no_grad():
        logits = torch.cat([model(torch.tensor([prompt])).logits for prompt in PROMPTS])
    whole = PoolingHarness(tmp_path)
    assert whole.info.labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
    raw = whole.vectors(PROMPTS, PoolingParams(use_activation=False))
    np.testing.assert_allclose(raw, logits, atol=1e-4)
    np.testing.assert_allclose(whole.vectors(PROMPTS), logits.softmax(-1), atol=1e-4)
    chunks = PoolingHarness(tmp_path, budget=128 if whole.info.encoder else 7, max_num_seqs=4)
    np.testing.assert_allclose(chunks.vectors(PROMPTS), logits.softmax(-1), atol=1e-4)


def test_the_second_text_has_its_own_type(tmp_path: Path) -> None:
    model = make_pooling("BertForSequenceClassification", tmp_path, num_labels=1)
    starts = [0, 2, 9, 30, 1, 100, 0, 63]
    theirs = []
    for prompt, start in zip(PROMPTS, starts, strict=True):
        types = torch.tensor([[int(0 < start <= i) for i in range(len(prompt))]])
        with torch.no_grad():
            theirs.append(model(torch.tensor([prompt]), token_type_ids=types).logits[0].sigmoid())
    harness = PoolingHarness(tmp_path)
    answers = harness.pool(PROMPTS, [PoolingParams(second_start=start) for start in starts])
    ours = np.stack([answer.vector for answer in answers if answer.vector is not None])
    np.testing.assert_allclose(ours, torch.stack(theirs), atol=1e-4)


def num_preemptions(harness: PoolingHarness) -> float:
    text = harness.scheduler.metrics_text()
    found = re.search(rb"^vllm:num_preemptions_total\S* (\S+)$", text, re.M)
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("mode", ["lasttoken", "mean_tokens", "cls_token"])
def test_preemption_changes_nothing(mode: str, tmp_path: Path) -> None:
    """Prompts of lower priority lose their blocks half-way, and what they summed up counts once."""
    model = make_pooling("LlamaModel", tmp_path)
    save_sentence_files(tmp_path, mode, normalize=False)
    theirs = torch.stack([expected(model, prompt, mode) for prompt in PROMPTS])
    tight = PoolingHarness(tmp_path, num_blocks=9, budget=11, max_num_seqs=4)
    order = [5, 4, 3, 0, 1, 2, 6, 7]
    answers = tight.pool([PROMPTS[i] for i in order], num_late=3)
    assert num_preemptions(tight) > 0
    ours = np.stack([answer.vector for answer in answers if answer.vector is not None])
    np.testing.assert_allclose(ours, theirs[order], atol=1e-4)


def test_requests_in_one_batch_may_ask_for_different_things(tmp_path: Path) -> None:
    make_pooling("Qwen3Model", tmp_path)
    harness = PoolingHarness(tmp_path)
    raw = harness.vectors(PROMPTS, PoolingParams(use_activation=False))
    params = [
        PoolingParams(dimensions=1 + 9 * (i % 4), use_activation=(None, True, False)[i % 3])
        for i in range(len(PROMPTS))
    ]
    for answer, wanted, whole in zip(harness.pool(PROMPTS, params), params, raw, strict=True):
        cut = whole[: wanted.dimensions]
        if wanted.use_activation is not False:  # a decoder without files normalises
            cut = cut / np.linalg.norm(cut)
        assert answer.vector is not None
        np.testing.assert_allclose(answer.vector, cut, rtol=1e-5, atol=1e-6)


def test_a_text_longer_than_an_encoders_step_is_refused(tmp_path: Path) -> None:
    make_pooling("BertModel", tmp_path)
    harness = PoolingHarness(tmp_path, budget=32)
    answers = harness.pool([PROMPTS[3], PROMPTS[1]])
    assert [answer.error for answer in answers] == ["too_long", None]


def test_no_number_is_an_error_of_its_request_alone(tmp_path: Path) -> None:
    make_pooling("BertModel", tmp_path)
    harness = PoolingHarness(tmp_path)
    with torch.inference_mode():
        harness.runner.model.words[7] = float("nan")
    answers = harness.pool([[8, 9], [7, 9], [9, 8]])
    assert [answer.error for answer in answers] == [None, "numerical_error", None]
    assert [answer.vector is None for answer in answers] == [False, True, False]
