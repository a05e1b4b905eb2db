"""Our answers: the worker's own runner, set up as a server's would be, in this process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from octavo.kernels import invariance
from octavo.services.worker.constraints.grammars import Grammars
from octavo.services.worker.kv_cache import KVSpec
from octavo.services.worker.model_config import ModelConfig
from octavo.services.worker.model_runner import ModelRunner
from octavo.services.worker.parallel import Parallel
from octavo.services.worker.weights import load_model
from octavo.shared.config import EngineConfig, ModelInfo
from octavo.shared.grammar.helper import HelperConfig
from octavo.shared.messages import pack
from octavo.shared.sampling import SamplingParams
from octavo.shared.steps import NewRow, StepPlan

GREEDY = SamplingParams(temperature=0.0)
EVERY_TOKEN = SamplingParams(temperature=0.0, prompt_logprobs=0)
"""So that the forward pass leaves out none."""


class Ours:
    """Rows have slots and blocks of their own; a row is a prompt."""

    def __init__(
        self,
        engine: EngineConfig,
        info: ModelInfo,
        rows: int,
        longest: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        if engine.deterministic:
            invariance.switch_on()
        config = ModelConfig.load(engine.model)
        self._block_size = engine.block_size or 16
        self._blocks = -(-longest // self._block_size)
        with torch.inference_mode():
            self._runner = _runner(engine, config, info, dtype, device)
            model = self._runner.model
            spec = KVSpec(
                model.num_layers, model.num_kv_heads, model.head_dim, self._block_size, dtype
            )
            self._runner.bind(spec.allocate(rows * self._blocks, device))
            if device.type == "cuda" and not engine.enforce_eager:
                self._runner.capture(lambda *_: None)

    def logits(self, ids: list[int]) -> torch.Tensor:
        """float32 [len, vocab] on the CPU, of one pass over all tokens."""
        row = self._row(0, ids, EVERY_TOKEN)
        plan = StepPlan(step=0, new_rows=[row], slots=pack([0]), num_tokens=pack([len(ids)]))
        with torch.inference_mode():
            self._runner.inputs.append_blocks(plan)
            self._runner.table.admit(row)
            hidden = self._runner.forward(self._runner.table.resolve(plan)).every
            if hidden is None:
                raise RuntimeError("the pass left tokens out")
            return self._runner.model.logits(hidden[: len(ids)]).float().cpu()

    def continuations(self, prompts: Sequence[list[int]], count: int) -> list[list[int]]:
        """`count` greedy tokens of each: prompts one after the other, then all decode together."""
        found: list[list[int]] = []
        with torch.inference_mode():
            for slot, prompt in enumerate(prompts):
                row = self._row(slot, prompt, GREEDY)
                found.append(self._step([slot], [len(prompt)], [row]))
            for _ in range(count - 1):
                slots = list(range(len(prompts)))
                for ids, token_id in zip(found, self._step(slots, [1] * len(slots)), strict=True):
                    ids.append(token_id)
        return found

    def _step(
        self, slots: list[int], num_tokens: list[int], new_rows: Sequence[NewRow] = ()
    ) -> list[int]:
        plan = StepPlan(
            step=0, new_rows=list(new_rows), slots=pack(slots), num_tokens=pack(num_tokens)
        )
        ids = self._runner.execute(plan).sampled.ids
        if ids is None:
            raise RuntimeError("nothing was sampled")
        return [int(token_id) for token_id in ids.tolist()]

    def _row(self, slot: int, ids: list[int], sampling: SamplingParams) -> NewRow:
        first = slot * self._blocks
        return NewRow(
            slot=slot,
            prompt_len=len(ids),
            num_computed=0,
            token_ids=pack(ids),
            block_ids=pack(np.arange(first, first + self._blocks)),
            sampling=sampling,
        )


def _runner(
    engine: EngineConfig,
    config: ModelConfig,
    info: ModelInfo,
    dtype: torch.dtype,
    device: torch.device,
) -> ModelRunner:
    model = load_model(
        config,
        engine.model,
        Parallel.single(),
        device,
        dtype,
        engine.load_format,
        engine.seed,
        engine.max_model_len or config.max_position_embeddings,
        lambda *_: None,
    )
    helper = HelperConfig.of(engine, info)
    grammars = Grammars(helper, report=lambda ready: None)
    return ModelRunner(engine, model, info.vocab_size, device, grammars)
