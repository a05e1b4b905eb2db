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
        """A finished generation: each prompt's n best outputs, best first.

        The first step is that of all prompts, which are so taken in, or turned away, as one
        request. From then on no bound ends it.
        """
        width = jobs[0][1].n
        openings, cached = await self._step([prompt for prompt, _ in jobs], 2 * width)
        self._terms = self._terms.taken_in()
        found = [
            await self._search(prompt, sampling, opening)
            for (prompt, sampling), opening in zip(jobs, openings, strict=True)
        ]
        inbox = Inbox([b""] * sum(len(beams) for beams in found))
        generation = Generation(self._engine, inbox, self._tokenizer, jobs)
        for i, tokens in enumerate(cached):
            inbox.streams[i * width].cached_tokens = tokens
        for index, beam in enumerate(beam for beams in found for beam in beams):
            reason, stop_id = ("stop", beam.ids[-1]) if beam.finished else ("length", None)
            end = Finished(request_id=b"", reason=reason, stop_id=stop_id)  # type: ignore[arg-type]
            generation.settle(index, beam.ids, end)
        return generation

    async def _search(
        self, prompt: Prompt, sampling: SamplingParams, opening: TokenLogprob
    ) -> list[Beam]:
        """The n best beams of one prompt, behind which `opening` may follow."""
        width, stop_ids = sampling.n, sampling.stop_ids
        beams, done, tops = [Beam()], list[Beam](), [opening]
        for length in range(sampling.max_tokens or 1):
            if length > 0:
                behind = [Prompt([*prompt.ids, *beam.ids]) for beam in beams]
                tops, _ = await self._step(behind, 2 * width)
            grown = [
                beam.with_token(token_id, logprob, token_id in stop_ids)
                for beam, entry in zip(beams, tops, strict=True)
                for token_id, logprob in entry.top[: 2 * width]
            ]
            done = self._best([*done, *(beam for beam in grown if beam.finished)], width)
            beams = self._best((beam for beam in grown if not beam.finished), width)
            if len(done) == width and self._score(beams[0]) <= self._score(done[-1]):
                break
        return self._best([*done, *beams], width)

    async def _step(
        self, prompts: Sequence[Prompt], k: int
    ) -> tuple[list[TokenLogprob], list[int]]:
        """What may follow each prompt; and how many of its tokens were cached."""
        sampling = SamplingParams(temperature=0.0, max_tokens=1, logprobs=k)
        jobs = [(prompt, sampling) for prompt in prompts]
        inbox = await self._engine.submit(
            [(prompt.ids, sampling) for prompt in prompts], self._terms
        )
        step = Generation(self._engine, inbox, self._tokenizer, jobs)
        async with step.attended(self._receive):
            await step.run()
        cached = [stream.cached_tokens for stream in inbox.streams]
        return [output.logprobs[0] for output in step.outputs], cached

    def _best(self, beams: Iterable[Beam], width: int) -> list[Beam]:
        return sorted(beams, key=self._score, reverse=True)[:width]

    def _score(self, beam: Beam) -> float:
        num_tokens = len(beam.ids) - beam.finished
        return beam.logprob / math.pow(max(num_tokens, 1), self._penalty)
