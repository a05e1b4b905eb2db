"""The sequences of one `generate` call: sent at once, collected as they finish."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from octavo.llm.engine import Engine
from octavo.llm.outputs import CompletionOutput, Position, RequestOutput, positions
from octavo.llm.prompts import Prompt
from octavo.shared.errors import EngineDead
from octavo.shared.messages import (
    REQUEST_ID_BYTES,
    Abort,
    Finished,
    Outputs,
    Submit,
    pack,
    unpack,
)
from octavo.shared.sampling import SamplingParams
from octavo.shared.text.logprobs import TokenLogprob, unpack_logprobs
from octavo.shared.text.output import OutputAssembler
from octavo.shared.text.tokenizer import Tokenizer


@dataclass
class Request:
    """One prompt with the parameters of its `n` sequences."""

    prompt: Prompt
    sampling: SamplingParams
    priority: int = 0


@dataclass
class Generation:
    """One sequence in flight."""

    request: int
    index: int
    assembler: OutputAssembler
    num_cached_tokens: int = 0
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    error: str | None = None

    @property
    def over(self) -> bool:
        return self.assembler.finish_reason is not None


class Collector:
    """Sends `requests`, then turns what the engine sends into RequestOutputs."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, requests: Sequence[Request]) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._requests = requests
        self._live: dict[bytes, Generation] = {}
        self._done: dict[tuple[int, int], Generation] = {}

    def run(self, on_finished: Callable[[], object]) -> list[RequestOutput]:
        """Wait for every sequence; `on_finished` is called after each.

        Ctrl-C, or any other way out, leaves no request running in the engine.
        """
        try:
            for number, request in enumerate(self._requests):
                self._submit(number, request)
            while self._live:
                for _ in self._take(self._engine.receive()):
                    on_finished()
        except BaseException:
            with contextlib.suppress(EngineDead):
                self._abort(list(self._live))
            raise
        return [self._output(number) for number in range(len(self._requests))]

    def _submit(self, number: int, request: Request) -> None:
        for index in range(request.sampling.n):
            sampling = request.sampling.for_choice(index)
            request_id = os.urandom(REQUEST_ID_BYTES)
            self._live[request_id] = Generation(
                number, index, OutputAssembler(self._tokenizer, sampling)
            )
            self._engine.send(
                Submit(
                    request_id=request_id,
                    prompt_ids=pack(request.prompt.token_ids),
                    sampling=sampling,
                    arrival_time=time.monotonic(),
                    priority=request.priority,
                    num_choices=request.sampling.n if index == 0 else 0,
                )
            )

    def _take(self, outputs: Outputs) -> list[Generation]:
        """Hand one step's outputs to their sequences; returns those that finished."""
        for started in outputs.started:
            if generation := self._live.get(started.request_id):
                generation.num_cached_tokens = started.cached_tokens
        for prompt in outputs.prompt_logprobs:
            if generation := self._live.get(prompt.request_id):
                generation.prompt_logprobs += unpack_logprobs(prompt.values)
        finished = {end.request_id: end for end in outputs.finished}
        touched = self._push_tokens(outputs, finished)
        for request_id, end in finished.items():
            if generation := self._live.get(request_id):
                touched[request_id] = generation
                generation.error = end.error
                generation.assembler.push((), finished=end)
        return self._retire(touched, finished)

    def _push_tokens(
        self, outputs: Outputs, finished: dict[bytes, Finished]
    ) -> dict[bytes, Generation]:
        """Returns the generations that got a token."""
        entries: dict[int, TokenLogprob] = {}
        if outputs.logprobs is not None:
            rows = unpack(outputs.logprob_rows).tolist()
            entries = dict(zip(rows, unpack_logprobs(outputs.logprobs), strict=True))
        touched: dict[bytes, Generation] = {}
        for row, token in enumerate(unpack(outputs.token_ids).tolist()):
            start = row * REQUEST_ID_BYTES
            request_id = outputs.request_ids[start : start + REQUEST_ID_BYTES]
            if generation := self._live.get(request_id):
                entry = [entries[row]] if row in entries else []
                generation.assembler.push([token], entry, finished.get(request_id))
                touched[request_id] = generation
        return touched

    def _retire(
        self, touched: dict[bytes, Generation], finished: dict[bytes, Finished]
    ) -> list[Generation]:
        """Take out what is over. The engine does not know yet of one that met a stop string."""
        over = {i: generation for i, generation in touched.items() if generation.over}
        self._abort([request_id for request_id in over if request_id not in finished])
        for request_id, generation in over.items():
            del self._live[request_id]
            self._done[generation.request, generation.index] = generation
        return list(over.values())

    def _abort(self, request_ids: list[bytes]) -> None:
        if request_ids:
            self._engine.send(Abort(request_ids=request_ids))

    def _output(self, number: int) -> RequestOutput:
        request = self._requests[number]
        generations = [self._done[number, index] for index in range(request.sampling.n)]
        return RequestOutput(
            request_id=str(number),
            prompt=request.prompt.text,
            prompt_token_ids=request.prompt.token_ids,
            prompt_logprobs=self._prompt_logprobs(generations[0], request.sampling),
            outputs=[self._completion(done, request.sampling) for done in generations],
            finished=True,
            num_cached_tokens=generations[0].num_cached_tokens,
        )

    def _completion(self, generation: Generation, sampling: SamplingParams) -> CompletionOutput:
        assembler, k = generation.assembler, sampling.logprobs
        entries = assembler.logprobs
        return CompletionOutput(
            index=generation.index,
            text=assembler.text,
            token_ids=assembler.token_ids,
            cumulative_logprob=None if k is None else sum(entry.logprob for entry in entries),
            logprobs=None if k is None else positions(entries, k, self._tokenizer),
            finish_reason=assembler.finish_reason,
            stop_reason=generation.error or assembler.stop_reason,
        )

    def _prompt_logprobs(
        self, generation: Generation, sampling: SamplingParams
    ) -> list[Position | None] | None:
        if sampling.prompt_logprobs is None:
            return None
        entries = generation.prompt_logprobs
        return [None, *positions(entries, sampling.prompt_logprobs, self._tokenizer)]
