"""Requests of the OpenAI API, with vLLM's extra fields, as structs.

A field that is not listed is ignored. A field that would change the answer and that this server
does not have is listed as `Refused`: set to anything that asks for something, it is a 400 that
names it, never silently dropped. Every field may be null, which means absent.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal, TypeAlias, get_type_hints

import msgspec

from octavo.shared.errors import InvalidRequest

Refused: TypeAlias = Annotated[Any, msgspec.Meta(description="not supported")]
Int: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Scalar: TypeAlias = str | Int | float | bool | None
MAX_CACHE_SALT = 128

_HARMLESS: tuple[Any, ...] = (None, False, "", [], {})


class StreamOptions(msgspec.Struct, kw_only=True):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class GenerationRequest(msgspec.Struct, kw_only=True):
    """What chat and text completions share."""

    model: str | None = None
    n: Int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: Int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[Int] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    min_tokens: Int | None = None
    logit_bias: dict[Int, float] | None = None
    skip_special_tokens: bool | None = None
    prompt_logprobs: Int | None = None
    truncate_prompt_tokens: Int | None = None
    add_special_tokens: bool | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    priority: Int | None = None
    cache_salt: str | None = None

    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: Refused = None
    guided_regex: Refused = None
    guided_choice: Refused = None
    guided_grammar: Refused = None
    guided_json_object: Refused = None
    structural_tag: Refused = None
    regex: Refused = None
    ebnf: Refused = None
    use_beam_search: Refused = None
    allowed_token_ids: Refused = None
    bad_words: Refused = None
    logprob_token_ids: Refused = None
    thinking_token_budget: Refused = None
    repetition_detection: Refused = None
    watermarking: Refused = None
    kv_transfer_params: Refused = None
    lora_path: Refused = None
    truncation_side: Literal["left"] | None = None

    def refuse(self) -> None:
        """Raise InvalidRequest for a field that this server cannot honour."""
        for name in _refused_fields(type(self)):
            if getattr(self, name) not in _HARMLESS:
                raise _unsupported(name)


class ContentPart(msgspec.Struct, kw_only=True):
    type: str = "text"
    text: str | None = None


class ChatMessage(msgspec.Struct, kw_only=True):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class ChatRequest(GenerationRequest, kw_only=True):
    messages: list[ChatMessage]
    max_tokens: Int | None = None
    max_completion_tokens: Int | None = None
    logprobs: bool | None = None
    top_logprobs: Int | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Scalar] | None = None
    reasoning_effort: str | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None

    chat_template: Refused = None
    documents: Refused = None
    echo: Refused = None
    functions: Refused = None
    function_call: Refused = None
    audio: Refused = None
    web_search_options: Refused = None
    mm_processor_kwargs: Refused = None
    media_io_kwargs: Refused = None

    def refuse(self) -> None:
        super().refuse()
        if self.tool_choice not in (None, "none", "auto"):
            raise _unsupported("tool_choice")
        if self.tools and self.tool_choice != "none":
            raise _unsupported("tools")


class CompletionRequest(GenerationRequest, kw_only=True):
    prompt: str | list[str | Int | list[Int]] | None = None
    max_tokens: Int | None = 16
    logprobs: Int | None = None
    echo: bool | None = None
    best_of: Int | None = None

    suffix: Refused = None
    prompt_embeds: Refused = None

    def refuse(self) -> None:
        super().refuse()
        if self.best_of not in (None, 1, self.n):
            raise _unsupported("best_of")


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """Completion form (`prompt`) or chat form (`messages`)."""

    model: str | None = None
    prompt: str | None = None
    messages: list[ChatMessage] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Scalar] | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    tokens: list[Int]
    model: str | None = None


@functools.cache
def _refused_fields(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(name for name, hint in hints.items() if hint == Refused)


def _unsupported(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"`{name}` is not supported by this server.", param=name, code="unsupported_parameter"
    )
