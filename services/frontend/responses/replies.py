"""Responses and stream events of the OpenAI Responses API as structs."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec
from msgspec import UnsetType

from octavo.services.frontend.replies import ChatLogprob, Reply, Usage


class InputTokensDetails(Reply, kw_only=True):
    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(Reply, kw_only=True):
    reasoning_tokens: int


class ResponseUsage(Reply, kw_only=True):
    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class OutputText(Reply, kw_only=True, tag="output_text"):
    text: str = ""
    annotations: list[Any] = msgspec.field(default_factory=list)
    logprobs: list[ChatLogprob] = msgspec.field(default_factory=list)


class ReasoningText(Reply, kw_only=True, tag="reasoning_text"):
    text: str = ""


OutputPart: TypeAlias = OutputText | ReasoningText


class MessageItem(Reply, kw_only=True, tag="message"):
    id: str
    status: str = "in_progress"
    role: str = "assistant"
    content: list[OutputText] = msgspec.field(default_factory=list)


class ReasoningItem(Reply, kw_only=True, tag="reasoning"):
    id: str
    status: str = "in_progress"
    summary: list[Any] = msgspec.field(default_factory=list)
    content: list[ReasoningText] = msgspec.field(default_factory=list)


class FunctionCallItem(Reply, kw_only=True, tag="function_call"):
    id: str
    status: str = "in_progress"
    call_id: str
    name: str
    arguments: str = ""


OutputItem: TypeAlias = MessageItem | ReasoningItem | FunctionCallItem


class ResponseError(Reply, kw_only=True):
    code: str
    message: str


class IncompleteDetails(Reply, kw_only=True):
    reason: str


class ModelResponse(Reply, kw_only=True):
    """The answer, with what was asked for beside it."""

    id: str
    object: str = "response"
    created_at: int
    status: str
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    model: str
    output: list[OutputItem] = msgspec.field(default_factory=list)
    usage: ResponseUsage | None = None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    temperature: float | None
    top_p: float | None
    tool_choice: Any
    tools: list[Any]
    text: Any
    reasoning: Any
    background: bool = False
    previous_response_id: None = None
    store: bool = False
    truncation: str = "disabled"


class ResponseEvent(Reply, kw_only=True):
    """response.created, in_progress, completed, incomplete, failed."""

    type: str
    sequence_number: int = 0
    response: ModelResponse


class ItemEvent(Reply, kw_only=True):
    """response.output_item.added, done."""

    type: str
    sequence_number: int = 0
    output_index: int
    item: OutputItem


class PartEvent(Reply, kw_only=True):
    """response.content_part.added, done."""

    type: str
    sequence_number: int = 0
    item_id: str
    output_index: int
    content_index: int = 0
    part: OutputPart


class TextDelta(Reply, kw_only=True):
    """response.output_text.delta."""

    type: str = "response.output_text.delta"
    sequence_number: int = 0
    item_id: str
    output_index: int
    content_index: int = 0
    delta: str
    logprobs: list[ChatLogprob] = msgspec.field(default_factory=list)


class TextDone(Reply, kw_only=True):
    type: str = "response.output_text.done"
    sequence_number: int = 0
    item_id: str
    output_index: int
    content_index: int = 0
    text: str
    logprobs: list[ChatLogprob] = msgspec.field(default_factory=list)


class ReasoningDelta(Reply, kw_only=True):
    type: str = "response.reasoning_text.delta"
    sequence_number: int = 0
    item_id: str
    output_index: int
    content_index: int = 0
    delta: str


class ReasoningDone(Reply, kw_only=True):
    type: str = "response.reasoning_text.done"
    sequence_number: int = 0
    item_id: str
    output_index: int
    content_index: int = 0
    text: str


class ArgumentsDelta(Reply, kw_only=True):
    type: str = "response.function_call_arguments.delta"
    sequence_number: int = 0
    item_id: str
    output_index: int
    delta: str


class ArgumentsDone(Reply, kw_only=True):
    type: str = "response.function_call_arguments.done"
    sequence_number: int = 0
    item_id: str
    output_index: int
    name: str
    arguments: str


StreamEvent: TypeAlias = (
    ResponseEvent
    | ItemEvent
    | PartEvent
    | TextDelta
    | TextDone
    | ReasoningDelta
    | ReasoningDone
    | ArgumentsDelta
    | ArgumentsDone
)


def usage_of(usage: Usage) -> ResponseUsage:
    cached = usage.prompt_tokens_details.cached_tokens
    details = usage.completion_tokens_details
    reasoning = 0 if isinstance(details, UnsetType) else details.reasoning_tokens
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(cached_tokens=cached),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokensDetails(reasoning_tokens=reasoning),
        total_tokens=usage.total_tokens,
    )
