"""Run the largest step and every sampling path once: memory's peak shows, kernels get compiled."""

from __future__ import annotations

import numpy as np

from octavo.services.worker.model_runner import ModelRunner
from octavo.shared.messages import NewRow, StepPlan, pack
from octavo.shared.sampling import SamplingParams

VARIANTS = (
    SamplingParams(temperature=0.0),
    SamplingParams(seed=1),
    SamplingParams(seed=1, top_k=5, top_p=0.9, min_p=0.01, presence_penalty=0.1, logprobs=1),
)


def warm_up(runner: ModelRunner) -> None:
    """Needs a KV cache of one block: every block table points at block 0.

    On the CPU nothing is compiled and nothing is measured: one small step is enough there.
    """
    slots, tokens = len(runner.table.known), runner.inputs.input_ids.shape[0]
    context = runner.inputs.block_tables.shape[1] * runner.inputs.block_size
    if runner.device.type == "cuda":
        full = np.full(slots, min(tokens // slots, context), np.int32)
        for params in VARIANTS:
            runner.execute(_plan(full, params))
    runner.execute(_plan(np.ones(1, np.int32), VARIANTS[-1]))
    runner.inputs.last_token.zero_()


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
