"""Pooling: one vector for a whole text. What a model gives, and what a request may ask of it."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from octavo.shared.errors import InvalidRequest

Floats = npt.NDArray[np.float32]

PoolingTask = Literal["embed", "classify"]
Pooler = Literal["last", "mean", "cls"]
Activation = Literal["none", "sigmoid", "softmax"]


class PoolingInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How this server's model pools.

    `pooler`: the text's vector is that of its last token, its first ("cls"), or the mean of all.
    `normalize`: embeddings get length 1 unless a request asks otherwise. `activation` makes
    scores of a classifier's logits, of which there are `dimension`. `encoder`: every token sees
    all others, so a text is computed in one step and leaves no KV cache.
    """

    task: PoolingTask
    pooler: Pooler
    dimension: int
    normalize: bool = False
    activation: Activation = "none"
    labels: list[str] = []
    encoder: bool = False


class PoolingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a request asks of its vectors.

    `dimensions`: only so many leading numbers of an embedding. `use_activation` None is as the
    model's files say: embeddings normalised or not, logits made scores; false leaves both as they
    are. `second_start`: where the second of two texts begins, for models that mark it; 0: one text.
    """

    dimensions: int | None = None
    use_activation: bool | None = None
    second_start: int = 0

    def starting(self, second_start: int) -> PoolingParams:
        """The same for a prompt whose second text begins there."""
        return msgspec.structs.replace(self, second_start=second_start)

    def verify(self, info: PoolingInfo) -> None:
        """Raise InvalidRequest, naming the field."""
        if self.dimensions is None:
            return
        if info.task != "embed":
            raise InvalidRequest("dimensions is for embeddings only.", param="dimensions")
        if not 1 <= self.dimensions <= info.dimension:
            raise InvalidRequest(
                f"dimensions must be between 1 and {info.dimension}, the size of this model's "
                f"embeddings; got {self.dimensions}.",
                param="dimensions",
            )


def check_scores(info: PoolingInfo) -> None:
    """Raise InvalidRequest for a model that gives a pair of texts no score."""
    if info.task == "classify" and info.dimension != 1:
        raise InvalidRequest(
            f"This model tells {info.dimension} classes apart; a score needs one that has a single "
            "one, or embeddings.",
            code="unsupported_by_model",
        )


def cosine(one: Floats, other: Floats) -> float:
    """How alike two embeddings are, -1 to 1; 0 where one of them is nothing but zeros."""
    lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 0.0
