"""A row that the worker cannot take in ends its own request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from engine_harness import Harness
from model_checkpoints import VOCAB, make_checkpoint
from pooling_checkpoints import make_pooling
from pooling_harness import PoolingHarness

from octavo.shared.messages import unpack
from octavo.shared.sampling import SamplingParams
from octavo.shared.steps import NewRow

LENGTHS = (20, 50, 7)
PROMPTS = [[(11 * at + 7 * length) % VOCAB for at in range(length)] for length in LENGTHS]
SOUND = SamplingParams(temperature=0.0, max_tokens=8)
WRONG = [
    SamplingParams(temperature=0.0, max_tokens=8, logit_bias={VOCAB: 1.0}),
    SamplingParams(max_tokens=8, min_tokens=3, stop_token_ids=[-1], prompt_logprobs=2),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    make_checkpoint("llama", path)
    return path


@pytest.mark.parametrize("wrong", WRONG)
def test_one_bad_row_is_one_bad_answer(checkpoint: Path, wrong: SamplingParams) -> None:
    harness = Harness(checkpoint, budget=32)
    answers = harness.generate(PROMPTS, [SOUND, wrong, SOUND])
    assert [answer.error for answer in answers] == [None, "internal_error", None]
    assert not answers[1].token_ids and not answers[1].prompt_logprobs
    expected = Harness(checkpoint, budget=32).generate(PROMPTS, [SOUND] * 3)
    assert [answers[row].token_ids for row in (0, 2)] == [expected[row].token_ids for row in (0, 2)]
    (again,) = harness.generate([PROMPTS[1]], [SOUND])
    assert again.token_ids == expected[1].token_ids


def test_its_slot_is_as_good_as_any_other_afterwards(checkpoint: Path) -> None:
    harness = Harness(checkpoint, max_num_seqs=1, prefix_caching=False)
    first, bad, last = harness.generate([PROMPTS[0]] * 3, [SOUND, WRONG[0], SOUND])
    assert bad.error == "internal_error"
    assert first.token_ids == last.token_ids and len(last.token_ids) == 8


def test_want_of_memory_is_no_row_s_fault(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = Harness(checkpoint)

    def fails(row: NewRow) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(harness.runner.sampler, "admit", fails)
    with pytest.raises(torch.OutOfMemoryError):
        harness.generate(PROMPTS[:1], [SOUND])


def test_a_text_to_be_pooled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pooling("BertModel", tmp_path)
    harness = PoolingHarness(tmp_path)
    prompts = [[8, 9], [7, 9], [9, 8]]
    clean = harness.vectors(prompts)
    runner: Any = harness.runner
    admit = runner._admit
    failed: list[NewRow] = []

    def fails_once(row: NewRow) -> None:
        if unpack(row.token_ids)[0] == 7 and not failed:
            failed.append(row)
            raise ValueError("injected")
        admit(row)

    monkeypatch.setattr(runner, "_admit", fails_once)
    answers = harness.pool(prompts)
    assert [answer.error for answer in answers] == [None, "internal_error", None]
    assert answers[1].vector is None
    for row in (0, 2):
        vector = answers[row].vector
        assert vector is not None and abs(vector - clean[row]).max() < 1e-6
