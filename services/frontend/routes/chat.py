"""POST /v1/chat/completions."""

from __future__ import annotations

import functools

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from octavo.services.frontend.beam_search import beam_search
from octavo.services.frontend.chat_parts import Reading
from octavo.services.frontend.chat_plan import chat_plan
from octavo.services.frontend.chunk_template import MARK, ChunkTemplate
from octavo.services.frontend.edge import error_body, json_response, read_json
from octavo.services.frontend.events import completion_ending, event
from octavo.services.frontend.generation import Generation
from octavo.services.frontend.logprobs import LogprobWriter
from octavo.services.frontend.parameters import (
    chat_logprobs,
    check_common,
    output_limit,
    sampling_params,
)
from octavo.services.frontend.prompt_reader import PromptReader, echoed_message
from octavo.services.frontend.prompts import chat_prompt
from octavo.services.frontend.replies import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    CompletionTokensDetails,
    Usage,
)
from octavo.services.frontend.schema import ChatRequest
from octavo.services.frontend.service import Head, Service, service_of
from octavo.services.frontend.speaker import Speaker
from octavo.services.frontend.stream import EventStream
from octavo.services.frontend.terms import Terms, terms_of
from octavo.services.frontend.tools import tool_use
from octavo.shared.errors import OctavoError
from octavo.shared.text.logprobs import TokenLogprob
from octavo.shared.text.output import Delta

_decoder = msgspec.json.Decoder(ChatRequest)
REQUEST_TYPES = {"/v1/chat/completions": "chat_completions", "/v1/responses": "responses"}


async def chat_completions(request: Request) -> Response:
    body = await read_json(request, _decoder)
    generation, writer = await start_chat(request, body)
    if body.stream:
        return EventStream(generation, writer, body.stream_options)
    async with generation.attended(request.receive):
        await generation.run()
    return json_response(writer.whole())


async def start_chat(request: Request, body: ChatRequest) -> tuple[Generation, ChatWriter]:
    """Give a chat to the engine; for every API that is answered by one."""
    service = service_of(request)
    head = Head.new("chatcmpl", service.check_model(body.model), service, body.request_id)
    terms = terms_of(request, body, body.cache_salt)
    generation, reading = await _begin(body, service, terms, request.receive)
    kind = REQUEST_TYPES.get(request.url.path, "other")
    return generation, ChatWriter(head, body, generation, service, reading, kind)


async def _begin(
    body: ChatRequest, service: Service, terms: Terms, receive: Receive
) -> tuple[Generation, Reading | None]:
    """The running request, and how its outputs are to be read (None: as they are)."""
    check_common(body)
    logprobs = chat_logprobs(body)
    use = tool_use(body.tools, body.tool_choice, body.parallel_tool_calls)
    prompt = await chat_prompt(body, service, use.for_template())
    plan = await chat_plan(body, use, prompt.ids, service, terms.tenant)
    asked = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    sampling = sampling_params(
        body,
        service.model,
        service.tokenizer,
        max_tokens=output_limit(asked, len(prompt.ids), service.model, "messages"),
        logprobs=logprobs,
        prompt_logprobs=body.prompt_logprobs,
        grammar=None,
    )
    sampling = plan.applied(sampling)
    if body.use_beam_search:
        beams = beam_search(body, service, terms, receive)
        return await beams.run([(prompt, sampling)]), plan.reading
    inbox = await service.engine.submit([(prompt.ids, sampling)], terms)
    inbox.interval = body.stream_interval or 1
    jobs = [(prompt, sampling)]
    generation = Generation(service.engine, inbox, service.tokenizer, jobs, visible=plan.visible)
    return generation, plan.reading


class ChatWriter:
    """Writes the answer to one chat request, whole or in chunks."""

    def __init__(
        self,
        head: Head,
        body: ChatRequest,
        generation: Generation,
        service: Service,
        reading: Reading | None = None,
        kind: str = "other",
    ) -> None:
        self._head = head
        self._body = body
        self._generation = generation
        self._prompt = PromptReader(body, generation, service.tokenizer)
        self._echoed = echoed_message(body)
        note = functools.partial(service.engine.http.note_parser, kind=kind)
        self._speakers = [Speaker(reading, body, output, note) for output in generation.outputs]
        as_ids = bool(body.return_tokens_as_token_ids)
        k = max(body.top_logprobs or 0, body.prompt_logprobs or 0)
        self._prompt_logprobs = LogprobWriter(service.tokenizer, k, as_ids)
        self._logprobs = LogprobWriter(service.tokenizer, body.top_logprobs or 0, as_ids)
        self.wants_every_token = bool(body.logprobs or body.return_token_ids)
        self._only_text = reading is None and not self.wants_every_token
        self._templates: dict[int, ChunkTemplate] = {}

    def whole(self) -> ChatCompletion:
        asked_prompt = self._body.prompt_logprobs is not None
        entries = self._generation.prompt_logprobs(0) if asked_prompt else []
        return ChatCompletion(
            id=self._head.id,
            created=self._head.created,
            model=self._head.model,
            system_fingerprint=self._head.system_fingerprint,
            choices=[self._choice(index) for index in range(len(self._generation.outputs))],
            usage=self.usage(),
            prompt_token_ids=self._ids(self._generation.prompt(0).ids),
            prompt_logprobs=self._prompt_logprobs.prompt(entries) if asked_prompt else UNSET,
            prompt_text=self._prompt.text(0),
            prompt_token_offsets=self._prompt.offsets(0),
        )

    def chunk(
        self, index: int, delta: Delta, first: bool, usage: Usage | UnsetType | None
    ) -> list[bytes]:
        usual = usage is UNSET and self._only_text and not first
        if usual and self._generation.outputs[index].finish_reason is None:
            return [self._template(index).fill(delta.text)]
        return [event(chunk) for chunk in self.chat_chunks(index, delta, first, usage)]

    def _template(self, index: int) -> ChunkTemplate:
        if (known := self._templates.get(index)) is None:
            choice = ChatChunkChoice(index=index, delta=ChatDelta(content=MARK))
            sample = event(self._chunk([choice], UNSET))
            known = self._templates[index] = ChunkTemplate(sample)
        return known

    def chat_chunks(
        self, index: int, delta: Delta, first: bool, usage: Usage | UnsetType | None
    ) -> list[ChatChunk]:
        """None where there is nothing to say yet."""
        output, speaker = self._generation.outputs[index], self._speakers[index]
        said = speaker.delta(delta.text, self._echo(first), first)
        if said is None and not (output.finish_reason or self.wants_every_token):
            return []
        choice = ChatChunkChoice(
            index=index,
            delta=said or ChatDelta(),
            logprobs=self._of(delta.logprobs),
            finish_reason=speaker.finish_reason,
            stop_reason=UNSET if output.finish_reason is None else output.stop_reason,
            token_ids=self._ids(delta.token_ids),
        )
        chunk = self._chunk([choice], usage)
        if first and index == 0:
            chunk.prompt_token_ids = self._ids(self._generation.prompt(0).ids)
            chunk.prompt_text = self._prompt.text(0)
            chunk.prompt_token_offsets = self._prompt.offsets(0)
        return [chunk]

    def ending(self, usage: Usage | None) -> list[bytes]:
        if usage is None:
            return completion_ending(None)
        return completion_ending(self._chunk([], self._detailed(usage)))

    def error(self, error: OctavoError) -> list[bytes]:
        return [event(error_body(error))]

    def _chunk(self, choices: list[ChatChunkChoice], usage: Usage | UnsetType | None) -> ChatChunk:
        return ChatChunk(
            id=self._head.id,
            created=self._head.created,
            model=self._head.model,
            system_fingerprint=self._head.system_fingerprint,
            choices=choices,
            usage=usage,
        )

    def _choice(self, index: int) -> ChatChoice:
        output, speaker = self._generation.outputs[index], self._speakers[index]
        return ChatChoice(
            index=index,
            message=speaker.message(self._echoed),
            logprobs=self._of(output.logprobs),
            finish_reason=speaker.finish_reason or "stop",
            stop_reason=output.stop_reason,
            token_ids=self._ids(output.token_ids),
        )

    def usage(self) -> Usage:
        return self._detailed(self._generation.usage())

    def _detailed(self, usage: Usage) -> Usage:
        """With the tokens of reasoning, where outputs are read for it."""
        counts = [speaker.reasoning_tokens for speaker in self._speakers]
        known = [count for count in counts if count is not None]
        if known:
            usage.completion_tokens_details = CompletionTokensDetails(reasoning_tokens=sum(known))
        return usage

    def _echo(self, first: bool) -> str:
        return self._echoed if first else ""

    def _of(self, entries: list[TokenLogprob]) -> ChatLogprobs | None:
        return self._logprobs.chat(entries) if self._body.logprobs else None

    def _ids(self, token_ids: list[int]) -> list[int] | UnsetType:
        return token_ids if self._body.return_token_ids else UNSET
