"""Where hidden states come from: a decoder over its paged cache, or an encoder in one go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from octavo.kernels import ops
from octavo.services.worker.batch_shape import BatchShape
from octavo.services.worker.inputs import StepInputs
from octavo.services.worker.models.bert import BertEncoder
from octavo.services.worker.models.pooled_decoder import PooledDecoder
from octavo.services.worker.pooling.ragged import on, ragged_batch
from octavo.services.worker.sampler import Hidden
from octavo.services.worker.slots import Rows, SlotTable
from octavo.services.worker.warm_up import warm_up_decodes
from octavo.shared.config import EngineConfig
from octavo.shared.steps import StepPlan


class DecoderStates:
    """`every`: the hidden states of all tokens are wanted, not only of those that end a prompt."""

    def __init__(
        self, config: EngineConfig, model: PooledDecoder, every: bool, device: torch.device
    ) -> None:
        slots = config.max_num_seqs or 1
        tokens = max(slots, config.max_num_batched_tokens or 1)
        block_size = config.block_size or 16
        blocks = -(-(config.max_model_len or 1) // block_size)
        heads = (model.num_heads, model.num_kv_heads, model.head_dim, model.dtype)
        work = ops.make_work_lists(slots, tokens, *heads, device)
        self._inputs = StepInputs(slots, tokens, blocks, block_size, work, device)
        self._model, self._every = model, every

    def compute(self, plan: StepPlan, rows: Rows, table: SlotTable) -> Hidden:
        self._inputs.append_blocks(plan)
        rows = replace(rows, whole=self._every)
        shape = BatchShape.of(rows)
        batch = self._inputs.stage(rows, table, shape)
        given = self._model(self._inputs.input_ids[: shape.tokens], batch)
        if shape.narrows:
            return Hidden(given)
        return Hidden(self._inputs.of_samples(given, rows), given)

    def warm_up(self) -> None:
        """Prompts of one token, and chunks, in any number."""
        warm_up_decodes(self._model, self._inputs)


class EncoderStates:
    """Every row of a plan is a whole prompt."""

    def warm_up(self) -> None:
        """Nothing is compiled for an encoder."""

    def __init__(self, slots: int, model: BertEncoder, device: torch.device) -> None:
        self._model, self._device = model, device
        self._second_starts = np.zeros(slots, np.int64)

    def compute(self, plan: StepPlan, rows: Rows, table: SlotTable) -> Hidden:
        for row in plan.new_rows:
            self._second_starts[row.slot] = row.pooling.second_start if row.pooling else 0
        batch = ragged_batch(
            rows.host_ids,
            rows.num_tokens.astype(np.int64),
            self._second_starts[rows.slots],
            self._device,
        )
        hidden = self._model(batch)
        last = rows.query_start[1:][rows.samples].astype(np.int64) - 1
        return Hidden(hidden.index_select(0, on(last, self._device)), hidden)
