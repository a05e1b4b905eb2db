"""Beam search, built from requests of one token each: the engine knows nothing of it.

A step asks for one token behind every beam, with the 2 n most likely ones, and keeps the n best
continuations. The prefix cache makes what beams share cheap. Scores are of the raw distribution:
temperature and filters would not change them. The search ends when n outputs are finished and no
open beam scores better as it stands, or at max_tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from starlette.types import Receive

from octavo.services.frontend.bounds import MAX_BEAMS
from octavo.services.frontend.engine_client import EngineClient
from octavo.services.frontend.generation import Generation
from octavo.services.frontend.inbox import Inbox
from octavo.services.frontend.prompts import Prompt
from octavo.services.frontend.schema import GenerationRequest
from octavo.services.frontend.service import Service
from octavo.services.frontend.terms import Terms
from octavo.shared.errors import InvalidRequest
from octavo.shared.messages import Finished
from octavo.shared.sampling import SamplingParams
from octavo.shared.text.logprobs import TokenLogprob
from octavo.shared.text.tokenizer import Tokenizer

_EXCLUDED = (
    *("stream", "logprobs", "top_logprobs", "prompt_logprobs", "stop", "min_tokens"),
    *("presence_penalty", "frequency_penalty", "logit_bias", "allowed_token_ids", "bad_words"),
    *("repetition_detection", "response_format", "structured_outputs", "tools"),
)


def check_beams(request: GenerationRequest) -> None:
    """Raise InvalidRequest for what does not go together with beam search."""
    for name in _EXCLUDED:
        if getattr(request, name, None):
            raise InvalidRequest(f"{name} does not go with use_beam_search.", param=name)
    if request.repetition_penalty not in (None, 1.0):
        raise InvalidRequest(
            "repetition_penalty does not go with use_beam_search.", param="repetition_penalty"
        )
    if (request.n or 1) > MAX_BEAMS:
        raise InvalidRequest(f"Beam search takes n of at most {MAX_BEAMS}.", param="n")


@dataclass(frozen=True)
class Beam:
    """An output as far as it goes; the stop id that ended it is its last."""

    ids: tuple[int, ...] = ()
    logprob: float = 0.0
    finished: bool = False

    def with_token(self, token_id: int, logprob: float, ends: bool) -> Beam:
        return Beam((*self.ids, token_id), self.logprob + logprob, ends)


def beam_search(
    request: GenerationRequest, service: Service, terms: Terms, receive: Receive
) -> BeamSearch:
    """The search that a request asks for."""
    return BeamSearch(
        service.engine,
        service.tokenizer,
        receive,
        length_penalty=1.0 if request.length_penalty is None else request.length_penalty,
        terms=terms,
    )


class BeamSearch:
    """`receive` tells when the client has left, `terms` are those of `submit`."""

    def __init__(
        self,
        engine: EngineClient,
        tokenizer: Tokenizer,
        receive: Receive,
        *,
        length_penalty: float = 1.0,
        terms: Terms,
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._receive = receive
        self._penalty = length_penalty
        self._terms = terms

    async def run(self, jobs: Sequence[tuple[Prompt, SamplingParams]]) -> Generation:
        """A finished generation: each prompt's n best outputs, best first."""
        found = [await self._search(prompt, sampling) for prompt, sampling in jobs]
        cached = [tokens for _, tokens in found]
        inbox = Inbox([b""] * sum(len(beams) for beams, _ in found))
        generation = Generation(self._engine, inbox, self._tokenizer, jobs)
        width = jobs[0][1].n
        for i, tokens in enumerate(cached):
            inbox.streams[i * width].cached_tokens = tokens
        for index, beam in enumerate(beam for beams, _ in found for beam in beams):
            reason, stop_id = ("stop", beam.ids[-1]) if beam.finished else ("length", None)
            end = Finished(request_id=b"", reason=reason, stop_id=stop_id)  # type: ignore[arg-type]
            generation.settle(index, beam.ids, end)
        return generation

    async def _search(self, prompt: Prompt, sampling: SamplingParams) -> tuple[list[Beam], int]:
        """The n best beams of one prompt, and how many of its tokens were cached."""
        width, stop_ids = sampling.n, sampling.stop_ids
        beams, done, cached = [Beam()], list[Beam](), 0
        for length in range(sampling.max_tokens or 1):
            tops, tokens = await self._step(prompt, beams, 2 * width)
            cached = tokens if length == 0 else cached
            grown = [
                beam.with_token(token_id, logprob, token_id in stop_ids)
                for beam, entry in zip(beams, tops, strict=True)
                for token_id, logprob in entry.top[: 2 * width]
            ]
            done = self._best([*done, *(beam for beam in grown if beam.finished)], width)
            beams = self._best((beam for beam in grown if not beam.finished), width)
            if len(done) == width and self._score(beams[0]) <= self._score(done[-1]):
                break
        return self._best([*done, *beams], width), cached

    async def _step(
        self, prompt: Prompt, beams: Sequence[Beam], k: int
    ) -> tuple[list[TokenLogprob], int]:
        """What may follow each beam; and the first one's cached tokens."""
        sampling = SamplingParams(temperature=0.0, max_tokens=1, logprobs=k)
        jobs = [(Prompt([*prompt.ids, *beam.ids]), sampling) for beam in beams]
        inbox = await self._engine.submit(
            [(job.ids, sampling) for job, sampling in jobs], self._terms
        )
        step = Generation(self._engine, inbox, self._tokenizer, jobs)
        async with step.attended(self._receive):
            await step.run()
        return [output.logprobs[0] for output in step.outputs], inbox.streams[0].cached_tokens

    def _best(self, beams: Iterable[Beam], width: int) -> list[Beam]:
        return sorted(beams, key=self._score, reverse=True)[:width]

    def _score(self, beam: Beam) -> float:
        num_tokens = len(beam.ids) - beam.finished
        return beam.logprob / math.pow(max(num_tokens, 1), self._penalty)
