"""Writes the answer to one Responses request, whole or as events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UnsetType

from octavo.services.frontend.events import event
from octavo.services.frontend.replies import ChatChunk, ChatLogprobs, Usage
from octavo.services.frontend.responses.output import Output, whole_delta
from octavo.services.frontend.responses.replies import (
    IncompleteDetails,
    ModelResponse,
    ResponseError,
    ResponseEvent,
    StreamEvent,
    usage_of,
)
from octavo.services.frontend.responses.schema import ResponsesRequest, TextConfig
from octavo.services.frontend.routes.chat import ChatWriter
from octavo.services.frontend.service import Head
from octavo.shared.errors import OctavoError, RequestError, ServerError

FAILED = "The server failed to answer this request."


class ResponseWriter:
    def __init__(self, head: Head, body: ResponsesRequest, chat: ChatWriter) -> None:
        self.wants_every_token = chat.wants_every_token
        self._chat = chat
        self._output = Output(head.id.partition("_")[2])
        self._response = _response(head, body)
        self._finish_reason: str | None = None
        self._sequence = 0

    def whole(self) -> ModelResponse:
        choice = self._chat.whole().choices[0]
        self._finish_reason = choice.finish_reason
        for _ in self._output.push(whole_delta(choice.message), _entries(choice.logprobs)):
            pass
        for _ in self._output.finish(self._status()):
            pass
        return self._finished()

    def chunk(
        self, index: int, delta: Any, first: bool, usage: Usage | UnsetType | None
    ) -> list[bytes]:
        opening = [self._about("created"), self._about("in_progress")] if first else []
        events = self._numbered(opening)
        for chunk in self._chat.chat_chunks(index, delta, first, usage):
            events += self._news(chunk)
        return events

    def ending(self, usage: Usage | None) -> list[bytes]:
        status = self._status()
        closing = self._numbered(self._output.finish(status))
        self._finished()
        return closing + self._numbered([self._about(status)])

    def error(self, error: OctavoError) -> list[bytes]:
        known = isinstance(error, RequestError | ServerError)
        message = error.message if known else FAILED
        self._response.status = "failed"
        self._response.error = ResponseError(code="server_error", message=message)
        self._response.output = self._output.items
        return self._numbered([self._about("failed")])

    def _news(self, chunk: ChatChunk) -> list[bytes]:
        events: list[bytes] = []
        for choice in chunk.choices:
            events += self._numbered(self._output.push(choice.delta, _entries(choice.logprobs)))
            self._finish_reason = choice.finish_reason or self._finish_reason
        return events

    def _status(self) -> str:
        return "incomplete" if self._finish_reason == "length" else "completed"

    def _finished(self) -> ModelResponse:
        self._response.status = self._status()
        if self._response.status == "incomplete":
            self._response.incomplete_details = IncompleteDetails(reason="max_output_tokens")
        self._response.output = self._output.items
        self._response.usage = usage_of(self._chat.usage())
        return self._response

    def _about(self, what: str) -> ResponseEvent:
        return ResponseEvent(type=f"response.{what}", response=self._response)

    def _numbered(self, events: Iterable[StreamEvent]) -> list[bytes]:
        """Encoded one by one: what an event speaks of goes on changing."""
        encoded = []
        for one in events:
            one.sequence_number = self._sequence
            self._sequence += 1
            encoded.append(event(one, one.type))
        return encoded


def _entries(logprobs: ChatLogprobs | None) -> list[Any]:
    return logprobs.content if logprobs is not None else []


def _response(head: Head, body: ResponsesRequest) -> ModelResponse:
    """What can be said before there is an output."""
    return ModelResponse(
        id=head.id,
        created_at=head.created,
        status="in_progress",
        model=head.model,
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        metadata=body.metadata or {},
        parallel_tool_calls=body.parallel_tool_calls is not False,
        temperature=body.temperature,
        top_p=body.top_p,
        tool_choice=body.tool_choice or "auto",
        tools=_present(body.tools or []),
        text={"format": _format(body.text)},
        reasoning={"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
    )


def _format(text: TextConfig | None) -> Any:
    if text is None or text.format is None:
        return {"type": "text"}
    return _present(text.format)


def _present(value: Any) -> Any:
    """As plain JSON, without what the client left out."""
    if isinstance(value, list):
        return [_present(one) for one in value]
    return {k: v for k, v in msgspec.structs.asdict(value).items() if v is not None}
