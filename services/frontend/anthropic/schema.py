"""Requests of the Anthropic Messages API as structs."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from octavo.services.frontend.bounds import (
    MAX_MESSAGES,
    MAX_PARTS,
    MAX_TOOLS,
    Count,
    Ignored,
    JsonObject,
    Name,
    Refused,
    StopStrings,
    Text,
    UserName,
)


class TextBlock(msgspec.Struct, kw_only=True, tag="text"):
    text: Text
    cache_control: Ignored = None
    citations: Ignored = None


class ImageBlock(msgspec.Struct, tag="image"):
    pass


class DocumentBlock(msgspec.Struct, tag="document"):
    pass


class SearchResultBlock(msgspec.Struct, tag="search_result"):
    pass


TextBlocks: TypeAlias = Annotated[list[TextBlock], Meta(max_length=MAX_PARTS)]
ResultBlock: TypeAlias = TextBlock | ImageBlock | DocumentBlock | SearchResultBlock


class ThinkingBlock(msgspec.Struct, kw_only=True, tag="thinking"):
    thinking: Text
    signature: Ignored = None


class RedactedThinkingBlock(msgspec.Struct, tag="redacted_thinking"):
    data: Ignored = None


class ToolUseBlock(msgspec.Struct, kw_only=True, tag="tool_use"):
    id: Name
    name: Name
    input: JsonObject
    cache_control: Ignored = None
    caller: Ignored = None


class ToolResultBlock(msgspec.Struct, kw_only=True, tag="tool_result"):
    tool_use_id: Name
    content: Text | Annotated[list[ResultBlock], Meta(max_length=MAX_PARTS)] | None = None
    is_error: bool | None = None
    cache_control: Ignored = None


Block: TypeAlias = (
    ResultBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ToolResultBlock
)


class InputMessage(msgspec.Struct, kw_only=True):
    role: Literal["user", "assistant", "system"]
    content: Text | Annotated[list[Block], Meta(max_length=MAX_PARTS)]


class Tool(msgspec.Struct, kw_only=True):
    """A tool of the client's. `type` names one that Anthropic runs itself."""

    name: Name
    type: Name | None = None
    description: Text | None = None
    input_schema: JsonObject | None = None
    strict: bool | None = None
    cache_control: Ignored = None


class ToolChoice(msgspec.Struct, kw_only=True):
    type: Literal["auto", "any", "tool", "none"]
    name: Name | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, kw_only=True):
    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: Count | None = None
    display: Ignored = None


class OutputFormat(msgspec.Struct, kw_only=True):
    type: Literal["json_schema"]
    schema: JsonObject


class OutputConfig(msgspec.Struct, kw_only=True):
    format: OutputFormat | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


class Metadata(msgspec.Struct, kw_only=True):
    user_id: UserName | None = None


class CountTokensRequest(msgspec.Struct, kw_only=True):
    """What makes the prompt."""

    model: Name
    messages: Annotated[list[InputMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    system: Text | TextBlocks | None = None
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None

    mcp_servers: Refused = None
    context_management: Refused = None
    container: Refused = None
    cache_control: Ignored = None
    speed: Ignored = None


class MessagesRequest(CountTokensRequest, kw_only=True):
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    stream: bool | None = None
    stop_sequences: StopStrings | None = None
    temperature: Annotated[float, Meta(ge=0.0, le=100.0)] | None = None
    top_p: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    top_k: Count | None = None

    metadata: Metadata | None = None
    service_tier: Ignored = None
    inference_geo: Ignored = None
    diagnostics: Ignored = None
