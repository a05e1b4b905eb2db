"""Vectors of a step on their way to who asked: copied to the host, then finished there.

What a request asks of its vector (fewer dimensions, another length, scores) is a handful of
numbers a row: done by the thread that sends results, not by the device.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import torch

from octavo.services.worker.slots import Rows
from octavo.shared.messages import Floats, Ints, pack_floats
from octavo.shared.pooling import Activation, PoolingInfo, PoolingParams
from octavo.shared.steps import INVALID_TOKEN, PooledRow

TINY = 1e-12


@dataclass(frozen=True)
class Pooled:
    """`vectors` float32[k, dimension] of the step's k rows whose prompts ended, and what each of
    them asked for."""

    vectors: torch.Tensor
    params: list[PoolingParams]
    info: PoolingInfo

    def on_host(self) -> Pooled:
        """The same; on a GPU pinned, and not yet there."""
        if not self.vectors.is_cuda:
            return self
        shape, dtype = self.vectors.shape, self.vectors.dtype
        pinned = torch.empty(shape, dtype=dtype, pin_memory=True)
        return replace(self, vectors=pinned.copy_(self.vectors, non_blocking=True))

    def finish(self, rows: Rows, token_ids: Ints) -> list[PooledRow]:
        """A message a row; rows that are no numbers are marked in `token_ids` instead."""
        vectors = self.vectors.numpy()
        sound = np.isfinite(vectors).all(axis=1)
        token_ids[rows.samples[~sound]] = INVALID_TOKEN
        alike: dict[PoolingParams, list[int]] = defaultdict(list)
        for index in np.flatnonzero(sound).tolist():
            alike[self.params[index].starting(0)].append(index)
        return [
            PooledRow(row=int(rows.samples[index]), vector=pack_floats(vector))
            for params, group in alike.items()
            for index, vector in zip(
                group, finished(vectors[group], params, self.info), strict=True
            )
        ]


def finished(vectors: Floats, params: PoolingParams, info: PoolingInfo) -> Floats:
    """float32[n, d]: cut, then of length 1; or the classes' scores."""
    if info.task == "classify":
        return vectors if params.use_activation is False else activate(vectors, info.activation)
    vectors = vectors[:, : params.dimensions]
    normalize = info.normalize if params.use_activation is None else params.use_activation
    if not normalize:
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    normed: Floats = vectors / np.maximum(lengths, TINY)
    return normed


def activate(logits: Floats, activation: Activation) -> Floats:
    """float32[n, classes] -> as much."""
    if activation == "none":
        return logits
    if activation == "sigmoid":
        scores: Floats = 0.5 + 0.5 * np.tanh(0.5 * logits)  # no overflow, whatever the logit
        return scores
    grown: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = grown / grown.sum(axis=1, keepdims=True)
    return scores
