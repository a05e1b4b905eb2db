"""A slot is used again: whatever stood in it, the next request's answer is its own.

All that is kept by slot, on the host and the device, is poisoned between two runs; what is not
written again when a request takes the slot would show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_harness import EOS_IDS, Answer, Harness
from model_checkpoints import make_checkpoint
from msgspec.structs import replace

from octavo.services.scheduler.limits import Limits
from octavo.services.scheduler.request import Request
from octavo.services.scheduler.slots import Slots
from octavo.services.worker.slots import SlotTable
from octavo.shared.messages import Submit, pack
from octavo.shared.sampling import SamplingParams
from octavo.shared.steps import NewRow

SLOTS = 4
POISON = 77
"""In every number; a lawful token id, slot and block, so that nothing fails for another reason."""
LIMITS = Limits(
    num_blocks=8,
    block_size=16,
    max_model_len=64,
    max_num_seqs=SLOTS,
    max_num_batched_tokens=64,
    vocab_size=320,
)
PROMPTS = [[10 + number] * (5 + number) for number in range(SLOTS)]


def fields(holder: object) -> dict[str, Any]:
    return dict(vars(holder))


def poison(holder: object) -> list[str]:
    """Overwrite the arrays, tensors and lists of one entry a slot; returns their names."""
    poisoned = []
    for name, value in fields(holder).items():
        if isinstance(value, np.ndarray) and len(value) == SLOTS and value.dtype.kind in "ifb":
            value[:] = POISON
        elif isinstance(value, torch.Tensor) and len(value) == SLOTS:
            value.fill_(POISON)
        elif isinstance(value, list) and len(value) == SLOTS:
            value[:] = [_stranger(name)] * SLOTS
        else:
            continue
        poisoned.append(name)
    return poisoned


def _stranger(name: str) -> Any:
    if name in ("bias", "bans"):
        return np.array([POISON]), np.array([1e9], np.float32)
    return np.full(9, POISON, np.int32)


def params() -> list[SamplingParams]:
    """Of every kind of state: none, penalties, bias with a minimum, log-probabilities."""
    plain = SamplingParams(max_tokens=8, temperature=0.0)
    return [
        plain,
        SamplingParams(max_tokens=8, temperature=1.0, seed=3, presence_penalty=1.5, top_k=9),
        SamplingParams(max_tokens=8, min_tokens=8, logit_bias={65: 5.0}, eos_token_ids=[*EOS_IDS]),
        SamplingParams(max_tokens=8, temperature=0.0, logprobs=2, prompt_logprobs=1),
    ]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    make_checkpoint("llama", path)
    return path


def answers(harness: Harness) -> list[Answer]:
    return harness.generate(PROMPTS, params())


def poison_worker(harness: Harness) -> list[str]:
    runner = harness.runner
    holders = (runner.table, runner.sampler, runner.inputs)
    runner.sampler.constraints._active[:] = True
    for column in runner.inputs.staging.device.values():
        column.fill_(POISON)
    return [name for holder in holders for name in poison(holder)]


def test_every_request_answers_as_in_a_fresh_worker(checkpoint: Path) -> None:
    harness = Harness(checkpoint, max_num_seqs=SLOTS, prefix_caching=False)
    fresh = answers(harness)
    with torch.inference_mode():
        names = poison_worker(harness)
    assert {"temperature", "bias", "counts", "last_token", "block_tables"} <= set(names)
    assert answers(harness) == fresh


def budgeted(number: int) -> SamplingParams:
    """Every second of them thinks, and has an end marker of its own: some end behind it, some in
    it, some before. As they are of different lengths, their slots change hands all the time."""
    length = 8 + number * 5 % 13
    plain = SamplingParams(temperature=0.0, max_tokens=length, ignore_eos=True)
    if number % 2:
        return plain
    budget = (number % 5, length - 1, length + 2)[number // 2 % 3]
    return replace(plain, thinking_token_budget=budget, reasoning_end_ids=marker(number))


def marker(number: int) -> list[int]:
    return [270 + number, 290 + number, 310]


def test_ghsa_fpch_3xrf_7q96_what_ends_the_reasoning_is_forced_in_no_other_row(
    checkpoint: Path,
) -> None:
    prompts = [PROMPTS[number % SLOTS] + [100 + number] for number in range(16)]
    given = [budgeted(number) for number in range(16)]
    together = Harness(checkpoint, max_num_seqs=SLOTS, prefix_caching=False)
    lone = Harness(checkpoint, max_num_seqs=SLOTS, prefix_caching=False)
    answers = together.generate(prompts, given)
    for number, answer in enumerate(answers):
        assert answer == lone.generate([prompts[number]], [given[number]])[0], number
        if (begin := given[number].thinking_token_budget) is not None:
            forced = answer.token_ids[begin : begin + 3]
            assert forced == marker(number)[: len(forced)]


def test_the_host_writes_every_field_again() -> None:
    row = NewRow(
        slot=2,
        prompt_len=3,
        num_computed=1,
        token_ids=pack([1, 2, 3]),
        block_ids=pack([0]),
        sampling=SamplingParams(max_tokens=4),
    )
    used, fresh = SlotTable(SLOTS), SlotTable(SLOTS)
    assert len(poison(used)) == len(fields(fresh))
    used.admit(row)
    fresh.admit(row)
    for name, value in fields(fresh).items():
        np.testing.assert_array_equal(getattr(used, name)[2], value[2], err_msg=name)


def test_the_scheduler_writes_every_field_again() -> None:
    used, fresh = Slots(LIMITS), Slots(LIMITS)
    names = set(poison(used)) - {"_vacant", "_start"}
    used._vacant[:], used._start[:] = fresh._vacant, fresh._start
    assert len(names) == 11
    for slots in (used, fresh):
        slots.occupy(request(), peer=1, num_computed=2, priority=3)
    for name in names:
        assert getattr(used, name)[0] == getattr(fresh, name)[0], name


def request() -> Request:
    submit = Submit(bytes(16), pack([1, 2, 3]), SamplingParams(max_tokens=4), arrival_time=0.0)
    return Request.of(b"frontend-0", submit, 0, LIMITS)
