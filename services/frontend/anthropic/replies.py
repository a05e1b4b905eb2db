"""Responses and stream events of the Anthropic Messages API as structs."""

from __future__ import annotations

from typing import Any, TypeAlias

from octavo.services.frontend.replies import Reply, Usage


class AnthropicUsage(Reply, kw_only=True):
    """Tokens read from the prefix cache are not among `input_tokens`."""

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int
    output_tokens: int


class TextContent(Reply, kw_only=True, tag="text"):
    text: str


class ThinkingContent(Reply, kw_only=True, tag="thinking"):
    thinking: str
    signature: str = ""


class ToolUseContent(Reply, kw_only=True, tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


Content: TypeAlias = TextContent | ThinkingContent | ToolUseContent


class AnthropicMessage(Reply, kw_only=True):
    id: str
    type: str = "message"
    role: str = "assistant"
    model: str
    content: list[Content]
    stop_reason: str | None
    stop_sequence: str | None = None
    usage: AnthropicUsage


class TokenCount(Reply, kw_only=True):
    input_tokens: int


class TextDelta(Reply, kw_only=True, tag="text_delta"):
    text: str


class ThinkingDelta(Reply, kw_only=True, tag="thinking_delta"):
    thinking: str


class InputJsonDelta(Reply, kw_only=True, tag="input_json_delta"):
    partial_json: str


BlockDelta: TypeAlias = TextDelta | ThinkingDelta | InputJsonDelta


class MessageStart(Reply, kw_only=True, tag="message_start"):
    message: AnthropicMessage


class Ping(Reply, kw_only=True, tag="ping"):
    pass


class BlockStart(Reply, kw_only=True, tag="content_block_start"):
    index: int
    content_block: Content


class BlockDeltaEvent(Reply, kw_only=True, tag="content_block_delta"):
    index: int
    delta: BlockDelta


class BlockStop(Reply, kw_only=True, tag="content_block_stop"):
    index: int


class StopDelta(Reply, kw_only=True):
    stop_reason: str
    stop_sequence: str | None


class MessageDelta(Reply, kw_only=True, tag="message_delta"):
    delta: StopDelta
    usage: AnthropicUsage


class MessageStop(Reply, kw_only=True, tag="message_stop"):
    pass


AnthropicEvent: TypeAlias = (
    MessageStart | Ping | BlockStart | BlockDeltaEvent | BlockStop | MessageDelta | MessageStop
)


def usage_of(usage: Usage) -> AnthropicUsage:
    cached = usage.prompt_tokens_details.cached_tokens
    return AnthropicUsage(
        input_tokens=usage.prompt_tokens - cached,
        cache_read_input_tokens=cached,
        output_tokens=usage.completion_tokens,
    )
