"""Answers of the pooling routes."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from octavo.services.frontend.replies import Reply

Encoded = list[float] | str
"""Numbers, or float32s in base64, little-endian."""


class PoolingUsage(Reply, kw_only=True):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0


class Embedding(Reply, kw_only=True):
    index: int
    object: str = "embedding"
    embedding: Encoded


class EmbeddingList(Reply, kw_only=True):
    id: str
    object: str = "list"
    created: int
    model: str
    data: list[Embedding]
    usage: PoolingUsage


class PooledData(Reply, kw_only=True):
    index: int
    object: str = "pooling"
    data: Encoded


class PooledList(Reply, kw_only=True):
    id: str
    object: str = "list"
    created: int
    model: str
    data: list[PooledData]
    usage: PoolingUsage


class Classification(Reply, kw_only=True):
    """`label`: of the greatest probability."""

    index: int
    label: str
    probs: list[float]
    num_classes: int


class ClassificationList(Reply, kw_only=True):
    id: str
    object: str = "list"
    created: int
    model: str
    data: list[Classification]
    usage: PoolingUsage


class Score(Reply, kw_only=True):
    index: int
    object: str = "score"
    score: float


class ScoreList(Reply, kw_only=True):
    id: str
    object: str = "list"
    created: int
    model: str
    data: list[Score]
    usage: PoolingUsage


class RankedDocument(Reply, kw_only=True):
    text: str


class Ranked(Reply, kw_only=True):
    """`index`: of the document in the request."""

    index: int
    document: RankedDocument | UnsetType = UNSET
    relevance_score: float


class Ranking(Reply, kw_only=True):
    """The most relevant first."""

    id: str
    model: str
    usage: PoolingUsage
    results: list[Ranked]
