"""A chat completion as the message that Anthropic's clients read."""

from __future__ import annotations

from typing import Any

import msgspec

from octavo.services.frontend.anthropic.replies import (
    AnthropicMessage,
    Content,
    TextContent,
    ThinkingContent,
    ToolUseContent,
    usage_of,
)
from octavo.services.frontend.replies import ChatCompletion, Message, ToolCall
from octavo.services.frontend.service import Head

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def message_of(head: Head, chat: ChatCompletion) -> AnthropicMessage:
    choice = chat.choices[0]
    reason, sequence = stop_of(
        choice.finish_reason, choice.stop_reason, called=bool(choice.message.tool_calls)
    )
    return AnthropicMessage(
        id=head.id,
        model=head.model,
        content=_content(choice.message),
        stop_reason=reason,
        stop_sequence=sequence,
        usage=usage_of(chat.usage),
    )


def stop_of(
    finish_reason: str, stop_reason: int | str | None, *, called: bool
) -> tuple[str, str | None]:
    """(stop_reason, stop_sequence). A call that was asked for by name ends with "stop" too."""
    if finish_reason == "stop" and isinstance(stop_reason, str):
        return "stop_sequence", stop_reason
    if called and finish_reason == "stop":
        return "tool_use", None
    return STOP_REASONS.get(finish_reason, "end_turn"), None


def _content(message: Message) -> list[Content]:
    content: list[Content] = []
    if message.reasoning:
        content.append(ThinkingContent(thinking=message.reasoning))
    if message.content:
        content.append(TextContent(text=message.content))
    return content + [_tool_use(call) for call in message.tool_calls or []]


def _tool_use(call: ToolCall) -> ToolUseContent:
    function = call.function
    return ToolUseContent(id=call.id, name=function.name, input=_input(function.arguments))


def _input(arguments: str) -> dict[str, Any]:
    """The API has no room for arguments that broke off: then there are none."""
    try:
        return msgspec.json.decode(arguments, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {}
