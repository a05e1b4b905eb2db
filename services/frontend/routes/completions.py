"""POST /v1/completions."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from octavo.services.frontend.beam_search import beam_search
from octavo.services.frontend.chunk_template import MARK, ChunkTemplate
from octavo.services.frontend.constraints import constraint_of
from octavo.services.frontend.edge import error_body, json_response, read_json
from octavo.services.frontend.events import completion_ending, event
from octavo.services.frontend.generation import Generation
from octavo.services.frontend.logprobs import LogprobWriter, text_offsets
from octavo.services.frontend.parameters import (
    check_common,
    completion_logprobs,
    output_limit,
    sampling_params,
)
from octavo.services.frontend.prompt_reader import PromptReader
from octavo.services.frontend.prompts import Prompt, completion_prompts
from octavo.services.frontend.replies import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    PromptLogprobList,
    Usage,
)
from octavo.services.frontend.schema import CompletionRequest
from octavo.services.frontend.service import Head, Service, service_of
from octavo.services.frontend.stream import EventStream
from octavo.services.frontend.terms import Terms, terms_of
from octavo.shared.errors import OctavoError
from octavo.shared.grammar.spec import GrammarSpec
from octavo.shared.sampling import SamplingParams
from octavo.shared.text.logprobs import TokenLogprob
from octavo.shared.text.output import Delta

_decoder = msgspec.json.Decoder(CompletionRequest)


async def completions(request: Request) -> Response:
    service = service_of(request)
    body = await read_json(request, _decoder)
    head = Head.new("cmpl", service.check_model(body.model), service, body.request_id)
    terms = terms_of(request, body, body.cache_salt)
    generation = await _begin(body, service, terms, request.receive)
    writer = CompletionWriter(head, body, generation, service)
    if body.stream:
        return EventStream(generation, writer, body.stream_options)
    async with generation.attended(request.receive):
        await generation.run()
    return json_response(writer.whole())


async def _begin(
    body: CompletionRequest, service: Service, terms: Terms, receive: Receive
) -> Generation:
    check_common(body)
    prompts = await completion_prompts(body, service.tokenizer, service.model)
    echo_only = bool(body.echo) and body.max_tokens == 0
    asked = 1 if echo_only else body.max_tokens
    grammar = await constraint_of(body, service, terms.tenant)
    jobs = [(prompt, _sampling(body, service, prompt, asked, grammar)) for prompt in prompts]
    if body.use_beam_search:
        return await beam_search(body, service, terms, receive).run(jobs)
    inbox = await service.engine.submit(
        [(prompt.ids, sampling) for prompt, sampling in jobs], terms
    )
    inbox.interval = body.stream_interval or 1
    return Generation(service.engine, inbox, service.tokenizer, jobs, echo_only=echo_only)


def _sampling(
    body: CompletionRequest,
    service: Service,
    prompt: Prompt,
    asked: int | None,
    grammar: GrammarSpec | None,
) -> SamplingParams:
    logprobs, prompt_logprobs = completion_logprobs(body)
    return sampling_params(
        body,
        service.model,
        service.tokenizer,
        max_tokens=output_limit(asked, len(prompt.ids), service.model, "prompt"),
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        grammar=grammar,
    )


class CompletionWriter:
    """Writes the answer to one completion request, whole or in chunks."""

    def __init__(
        self, head: Head, body: CompletionRequest, generation: Generation, service: Service
    ) -> None:
        self._head = head
        self._body = body
        self._generation = generation
        self._prompt = PromptReader(body, generation, service.tokenizer)
        self._tokenizer = service.tokenizer
        as_ids = bool(body.return_tokens_as_token_ids)
        self._logprobs = LogprobWriter(service.tokenizer, body.logprobs or 0, as_ids)
        self._prompt_logprobs = LogprobWriter(service.tokenizer, body.prompt_logprobs or 0, as_ids)
        self.wants_every_token = body.logprobs is not None or bool(body.return_token_ids)
        self._templates: dict[int, ChunkTemplate] = {}

    def whole(self) -> Completion:
        choices = [self._choice(index) for index in range(len(self._generation.outputs))]
        return self._completion(choices, self._generation.usage())

    def chunk(
        self, index: int, delta: Delta, first: bool, usage: Usage | UnsetType | None
    ) -> list[bytes]:
        usual = usage is UNSET and not self.wants_every_token and not first
        if usual and self._generation.outputs[index].finish_reason is None:
            return [self._template(index).fill(delta.text)]
        choice = CompletionChoice(
            index=index,
            text=(self._echoed(index) if first else "") + delta.text,
            logprobs=self._of(index, delta.token_ids, delta.logprobs, delta.offsets, first),
        )
        return [event(self._completion([self._with_ending(choice, delta.token_ids, first)], usage))]

    def _template(self, index: int) -> ChunkTemplate:
        if (known := self._templates.get(index)) is None:
            sample = event(self._completion([CompletionChoice(index=index, text=MARK)], UNSET))
            known = self._templates[index] = ChunkTemplate(sample)
        return known

    def ending(self, usage: Usage | None) -> list[bytes]:
        return completion_ending(None if usage is None else self._completion([], usage))

    def error(self, error: OctavoError) -> list[bytes]:
        return [event(error_body(error))]

    def _choice(self, index: int) -> CompletionChoice:
        output = self._generation.outputs[index]
        choice = CompletionChoice(
            index=index,
            text=self._echoed(index) + output.text,
            logprobs=self._of(index, output.token_ids, output.logprobs, output.offsets, True),
            prompt_logprobs=self._of_prompt(index),
        )
        return self._with_ending(choice, output.token_ids, True)

    def _with_ending(
        self, choice: CompletionChoice, token_ids: list[int], first: bool
    ) -> CompletionChoice:
        """Add what the output and the request's options say of the choice."""
        output = self._generation.outputs[choice.index]
        choice.finish_reason, choice.stop_reason = output.finish_reason, output.stop_reason
        if self._body.return_token_ids:
            choice.token_ids = token_ids
        if first:
            self._add_prompt(choice)
        return choice

    def _add_prompt(self, choice: CompletionChoice) -> None:
        if self._body.return_token_ids:
            choice.prompt_token_ids = self._generation.prompt(choice.index).ids
        choice.prompt_text = self._prompt.text(choice.index)
        choice.prompt_token_offsets = self._prompt.offsets(choice.index)

    def _completion(
        self, choices: list[CompletionChoice], usage: Usage | UnsetType | None
    ) -> Completion:
        return Completion(
            id=self._head.id,
            created=self._head.created,
            model=self._head.model,
            system_fingerprint=self._head.system_fingerprint,
            choices=choices,
            usage=usage,
        )

    def _echoed(self, index: int) -> str:
        """The prompt's text where it is to be repeated."""
        if not self._body.echo:
            return ""
        prompt = self._generation.prompt(index)
        if prompt.text is not None:
            return prompt.text
        return self._tokenizer.decode(prompt.ids, self._skips_special)

    @property
    def _skips_special(self) -> bool:
        return self._body.skip_special_tokens is not False

    def _of(
        self,
        index: int,
        token_ids: list[int],
        entries: list[TokenLogprob],
        offsets: list[int],
        first: bool,
    ) -> CompletionLogprobs | None:
        """Logprobs of these output tokens; an echoed prompt's come before the first."""
        if self._body.logprobs is None:
            return None
        if not self._body.echo:
            return self._logprobs.completion(token_ids, entries, offsets)
        shift = len(self._echoed(index))
        shifted = [shift + offset for offset in offsets]
        if not first:
            return self._logprobs.completion(token_ids, entries, shifted)
        prompt = self._generation.prompt(index).ids
        return self._logprobs.completion(
            [*prompt, *token_ids],
            [*self._generation.prompt_logprobs(index), *entries],
            [*text_offsets(self._tokenizer, prompt, self._skips_special), *shifted],
        )

    def _of_prompt(self, index: int) -> PromptLogprobList | UnsetType:
        if self._body.prompt_logprobs is None:
            return UNSET
        return self._prompt_logprobs.prompt(self._generation.prompt_logprobs(index))
