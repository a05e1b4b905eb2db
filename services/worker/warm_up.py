"""Run the largest step and every sampling path once: memory's peak shows, kernels get compiled."""

from __future__ import annotations

import numpy as np

from octavo.services.worker.batch_shape import BatchShape
from octavo.services.worker.causal_lm import CausalLM
from octavo.services.worker.cuda_graphs import bucket_sizes
from octavo.services.worker.inputs import StepInputs
from octavo.services.worker.model_runner import ModelRunner
from octavo.services.worker.models.pooled_decoder import PooledDecoder
from octavo.shared.messages import pack
from octavo.shared.sampling import SamplingParams
from octavo.shared.steps import NewRow, StepPlan

Decoder = CausalLM | PooledDecoder
VARIANTS = (
    SamplingParams(temperature=0.0),
    SamplingParams(seed=1),
    SamplingParams(seed=1, top_p=0.9),
    SamplingParams(seed=1, allowed_token_ids=[0]),
    SamplingParams(temperature=0.0, allowed_token_ids=[0]),
    SamplingParams(
        seed=1,
        top_k=5,
        top_p=0.9,
        min_p=0.01,
        presence_penalty=0.1,
        logprobs=1,
        allowed_token_ids=[0],
    ),
    SamplingParams(prompt_logprobs=1),
)


def warm_up(runner: ModelRunner) -> None:
    """Needs a KV cache of one block: every block table points at block 0.

    On the CPU nothing is compiled and nothing is measured: one small step is enough there.
    """
    if runner.device.type == "cuda":
        full = _even_rows(runner)
        for params in VARIANTS[:-1]:
            runner.execute(_plan(full, params))
        longest = min(runner.inputs.input_ids.shape[0], runner.max_len)
        for length in (longest, min(2, longest)):  # attention has tiles for both
            runner.execute(_plan(np.array([length]), VARIANTS[-1]))
    runner.execute(_plan(np.ones(1, np.int32), VARIANTS[-2]))
    runner.inputs.last_token.zero_()


def warm_up_decodes(model: Decoder, inputs: StepInputs) -> None:
    """Compile what batches of single tokens need, however many, where no graph capture does it."""
    for size in bucket_sizes(len(inputs.seq_lens)):
        batch = inputs.batch(BatchShape.decode_of(size))
        inputs.plan(batch)
        model.forward(inputs.input_ids[:size], batch)


def _even_rows(runner: ModelRunner) -> np.ndarray:
    """Token counts of as many rows as there are slots, which together fill the budget."""
    slots, tokens = len(runner.table.known), runner.inputs.input_ids.shape[0]
    counts = np.full(slots, tokens // slots)
    counts[: tokens % slots] += 1
    return counts.clip(max=runner.max_len)


def _plan(num_tokens: np.ndarray, params: SamplingParams) -> StepPlan:
    new_rows = [
        NewRow(
            slot=slot,
            prompt_len=int(count),
            num_computed=0,
            token_ids=pack(np.zeros(count, np.int32)),
            block_ids=b"",
            sampling=params,
        )
        for slot, count in enumerate(num_tokens)
    ]
    return StepPlan(
        step=0,
        new_rows=new_rows,
        slots=pack(np.arange(len(num_tokens))),
        num_tokens=pack(num_tokens),
    )
