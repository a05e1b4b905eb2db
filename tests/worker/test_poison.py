"""Numbers that are none, wherever they come from, end their request and nobody else's."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_harness import Answer, Harness
from model_checkpoints import VOCAB, make_checkpoint

from octavo.services.worker.sampler import Hidden
from octavo.services.worker.slots import Rows
from octavo.shared.sampling import SamplingParams

LENGTHS = (20, 40, 7)
PROMPTS = [[(11 * at + 7 * length) % VOCAB for at in range(length)] for length in LENGTHS]
VICTIM = 1
PARAMS = [
    SamplingParams(temperature=temperature, max_tokens=8, seed=3) for temperature in (0.0, 1.0, 1.0)
]
NAN = float("nan")
Make = Callable[..., Harness]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    make_checkpoint("llama", path)
    return path


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def make(checkpoint: Path, request: pytest.FixtureRequest) -> Make:
    """Chunks of prompts and decodes go together, and blocks are soon used again."""
    options: dict[str, Any] = {"device": request.param, "graphs": request.param == "cuda"}
    return functools.partial(Harness, checkpoint, budget=24, num_blocks=12, **options)


@pytest.fixture(scope="module")
def clean(make: Make) -> list[Answer]:
    return make().generate(PROMPTS, PARAMS)


class Poison:
    """Spoils the victim's numbers in each step, at one place, once it has `computed` tokens."""

    def __init__(self, harness: Harness, place: str, computed: int) -> None:
        self._runner: Any = harness.runner
        self._place, self._computed = place, computed
        self._forward, self._logits = self._runner.forward, self._runner.model.logits
        self._ill: list[int] = []
        self._install(self._poisoned, self._poisoned_logits)

    def cure(self) -> None:
        self._install(self._forward, self._logits)

    def _install(self, forward: Any, logits: Any) -> None:
        self._runner.forward, self._runner.model.logits = forward, logits

    def _poisoned(self, rows: Rows) -> Hidden:
        table = self._runner.table
        self._ill = [
            row
            for row, slot in enumerate(rows.slots.tolist())
            if table.prompt_len[slot] == LENGTHS[VICTIM] and rows.computed[row] >= self._computed
        ]
        for row in self._ill:
            self._spoil_cache(int(rows.slots[row]))
        hidden: Hidden = self._forward(rows)
        self._ill = [index for index, row in enumerate(rows.samples) if row in self._ill]
        if self._place == "hidden":
            hidden.samples[self._ill] = NAN
        return hidden

    def _spoil_cache(self, slot: int) -> None:
        block = int(self._runner.inputs.block_tables[slot, 0])
        for layer in self._runner.model.layers:
            if self._place in ("keys", "values"):
                cache = (
                    layer.attention.k_cache if self._place == "keys" else layer.attention.v_cache
                )
                cache[block, :, 3] = NAN

    def _poisoned_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._logits(hidden)
        for row in self._ill:
            if self._place == "+inf":
                logits[row, 5] = math.inf
            elif self._place == "-inf":
                logits[row] = -math.inf
        return logits


PLACES = [
    *[(place, LENGTHS[VICTIM] + 3) for place in ("hidden", "keys", "values", "+inf", "-inf")],
    ("+inf", 0),
    ("values", 16),  # while its prompt comes in chunks
]


@pytest.mark.parametrize(("place", "computed"), PLACES)
def test_only_the_poisoned_row_ends(
    make: Make, clean: list[Answer], place: str, computed: int
) -> None:
    """Its blocks are not found again, and whoever is given them next notices nothing."""
    harness = make()
    poison = Poison(harness, place, computed)
    hurt = harness.generate(PROMPTS, PARAMS)
    poison.cure()
    assert hurt[VICTIM].error == "numerical_error"
    said = hurt[VICTIM].token_ids
    assert len(said) == max(computed - LENGTHS[VICTIM] + 1, 0)
    assert said == clean[VICTIM].token_ids[: len(said)]
    assert others(hurt) == others(clean)
    again = harness.generate(PROMPTS, PARAMS)
    assert again[VICTIM].cached_tokens == 0
    assert [answer.token_ids for answer in again] == [answer.token_ids for answer in clean]


def others(answers: list[Answer]) -> list[list[int]]:
    return [answer.token_ids for row, answer in enumerate(answers) if row != VICTIM]


@pytest.mark.parametrize("value", [NAN, math.inf])
def test_log_probabilities_of_a_prompt_that_are_no_numbers(
    make: Make, clean: list[Answer], value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its first chunk, before it samples; none of them is told."""
    harness = make()
    runner: Any = harness.runner
    forward: Callable[[Rows], Hidden] = runner.forward
    params = list(PARAMS)
    params[VICTIM] = SamplingParams(temperature=0.0, max_tokens=8, prompt_logprobs=1)

    def poisoned(rows: Rows) -> Hidden:
        hidden = forward(rows)
        for row, slot in enumerate(rows.slots.tolist()):
            if runner.table.num_prompt_logprobs[slot] >= 0 and hidden.every is not None:
                hidden.every[int(rows.query_start[row])] = value
        return hidden

    monkeypatch.setattr(runner, "forward", poisoned)
    hurt = harness.generate(PROMPTS, params)
    assert hurt[VICTIM].error == "numerical_error"
    assert not hurt[VICTIM].prompt_logprobs and not hurt[VICTIM].token_ids
    assert others(hurt) == others(clean)
