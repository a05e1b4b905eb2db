"""The real scheduler and the real pooling runner in one process, two steps in flight."""

from __future__ import annotations

import collections
import itertools
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch

from octavo.services.scheduler.limits import Limits
from octavo.services.scheduler.scheduler import Scheduler
from octavo.services.supervisor.model_info import read_model_file
from octavo.services.supervisor.pooling_info import pooling_info
from octavo.services.worker.constraints.grammars import Grammars
from octavo.services.worker.encoder_config import load_config
from octavo.services.worker.kv_cache import KVSpec
from octavo.services.worker.parallel import Parallel
from octavo.services.worker.pooling.runner import PoolingRunner
from octavo.services.worker.results import Copying, finish, on_host
from octavo.services.worker.weights import load_model
from octavo.shared.config import EngineConfig
from octavo.shared.grammar.helper import HelperConfig
from octavo.shared.messages import Floats, Outputs, Submit, pack, unpack_floats
from octavo.shared.pooling import PoolingParams
from octavo.shared.sampling import SamplingParams
from octavo.shared.steps import StepResult

PEER = b"frontend-0"


@dataclass
class Answer:
    vector: Floats | None = None
    reason: str | None = None
    error: str | None = None


class PoolingHarness:
    """`num_blocks` small enough forces preemption; `budget` small enough forces chunks."""

    def __init__(
        self,
        path: Path,
        *,
        num_blocks: int = 512,
        budget: int = 512,
        max_num_seqs: int = 32,
        max_model_len: int = 128,
        block_size: int = 16,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        convert: str = "auto",
    ) -> None:
        where = torch.device("cuda", 0) if device == "cuda" else torch.device(device)
        engine = EngineConfig(
            model=str(path),
            runner="pooling",
            convert=convert,  # type: ignore[arg-type]
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=budget,
            block_size=block_size,  # type: ignore[arg-type]
        )
        info = pooling_info(path, read_model_file(path), engine)
        assert info is not None
        self.info = info
        config = load_config(str(path), info)
        helper = HelperConfig(tokenizer=str(path), vocab_size=config.vocab_size, eos_token_ids=[])
        with torch.inference_mode():
            model = load_model(
                config, path, Parallel.single(), where, dtype, "auto", 0, max_model_len,
                lambda *_: None,
            )  # fmt: skip
            grammars = Grammars(helper, report=lambda _: None)
            self.runner = PoolingRunner(engine, model, info, where, grammars)
            layers = 0 if info.encoder else config.num_layers
            spec = KVSpec(layers, config.num_kv_heads, config.head_dim, block_size, dtype)
            self.runner.bind(spec.allocate(num_blocks, where))
            self.runner.warm_up()
        self.scheduler = Scheduler(
            Limits(
                num_blocks=num_blocks,
                block_size=block_size,
                max_model_len=max_model_len,
                max_num_seqs=max_num_seqs,
                max_num_batched_tokens=budget,
                vocab_size=config.vocab_size,
                prefix_caching=False,
                pooling=True,
                whole_prompts=info.encoder,
            )
        )
        self.max_in_step = 0

    def pool(
        self,
        prompts: list[list[int]],
        params: list[PoolingParams] | None = None,
        num_late: int = 0,
    ) -> list[Answer]:
        """Submit everything at once and run until all are over, answers in order.

        The last `num_late` come when the first steps have run, and go first.
        """
        wanted = params or [PoolingParams()] * len(prompts)
        answers = {number.to_bytes(16, "big"): Answer() for number in range(len(prompts))}
        submits = [
            Submit(
                request_id=request_id,
                prompt_ids=pack(prompt),
                sampling=SamplingParams(max_tokens=1),
                arrival_time=float(int.from_bytes(request_id, "big")),
                pooling=asked,
            )
            for request_id, prompt, asked in zip(answers, prompts, wanted, strict=True)
        ]
        soon = len(submits) - num_late
        for submit in submits[:soon]:
            self.scheduler.add(PEER, submit)
        self._run(answers, max_steps=2 if num_late else None)
        for submit in submits[soon:]:
            self.scheduler.add(PEER, msgspec.structs.replace(submit, priority=-1))
        self._run(answers)
        return list(answers.values())

    def vectors(self, prompts: list[list[int]], params: PoolingParams | None = None) -> Floats:
        """float32[n, d]; every request must have got its vector."""
        answers = self.pool(prompts, [params or PoolingParams()] * len(prompts))
        assert [answer.reason for answer in answers] == ["stop"] * len(prompts)
        return np.stack([answer.vector for answer in answers if answer.vector is not None])

    def _run(self, answers: dict[bytes, Answer], max_steps: int | None = None) -> None:
        flights: collections.deque[StepResult] = collections.deque()
        steps = itertools.count()
        with torch.inference_mode():
            while True:
                going = max_steps is None or next(steps) < max_steps
                while (
                    going and len(flights) < 2 and (plan := self.scheduler.schedule()) is not None
                ):
                    launched = on_host(self.runner.execute(plan))
                    self.max_in_step = max(self.max_in_step, launched.rows.num_rows)
                    if self.runner.device.type == "cuda":
                        torch.cuda.synchronize()
                    flights.append(finish(Copying(launched, None)))
                collect(self.scheduler.take_outputs(), answers)
                if not flights:
                    return
                collect(self.scheduler.update(flights.popleft()), answers)


def collect(outputs: list[tuple[bytes, Outputs]], answers: dict[bytes, Answer]) -> None:
    for _, message in outputs:
        for pooled in message.pooled:
            answers[pooled.request_id].vector = unpack_floats(pooled.vector)
        for end in message.finished:
            answers[end.request_id].reason = end.reason
            answers[end.request_id].error = end.error
