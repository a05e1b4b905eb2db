"""Requests of the OpenAI API, with vLLM's extra fields, as structs.

A field that is not listed is ignored, and so is one listed as `Ignored`; the answer's header
X-Octavo-Ignored-Fields names both (`fields`). A field that would change the answer and that this
server does not have is listed as `Refused`: set to anything that asks for something, it is a 400
that names it, never silently dropped. Every field may be null, which means absent.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from octavo.services.frontend.bounds import (
    MAX_CHAT_TEMPLATE,
    MAX_MESSAGES,
    MAX_PARTS,
    MAX_TOOLS,
    PRIORITY_LIMIT,
    AllowedIds,
    BadWords,
    Beams,
    CacheSalt,
    Count,
    Documents,
    Ids,
    Ignored,
    Int,
    JsonObject,
    LogitBias,
    Logprobs,
    Name,
    Penalty,
    PromptList,
    Refused,
    SafeId,
    StopIds,
    StopString,
    StopStrings,
    TemplateKwargs,
    Text,
    UserName,
)
from octavo.services.frontend.time_limits import Deadline
from octavo.services.frontend.tools import ToolChoice, Tools
from octavo.shared.errors import InvalidRequest
from octavo.shared.sampling import RepetitionDetection

_HARMLESS: tuple[Any, ...] = (None, False, "", [], {})


class StreamOptions(msgspec.Struct, kw_only=True):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class GenerationRequest(msgspec.Struct, kw_only=True):
    """What chat and text completions share."""

    model: Name | None = None
    n: Beams | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0.0, le=100.0)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=1e-6, le=1.0)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, msgspec.Meta(ge=1e-3, le=100.0)] | None = None
    seed: Int | None = None
    stop: StopString | StopStrings | None = None
    stop_token_ids: StopIds | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    min_tokens: Count | None = None
    logit_bias: LogitBias | None = None
    skip_special_tokens: bool | None = None
    prompt_logprobs: Logprobs | None = None
    truncate_prompt_tokens: Annotated[int, msgspec.Meta(ge=-1, le=2**31 - 1)] | None = None
    add_special_tokens: bool | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    priority: Annotated[int, msgspec.Meta(ge=-PRIORITY_LIMIT, le=PRIORITY_LIMIT)] | None = None
    request_id: SafeId | None = None
    allowed_token_ids: AllowedIds | None = None
    bad_words: BadWords | None = None
    truncation_side: Literal["left", "right"] | None = None
    return_prompt_text: bool | None = None
    return_token_offsets: bool | None = None
    stream_interval: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    repetition_detection: RepetitionDetection | None = None
    use_beam_search: bool | None = None
    length_penalty: Annotated[float, msgspec.Meta(ge=-10.0, le=10.0)] | None = None
    cache_salt: CacheSalt | None = None
    deadline_ms: Deadline | None = None
    user: UserName | None = None
    safety_identifier: UserName | None = None

    response_format: JsonObject | None = None
    structured_outputs: JsonObject | None = None
    guided_json: Refused = None
    guided_regex: Refused = None
    guided_choice: Refused = None
    guided_grammar: Refused = None
    guided_json_object: Refused = None
    structural_tag: Refused = None
    regex: Refused = None
    ebnf: Refused = None
    logprob_token_ids: Refused = None
    watermarking: Refused = None
    kv_transfer_params: Refused = None
    ec_transfer_params: Refused = None
    lora_path: Refused = None
    stop_regex: Refused = None
    no_stop_trim: Refused = None
    custom_logit_processor: Refused = None
    routed_experts_prompt_start: Refused = None

    metadata: Ignored = None
    store: Ignored = None
    service_tier: Ignored = None
    session_id: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None
    prediction: Ignored = None
    spaces_between_special_tokens: Ignored = None
    vllm_xargs: Ignored = None
    return_weight_versions: Ignored = None
    custom_labels: Ignored = None

    @property
    def end_user(self) -> str | None:
        """`safety_identifier` is the newer name of `user`."""
        return self.safety_identifier or self.user

    def idle(self) -> list[str]:
        """Fields that are set and, beside the others, without effect."""
        idle = []
        if self.use_beam_search:
            idle += ["temperature", "top_p", "top_k", "min_p", "seed"]
        else:
            idle.append("length_penalty")
        if self.truncate_prompt_tokens is None:
            idle.append("truncation_side")
        return [name for name in idle if getattr(self, name) is not None]

    def refuse(self) -> None:
        """Raise InvalidRequest for a field that this server cannot honour."""
        refuse_fields(self)


class ContentPart(msgspec.Struct, kw_only=True):
    type: Name = "text"
    text: Text | None = None


class ChatMessage(msgspec.Struct, kw_only=True):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | Annotated[list[ContentPart], msgspec.Meta(max_length=MAX_PARTS)] | None = None
    name: Name | None = None
    reasoning: Text | None = None
    reasoning_content: Text | None = None
    tool_calls: Annotated[list[JsonObject], msgspec.Meta(max_length=MAX_TOOLS)] | None = None
    tool_call_id: Name | None = None


Messages = Annotated[list[ChatMessage], msgspec.Meta(max_length=MAX_MESSAGES)]


class ChatRequest(GenerationRequest, kw_only=True):
    messages: Messages
    max_tokens: Int | None = None
    max_completion_tokens: Int | None = None
    logprobs: bool | None = None
    top_logprobs: Logprobs | None = None
    echo: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: Annotated[str, msgspec.Meta(max_length=MAX_CHAT_TEMPLATE)] | None = None
    chat_template_kwargs: TemplateKwargs | None = None
    documents: Documents | None = None
    thinking_token_budget: Count | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    include_reasoning: bool | None = None

    functions: Refused = None
    function_call: Refused = None
    audio: Refused = None
    web_search_options: Refused = None
    mm_processor_kwargs: Refused = None
    media_io_kwargs: Refused = None
    mm_payload: Refused = None

    modalities: Ignored = None
    verbosity: Ignored = None


class CompletionRequest(GenerationRequest, kw_only=True):
    prompt: Text | PromptList | None = None
    max_tokens: Int | None = 16
    logprobs: Logprobs | None = None
    echo: bool | None = None
    best_of: Int | None = None

    suffix: Refused = None
    thinking_token_budget: Refused = None
    prompt_embeds: Refused = None

    def refuse(self) -> None:
        super().refuse()
        if self.best_of not in (None, self.n or 1):
            raise InvalidRequest("best_of must equal n, or be left out.", param="best_of")


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """Completion form (`prompt`) or chat form (`messages`)."""

    model: Name | None = None
    prompt: Text | None = None
    messages: Messages | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: Annotated[str, msgspec.Meta(max_length=MAX_CHAT_TEMPLATE)] | None = None
    chat_template_kwargs: TemplateKwargs | None = None
    documents: Documents | None = None
    tools: Tools | None = None
    return_token_strs: bool | None = None

    mm_processor_kwargs: Refused = None
    media_io_kwargs: Refused = None


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    tokens: Ids
    model: Name | None = None


def refuse_fields(request: msgspec.Struct) -> None:
    """Raise InvalidRequest for a field listed as `Refused` that asks for something."""
    for name in _refused_fields(type(request)):
        if getattr(request, name) not in _HARMLESS:
            raise _unsupported(name)


@functools.cache
def _refused_fields(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(name for name, hint in hints.items() if hint == Refused)


def _unsupported(name: str) -> InvalidRequest:
    instead = " Use structured_outputs." if name.startswith("guided_") else ""
    return InvalidRequest(
        f"`{name}` is not supported by this server.{instead}",
        param=name,
        code="unsupported_parameter",
    )
