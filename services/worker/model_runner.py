"""ModelRunner: a plan becomes a batch, the batch a forward pass, its logits ids.

`execute` only enqueues work: nothing in it waits for the device, so the next plan can be taken
while this one runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from octavo.kernels import ops
from octavo.kernels.prefix_plan import PrefixGroup
from octavo.services.worker.admission import admit_each
from octavo.services.worker.batch_shape import BatchShape
from octavo.services.worker.causal_lm import CausalLM, KVPair
from octavo.services.worker.constraints.grammars import Grammars
from octavo.services.worker.constraints.patience import Patience
from octavo.services.worker.cuda_graphs import Progress, StepGraphs
from octavo.services.worker.inputs import StepInputs
from octavo.services.worker.pooling.vectors import Pooled
from octavo.services.worker.sampler import Hidden, Sampled, Sampler
from octavo.services.worker.shared_prefixes import SharedPrefixes
from octavo.services.worker.slots import Rows, SlotTable
from octavo.shared.config import EngineConfig
from octavo.shared.laps import Laps
from octavo.shared.messages import pack
from octavo.shared.steps import NewRow, RowsRefused, StepPlan


@dataclass(frozen=True)
class Launched:
    """A step on its way."""

    step: int
    rows: Rows
    sampled: Sampled
    started: float
    pooled: Pooled | None = None
    """On a server that pools."""
    graph: bool = False
    """Its forward pass is a captured graph."""
    spent: dict[str, float] = field(default_factory=dict)
    """As in StepResult."""


class ModelRunner:
    def __init__(
        self,
        config: EngineConfig,
        model: CausalLM,
        vocab_size: int,
        device: torch.device,
        grammars: Grammars,
        refused: Callable[[RowsRefused], None] | None = None,
        patience: Patience | None = None,
    ) -> None:
        """`refused` is told of broken rows, on ranks that have no results to say it."""
        slots, tokens = config.max_num_seqs or 1, config.max_num_batched_tokens or 1
        block_size, max_len = config.block_size or 16, config.max_model_len or 1
        self.model = model
        self.device = device
        self.grammars = grammars
        self._refused = refused
        self.table = SlotTable(slots)
        max_tokens = max(slots, tokens)
        work = ops.make_work_lists(
            slots,
            max_tokens,
            model.num_heads,
            model.num_kv_heads,
            model.head_dim,
            model.dtype,
            device,
        )
        self.inputs = StepInputs(
            slots, max_tokens, -(-max_len // block_size), block_size, work, device
        )
        self.sampler = Sampler(
            model,
            self.table,
            self.inputs,
            vocab_size,
            grammars.matcher,
            patience or Patience(ends=False),
        )
        self.graphs: StepGraphs | None = None
        self.prefixes: SharedPrefixes | None = None
        if device.type == "cuda" and not model.has_window and not config.deterministic:
            self.prefixes = SharedPrefixes(slots, block_size)
        self.max_len = max_len
        self._laps = Laps()
        """Of the step being made."""

    def bind(self, caches: list[KVPair]) -> None:
        self.model.bind_kv_cache(caches)

    def capture(self, progress: Progress) -> None:
        """Turn decode steps and small mixed ones into CUDA graphs from now on."""
        slots, tokens = len(self.table.known), len(self.inputs.input_ids)
        shares = self.prefixes is not None
        graphs = StepGraphs(self.model, self.inputs, slots, tokens, shares)
        graphs.capture(progress)
        self.graphs = graphs

    def execute(self, plan: StepPlan) -> Launched:
        """Enqueue one step."""
        started, self._laps = time.monotonic(), Laps()
        self.inputs.append_blocks(plan)
        broken = admit_each(plan.new_rows, self._admit, self.table)
        if broken and self._refused is not None:
            self._refused(RowsRefused(plan.step, pack(broken)))
        rows = self.table.resolve(plan)
        hidden = self.forward(rows)
        self._laps.end("forward")
        sampled = self.sampler.sample(hidden, rows)
        self._laps.end("sample")
        spent = self._laps.seconds
        return Launched(plan.step, rows, sampled, started, graph=hidden.captured, spent=spent)

    def _admit(self, row: NewRow) -> None:
        self.table.admit(row)
        self.sampler.admit(row)
        if self.prefixes is not None:
            self.prefixes.admit(row)

    def forward(self, rows: Rows) -> Hidden:
        groups = self._groups(rows)
        captured = None
        if self.graphs is not None:
            captured = self.graphs.shape_for(rows, bool(groups))
        shape = captured or BatchShape.of(rows, bool(groups))
        batch = self.inputs.stage(rows, self.table, shape, groups)
        self._laps.end("prepare")
        if self.graphs is not None and captured is not None:
            given = self.graphs.replay(captured)
        else:
            given = self.model.forward(self.inputs.input_ids[: shape.tokens], batch)
        if shape.narrows:
            return Hidden(given, captured=captured is not None)
        every = given if rows.whole else None
        return Hidden(self.inputs.of_samples(given, rows), every, captured is not None)

    def _groups(self, rows: Rows) -> list[PrefixGroup]:
        """Rows of a decode batch that attend together to what they share."""
        if self.prefixes is None or not rows.decode_only:
            return []
        return self.prefixes.groups(rows)
