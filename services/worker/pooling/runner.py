"""PoolingRunner: ModelRunner's place on a server that pools: a plan becomes a batch, the batch
hidden states, and those of the prompts that end in it vectors. Nothing is sampled.

Like there, nothing waits for the device.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from octavo.services.worker.admission import admit_each
from octavo.services.worker.causal_lm import KVPair
from octavo.services.worker.constraints.grammars import Grammars
from octavo.services.worker.cuda_graphs import Progress
from octavo.services.worker.model_runner import Launched
from octavo.services.worker.pooling.poolers import POOLERS, PoolerLike
from octavo.services.worker.pooling.states import DecoderStates, EncoderStates
from octavo.services.worker.pooling.vectors import Pooled
from octavo.services.worker.sampler import Sampled
from octavo.services.worker.slots import SlotTable
from octavo.shared.config import EngineConfig
from octavo.shared.laps import Laps
from octavo.shared.messages import pack
from octavo.shared.pooling import PoolingInfo, PoolingParams
from octavo.shared.sampling import SamplingParams
from octavo.shared.steps import NewRow, StepPlan


class PoolingRunner:
    def __init__(
        self,
        config: EngineConfig,
        model: Any,
        info: PoolingInfo,
        device: torch.device,
        grammars: Grammars,
    ) -> None:
        """`model`: a PooledDecoder, or a BertEncoder where `info` says encoder."""
        slots = config.max_num_seqs or 1
        self.model, self.device, self.grammars = model, device, grammars
        self._info = info
        self._table = SlotTable(slots)
        self._params = [PoolingParams()] * slots
        self._pooler: PoolerLike = POOLERS[info.pooler](slots, model.hidden_size, device)
        self._states: DecoderStates | EncoderStates
        if info.encoder:
            self._states = EncoderStates(slots, model, device)
        else:
            self._states = DecoderStates(config, model, self._pooler.needs_every, device)
        self._budget = config.max_num_batched_tokens or 1
        self._longest = min(self._budget, config.max_model_len or 1)

    def bind(self, caches: list[KVPair]) -> None:
        self.model.bind_kv_cache(caches)

    def capture(self, progress: Progress) -> None:
        """Prompts are long: no step is worth a CUDA graph."""

    def execute(self, plan: StepPlan) -> Launched:
        """Enqueue one step."""
        started, laps = time.monotonic(), Laps()
        admit_each(plan.new_rows, self._admit, self._table)
        rows = self._table.resolve(plan)
        laps.end("prepare")
        hidden = self._states.compute(plan, rows, self._table)
        laps.end("forward")
        pooled = self._pooler.pool(hidden, rows)
        params = [self._params[slot] for slot in rows.sample_slots]
        vectors = Pooled(self.model.vectors(pooled), params, self._info)
        laps.end("sample")
        return Launched(plan.step, rows, Sampled(), started, vectors, spent=laps.seconds)

    def _admit(self, row: NewRow) -> None:
        self._table.admit(row)
        self._params[row.slot] = row.pooling or PoolingParams()

    def warm_up(self) -> None:
        """The largest steps, of few long and of many short prompts; on the CPU a small one."""
        slots = len(self._params)
        each = max(min(self._budget // slots, self._longest), 1)
        if self.device.type == "cuda":
            long = [self._longest] * max(min(self._budget // self._longest, slots), 1)
            for lengths in (long, [each] * min(slots, self._budget)):
                self.execute(_plan(lengths))
            self._states.warm_up()
        self.execute(_plan([min(2, self._longest)]))


def _plan(lengths: list[int]) -> StepPlan:
    rows = [
        NewRow(
            slot=slot,
            prompt_len=length,
            num_computed=0,
            token_ids=pack(np.zeros(length, np.int32)),
            block_ids=b"",
            sampling=SamplingParams(max_tokens=1),
            pooling=PoolingParams(),
        )
        for slot, length in enumerate(lengths)
    ]
    slots, counts = pack(np.arange(len(lengths))), pack(lengths)
    return StepPlan(step=0, new_rows=rows, slots=slots, num_tokens=counts)
