"""Requests of the OpenAI Responses API as structs."""

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
    Logprobs,
    Name,
    Refused,
    Text,
    UserName,
)


class Part(msgspec.Struct, kw_only=True):
    """A part of a message, of a reasoning or of a tool's output; only text has a meaning here."""

    type: Name
    text: Text | None = None
    refusal: Text | None = None


Parts: TypeAlias = Annotated[list[Part], Meta(max_length=MAX_PARTS)]


class Item(msgspec.Struct, kw_only=True):
    """What went before: a message, a function's call or output, a reasoning. A message may leave
    its type out."""

    type: Name = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Text | Parts | None = None
    summary: Parts | None = None
    call_id: Name | None = None
    name: Name | None = None
    arguments: Text | None = None
    output: Text | Parts | None = None
    id: Ignored = None
    status: Ignored = None
    encrypted_content: Ignored = None
    phase: Ignored = None


class Function(msgspec.Struct, kw_only=True):
    """A tool. Of all the types only `function` is the client's own."""

    type: Name
    name: Name | None = None
    description: Text | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class FunctionChoice(msgspec.Struct, kw_only=True):
    type: Literal["function"]
    name: Name


class Reasoning(msgspec.Struct, kw_only=True):
    effort: Name | None = None
    summary: Ignored = None
    generate_summary: Ignored = None


class TextFormat(msgspec.Struct, kw_only=True):
    type: Literal["text", "json_object", "json_schema"]
    name: Name | None = None
    description: Text | None = None
    schema: JsonObject | None = None
    strict: bool | None = None


class TextConfig(msgspec.Struct, kw_only=True):
    format: TextFormat | None = None
    verbosity: Ignored = None


class ResponsesRequest(msgspec.Struct, kw_only=True):
    model: Name | None = None
    input: Text | Annotated[list[Item], Meta(min_length=1, max_length=MAX_MESSAGES)]
    instructions: Text | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0.0, le=100.0)] | None = None
    top_p: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    tools: Annotated[list[Function], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    include: Annotated[list[Name], Meta(max_length=64)] | None = None
    top_logprobs: Logprobs | None = None
    stream: bool | None = None
    metadata: Annotated[dict[Name, Text], Meta(max_length=64)] | None = None
    """Echoed."""
    max_tool_calls: Count | None = None
    """For tools that a server runs: there are none."""
    user: UserName | None = None
    safety_identifier: UserName | None = None

    previous_response_id: Refused = None
    conversation: Refused = None
    background: Refused = None
    prompt: Refused = None
    context_management: Refused = None
    store: Ignored = None
    stream_options: Ignored = None
    truncation: Ignored = None
    service_tier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
    prompt_cache_options: Ignored = None
