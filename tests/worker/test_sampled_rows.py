"""Behind the last layer's attention only the tokens that sample go on, and it changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from engine_harness import Harness
from model_checkpoints import VOCAB, make_checkpoint
from torch import nn

from octavo.services.worker.batch_shape import BatchShape
from octavo.services.worker.cuda_graphs import StepGraphs
from octavo.services.worker.model_runner import ModelRunner
from octavo.services.worker.sampler import Hidden
from octavo.services.worker.slots import Rows
from octavo.shared.sampling import SamplingParams

SLOTS, BUDGET = 4, 24
LENGTHS = (60, 3, 17, 9)
"""The first takes two steps in which nothing samples; then chunks and decodes go together."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    make_checkpoint("llama", path)
    return path


def harness_of(path: Path) -> Harness:
    return Harness(path, budget=BUDGET, max_num_seqs=SLOTS, prefix_caching=False)


def run(harness: Harness, **changes: Any) -> list[list[int]]:
    """Ids of each; `changes` are of the third request's parameters."""
    prompts = [[(7 * at + 3 * length) % VOCAB for at in range(length)] for length in LENGTHS]
    params = [SamplingParams(temperature=0.0, max_tokens=12) for _ in prompts]
    params[2] = msgspec.structs.replace(params[2], **changes)
    return [answer.token_ids for answer in harness.generate(prompts, params)]


class Watch:
    """Rows of each step, and how many tokens came to the MLPs of its first and last layer."""

    def __init__(self, runner: ModelRunner) -> None:
        self.steps: list[Rows] = []
        self.first: list[int] = []
        self.last: list[int] = []
        self._forward = runner.forward
        runner.forward = self._watched  # type: ignore[method-assign]
        layers: Any = runner.model.layers  # type: ignore[attr-defined]
        layers[0].mlp.register_forward_pre_hook(self._counter(self.first))
        layers[-1].mlp.register_forward_pre_hook(self._counter(self.last))

    def _watched(self, rows: Rows) -> Hidden:
        self.steps.append(rows)
        self.first.append(0)
        self.last.append(0)
        return self._forward(rows)

    def _counter(self, counts: list[int]) -> Any:
        def count(module: nn.Module, args: tuple[torch.Tensor]) -> None:
            counts[-1] += len(args[0])

        return count


def test_only_tokens_that_sample_reach_the_last_mlp(checkpoint: Path) -> None:
    harness = harness_of(checkpoint)
    watch = Watch(harness.runner)
    run(harness)
    assert watch.first == [rows.total_tokens for rows in watch.steps]
    assert watch.last == [len(rows.samples) for rows in watch.steps]
    mixed = [rows for rows in watch.steps if 0 < len(rows.samples) < rows.total_tokens]
    assert any(len(rows.samples) > 1 for rows in mixed)
    assert watch.last[:2] == [0, 0]
    assert any(rows.decode_only for rows in watch.steps)


def test_all_tokens_do_where_a_prompt_s_log_probabilities_are_wanted(checkpoint: Path) -> None:
    harness = harness_of(checkpoint)
    watch = Watch(harness.runner)
    run(harness, prompt_logprobs=1)
    whole = [index for index, rows in enumerate(watch.steps) if rows.whole]
    assert sum(watch.last[index] for index in whole) >= LENGTHS[2]
    for index, rows in enumerate(watch.steps):
        assert watch.last[index] == (rows.total_tokens if rows.whole else len(rows.samples))
    assert run(harness_of(checkpoint)) == run(harness_of(checkpoint), prompt_logprobs=1)


def padded(runner: ModelRunner, rows: Rows) -> Hidden:
    """As a CUDA graph has it: room for any rows of up to 64 tokens."""
    runner.inputs.clear()
    shape = BatchShape.mixed_of(SLOTS, 64)
    batch = runner.inputs.stage(rows, runner.table, shape)
    assert batch.sampled is not None
    wanted = rows.query_start[1:][rows.samples] - 1
    assert batch.sampled.tolist() == [*wanted, *[0] * (SLOTS - len(wanted))]
    given = runner.model.forward(runner.inputs.input_ids[:64], batch)
    assert given.isfinite().all()
    return Hidden(given)


@pytest.mark.parametrize("as_graph", [False, True])
def test_logits_are_those_of_the_whole_pass(checkpoint: Path, as_graph: bool) -> None:
    harness = harness_of(checkpoint)
    runner = harness.runner
    forward, compared = runner.forward, []

    def both(rows: Rows) -> Hidden:
        k = len(rows.samples)
        whole = forward(replace(rows, whole=True))
        assert whole.every is not None
        assert len(whole.every) == rows.total_tokens
        narrow = padded(runner, rows) if as_graph else forward(rows)
        assert narrow.every is None
        ours, theirs = (runner.model.logits(one.samples[:k]) for one in (narrow, whole))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        compared.append(k)
        return narrow

    runner.forward = both  # type: ignore[method-assign]
    ids = run(harness)
    assert {0, 2, SLOTS} <= set(compared)
    assert ids == run(harness_of(checkpoint))


def rows_of(runner: ModelRunner, num_tokens: list[int], whole: bool) -> Rows:
    counts = torch.tensor(num_tokens, dtype=torch.int32)
    start = torch.cat([torch.zeros(1, dtype=torch.int32), counts.cumsum(0).int()])
    nothing = torch.zeros(len(counts), dtype=torch.int32).numpy()
    return Rows(
        slots=torch.arange(len(counts), dtype=torch.int32).numpy(),
        num_tokens=counts.numpy(),
        query_start=start.numpy(),
        computed=nothing,
        host_ids=torch.zeros(int(start[-1]), dtype=torch.int32).numpy(),
        samples=torch.arange(len(counts)).numpy(),
        positions=nothing,
        whole=whole,
    )


def test_graphs_narrow_where_it_saves_rows(checkpoint: Path) -> None:
    runner = Harness(checkpoint, budget=256, max_num_seqs=32).runner
    graphs = StepGraphs(runner.model, runner.inputs, 32, 256, False)

    def outputs(num_tokens: list[int], whole: bool = False) -> tuple[int, int] | None:
        shape = graphs.shape_for(rows_of(runner, num_tokens, whole), False)
        return None if shape is None else (shape.tokens, shape.outputs)

    assert outputs([1] * 7) == (8, 8)
    assert outputs([1, 14]) == (16, 16)
    assert outputs([1, 30]) == (32, 32)
    assert outputs([1, 50]) == (64, 32)
    assert outputs([1, 50], whole=True) is None
