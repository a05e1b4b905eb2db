"""Requests of the pooling routes, with OpenAI's, vLLM's, Jina's and Cohere's names."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from octavo.services.frontend.bounds import (
    PRIORITY_LIMIT,
    Count,
    Name,
    PromptList,
    Refused,
    SafeId,
    Text,
    UserName,
)
from octavo.services.frontend.time_limits import Deadline

MAX_INPUTS = 2048
"""Texts of one request."""

Texts: TypeAlias = Annotated[list[Text], msgspec.Meta(max_length=MAX_INPUTS)]
EncodingFormat: TypeAlias = Literal["float", "base64"]


class TextRequest(msgspec.Struct, kw_only=True):
    """What all of them share. `use_activation` (once `normalize`, or `activation`): whether
    embeddings get length 1 and classes scores; null is as the model's files say."""

    model: Name | None = None
    truncate_prompt_tokens: Annotated[int, msgspec.Meta(ge=-1, le=2**31 - 1)] | None = None
    truncation_side: Literal["left", "right"] | None = None
    add_special_tokens: bool | None = None
    use_activation: bool | None = None
    priority: Annotated[int, msgspec.Meta(ge=-PRIORITY_LIMIT, le=PRIORITY_LIMIT)] | None = None
    request_id: SafeId | None = None

    mm_processor_kwargs: Refused = None

    deadline_ms: Deadline | None = None
    user: UserName | None = None

    @property
    def end_user(self) -> str | None:
        return self.user

    @property
    def activates(self) -> bool | None:
        return self.use_activation

    def idle(self) -> list[str]:
        """Fields that are set and, beside the others, without effect."""
        unused = self.truncate_prompt_tokens is None and self.truncation_side is not None
        return ["truncation_side"] if unused else []


class EmbeddingRequest(TextRequest, kw_only=True):
    input: Text | PromptList
    encoding_format: EncodingFormat | None = None
    dimensions: Count | None = None
    normalize: bool | None = None
    embed_dtype: Literal["float32"] | None = None
    endianness: Literal["little", "native"] | None = None

    messages: Refused = None

    @property
    def activates(self) -> bool | None:
        return self.use_activation if self.normalize is None else self.normalize


class PoolingRequest(EmbeddingRequest, kw_only=True):
    task: Literal["embed", "classify"] | None = None


class ClassifyRequest(TextRequest, kw_only=True):
    input: Text | PromptList
    activation: bool | None = None

    messages: Refused = None

    @property
    def activates(self) -> bool | None:
        return self.use_activation if self.activation is None else self.activation


class ScoreRequest(TextRequest, kw_only=True):
    """Pairs of texts: one with one, one with many, or as many with as many."""

    text_1: Text | Texts | None = None
    text_2: Text | Texts | None = None
    queries: Text | Texts | None = None
    documents: Text | Texts | None = None


class RerankDocument(msgspec.Struct, kw_only=True):
    text: Text


Documents: TypeAlias = Annotated[
    list[Text | RerankDocument], msgspec.Meta(min_length=1, max_length=MAX_INPUTS)
]


class RerankRequest(TextRequest, kw_only=True):
    query: Text
    documents: Documents
    top_n: Count | None = None
    return_documents: bool | None = None

    @property
    def texts(self) -> list[str]:
        return [one if isinstance(one, str) else one.text for one in self.documents]
