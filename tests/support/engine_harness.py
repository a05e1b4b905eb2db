"""The real scheduler and the real model runner in one process, without sockets.

Two steps are kept in flight as in production: plan N+1 is made before result N is read.
"""

from __future__ import annotations

import collections
import queue
import re
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from octavo.services.scheduler.limits import Limits
from octavo.services.scheduler.scheduler import Scheduler
from octavo.services.worker.constraints.grammars import Grammars
from octavo.services.worker.constraints.patience import Patience
from octavo.services.worker.kv_cache import KVSpec
from octavo.services.worker.model_config import ModelConfig
from octavo.services.worker.model_runner import ModelRunner
from octavo.services.worker.parallel import Parallel
from octavo.services.worker.results import Copying, finish, to_host
from octavo.services.worker.weights import load_model
from octavo.shared.config import EngineConfig
from octavo.shared.grammar.helper import HelperConfig
from octavo.shared.messages import (
    REQUEST_ID_BYTES,
    Logprobs,
    Outputs,
    Submit,
    pack,
    unpack,
    unpack_floats,
)
from octavo.shared.sampling import SamplingParams
from octavo.shared.steps import (
    DropGrammar,
    GrammarReady,
    NewRow,
    PrepareGrammar,
    StepPlan,
    StepResult,
)

PEER = b"frontend-0"
EOS_IDS = (257,)
"""As `model_checkpoints` has it."""


@dataclass
class Answer:
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[list[tuple[int, float]]] = field(default_factory=list)
    """(id, logprob) of each output: its own, then the most likely."""
    prompt_logprobs: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    """The same by prompt position."""
    cached_tokens: int = 0
    reason: str | None = None
    error: str | None = None


class Harness:
    """`num_blocks` small enough forces preemption; `budget` small enough forces chunks."""

    def __init__(
        self,
        path: Path,
        *,
        num_blocks: int = 512,
        budget: int = 512,
        max_num_seqs: int = 32,
        max_model_len: int = 256,
        block_size: int = 16,
        prefix_caching: bool = True,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        graphs: bool = False,
        parallel: Parallel | None = None,
        patience: Patience | None = None,
    ) -> None:
        config = ModelConfig.load(path)
        self.num_blocks, self.block_size = num_blocks, block_size
        where = torch.device("cuda", 0) if device == "cuda" else torch.device(device)
        engine = EngineConfig(
            model=str(path),
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=budget,
            block_size=block_size,  # type: ignore[arg-type]
        )
        parallel = parallel or Parallel.single()
        helper = HelperConfig(
            tokenizer=str(path), vocab_size=config.vocab_size, eos_token_ids=list(EOS_IDS)
        )
        self.reports: queue.SimpleQueue[GrammarReady] = queue.SimpleQueue()
        grammars = Grammars(helper, report=self.reports.put)
        with torch.inference_mode():
            model = load_model(
                config, path, parallel, where, dtype, "auto", 0, max_model_len, lambda *_: None
            )
            self.runner = ModelRunner(
                engine, model, config.vocab_size, where, grammars, patience=patience
            )
            spec = KVSpec(model.num_layers, model.num_kv_heads, model.head_dim, block_size, dtype)
            self.runner.bind(spec.allocate(num_blocks, where))
            if graphs:
                self.runner.capture(lambda *_: None)
        self.scheduler = Scheduler(
            Limits(
                num_blocks=num_blocks,
                block_size=block_size,
                max_model_len=max_model_len,
                max_num_seqs=max_num_seqs,
                max_num_batched_tokens=budget,
                vocab_size=config.vocab_size,
                prefix_caching=prefix_caching,
            )
        )

    def forward(self, prompt: list[int]) -> torch.Tensor:
        """Logits float32 [len, vocab] of one pass over a block table in descending order."""
        blocks = np.arange(self.num_blocks)[::-1][: -(-len(prompt) // self.block_size)]
        row = NewRow(
            slot=0,
            prompt_len=len(prompt),
            num_computed=0,
            token_ids=pack(prompt),
            block_ids=pack(blocks),
            sampling=SamplingParams(prompt_logprobs=0),  # so that no token is left out
        )
        plan = StepPlan(step=0, new_rows=[row], slots=pack([0]), num_tokens=pack([len(prompt)]))
        with torch.inference_mode():
            self.runner.inputs.append_blocks(plan)
            self.runner.table.admit(row)
            hidden = self.runner.forward(self.runner.table.resolve(plan)).every
            assert hidden is not None
            return self.runner.model.logits(hidden[: len(prompt)])

    def num_preemptions(self) -> int:
        found = re.search(
            rb"^vllm:num_preemptions_total\S* (\S+)$", self.scheduler.metrics_text(), re.M
        )
        if found is None:
            raise RuntimeError("no such metric")
        return int(float(found[1]))

    def generate(self, prompts: list[list[int]], params: list[SamplingParams]) -> list[Answer]:
        """Submit everything at once and run until all are over, answers in order."""
        answers: dict[bytes, Answer] = {}
        for prompt, sampling in zip(prompts, params, strict=True):
            request_id = secrets.token_bytes(REQUEST_ID_BYTES)
            answers[request_id] = Answer()
            submit = Submit(
                request_id=request_id,
                prompt_ids=pack(prompt),
                sampling=sampling,
                arrival_time=float(len(answers)),
            )
            self.scheduler.add(PEER, submit)
        self._run(answers)
        return list(answers.values())

    def _run(self, answers: dict[bytes, Answer]) -> None:
        flights: collections.deque[StepResult] = collections.deque()
        with torch.inference_mode():
            while True:
                self._carry_out(self.scheduler.take_orders())
                while len(flights) < 2 and (plan := self.scheduler.schedule()) is not None:
                    launched = self.runner.execute(plan)
                    launched = replace(launched, sampled=to_host(launched.sampled))
                    flights.append(finish(Copying(launched, self._event())))
                collect(self.scheduler.take_outputs(), answers)
                if not flights:
                    return
                collect(self.scheduler.update(flights.popleft()), answers)

    def _carry_out(self, orders: list[PrepareGrammar | DropGrammar]) -> None:
        for order in orders:
            if isinstance(order, DropGrammar):
                self.runner.grammars.drop(order)
            else:
                self.runner.grammars.prepare(order)
                self.scheduler.on_grammar(self.reports.get(timeout=60))

    def _event(self) -> torch.cuda.Event | None:
        if self.runner.device.type != "cuda":
            return None
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return event


def collect(outputs: list[tuple[bytes, Outputs]], answers: dict[bytes, Answer]) -> None:
    for _, message in outputs:
        for start in message.started:
            answers[start.request_id].cached_tokens = start.cached_tokens
        for index, token_id in enumerate(unpack(message.token_ids)):
            at = index * REQUEST_ID_BYTES
            answer = answers[message.request_ids[at : at + REQUEST_ID_BYTES]]
            answer.token_ids.append(int(token_id))
        for index, entry in zip(unpack(message.logprob_rows), table(message.logprobs), strict=True):
            at = int(index) * REQUEST_ID_BYTES
            answers[message.request_ids[at : at + REQUEST_ID_BYTES]].logprobs.append(entry)
        for part in message.prompt_logprobs:
            positions = enumerate(table(part.values), start=part.start)
            answers[part.request_id].prompt_logprobs.update(positions)
        for end in message.finished:
            answers[end.request_id].reason = end.reason
            answers[end.request_id].error = end.error


def table(values: Logprobs | None) -> list[list[tuple[int, float]]]:
    if values is None:
        return []
    ids = unpack(values.token_ids).reshape(-1, values.width).tolist()
    logprobs = unpack_floats(values.logprobs).reshape(-1, values.width).tolist()
    return [list(zip(*pair, strict=True)) for pair in zip(ids, logprobs, strict=True)]
