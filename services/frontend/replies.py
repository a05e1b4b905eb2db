"""Responses of the OpenAI API as structs, encoded by msgspec in one pass."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType


class Reply(msgspec.Struct, kw_only=True, gc=False):
    """Base of everything that is sent. UNSET fields are left out."""


class PromptTokensDetails(Reply, kw_only=True):
    cached_tokens: int


class CompletionTokensDetails(Reply, kw_only=True):
    reasoning_tokens: int


class Usage(Reply, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET


class TopLogprob(Reply, kw_only=True):
    token: str
    logprob: float
    bytes: list[int]


class ChatLogprob(TopLogprob, kw_only=True):
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Reply, kw_only=True):
    content: list[ChatLogprob]


class CompletionLogprobs(Reply, kw_only=True):
    """The legacy form: parallel lists over the tokens."""

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class PromptLogprob(Reply, kw_only=True):
    logprob: float
    rank: int
    decoded_token: str


PromptLogprobList = list[dict[int, PromptLogprob] | None]


class FunctionCall(Reply, kw_only=True):
    name: str
    arguments: str
    """JSON text."""


class ToolCall(Reply, kw_only=True):
    id: str
    type: str = "function"
    function: FunctionCall


class Message(Reply, kw_only=True):
    """`content` is null where there are only tool calls; reasoning has two names, both known."""

    content: str | None
    role: str = "assistant"
    refusal: None = None
    reasoning: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class ChatChoice(Reply, kw_only=True):
    index: int
    message: Message
    logprobs: ChatLogprobs | None = None
    finish_reason: str
    stop_reason: int | str | None = None
    token_ids: list[int] | UnsetType = UNSET


class CompletionChoice(Reply, kw_only=True):
    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    token_ids: list[int] | UnsetType = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET
    prompt_logprobs: PromptLogprobList | UnsetType = UNSET
    prompt_text: str | UnsetType = UNSET
    prompt_token_offsets: list[tuple[int, int]] | UnsetType = UNSET


class FunctionDelta(Reply, kw_only=True):
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class ToolCallDelta(Reply, kw_only=True):
    """The first delta of a call has its id, type and name; later ones add to its arguments."""

    index: int
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    function: FunctionDelta


class ChatDelta(Reply, kw_only=True):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET


class ChatChunkChoice(Reply, kw_only=True):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | UnsetType | None = UNSET
    token_ids: list[int] | UnsetType = UNSET


class Completion(Reply, kw_only=True):
    """A text completion, whole or one chunk of a stream."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    system_fingerprint: str
    usage: Usage | UnsetType | None = UNSET


class ChatCompletion(Reply, kw_only=True):
    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    system_fingerprint: str
    usage: Usage
    prompt_token_ids: list[int] | UnsetType = UNSET
    prompt_logprobs: PromptLogprobList | UnsetType = UNSET
    prompt_text: str | UnsetType = UNSET
    prompt_token_offsets: list[tuple[int, int]] | UnsetType = UNSET


class ChatChunk(Reply, kw_only=True):
    id: str
    object: str = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    system_fingerprint: str
    usage: Usage | UnsetType | None = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET
    prompt_text: str | UnsetType = UNSET
    prompt_token_offsets: list[tuple[int, int]] | UnsetType = UNSET


class ErrorBody(Reply, kw_only=True):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(Reply, kw_only=True):
    error: ErrorBody


class ModelCard(Reply, kw_only=True):
    id: str
    object: str = "model"
    created: int
    owned_by: str = "octavo"
    root: str
    parent: str | None = None
    max_model_len: int
    permission: list[str] = []


class ModelList(Reply, kw_only=True):
    object: str = "list"
    data: list[ModelCard]


class Tokens(Reply, kw_only=True):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class Detokenized(Reply, kw_only=True):
    prompt: str


class Version(Reply, kw_only=True):
    version: str


class Load(Reply, kw_only=True):
    server_load: int


class State(Reply, kw_only=True):
    state: str
    """starting, loading, warming, ready, degraded, draining or engine_dead; of the live page's
    feed, also "no answer"."""
    progress: str | UnsetType = UNSET
    """Of what is being loaded, in words."""


class NotReady(State, kw_only=True):
    error: ErrorBody
