"""RaggedBatch: texts of different lengths side by side, and attention inside each of them.

Texts of about the same length are padded to one length and attend together: at most twice the
tokens, and a few calls a layer however many texts there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import scaled_dot_product_attention

from octavo.services.worker.staging import to_device

Longs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bucket:
    """`tokens` int64[n * length]: n texts, padded with tokens of others. `mask` bool[n, 1, 1,
    length]: which are the text's own; None: all."""

    tokens: torch.Tensor
    length: int
    mask: torch.Tensor | None


@dataclass(frozen=True)
class RaggedBatch:
    """T tokens: `ids`, `positions` and `types` int64[T]. `place` int64[T]: where each stands in
    the buckets' tokens, one bucket after the other."""

    ids: torch.Tensor
    positions: torch.Tensor
    types: torch.Tensor
    buckets: list[Bucket]
    place: torch.Tensor

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """[T, heads, dim] each -> [T, heads * dim]."""
        mixed = torch.cat([_attend(bucket, q, k, v) for bucket in self.buckets])
        return mixed.index_select(0, self.place)


def _attend(bucket: Bucket, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """[n * length, heads * dim]; what padding gives is nobody's."""

    def padded(x: torch.Tensor) -> torch.Tensor:
        rows = x.index_select(0, bucket.tokens)
        return rows.view(-1, bucket.length, *x.shape[1:]).transpose(1, 2)

    mixed = scaled_dot_product_attention(padded(q), padded(k), padded(v), bucket.mask)
    return mixed.transpose(1, 2).flatten(0, 1).flatten(1)


def ragged_batch(
    ids: npt.NDArray[np.int32], lengths: Longs, second_starts: Longs, device: torch.device
) -> RaggedBatch:
    """Texts of these lengths, one after the other in `ids`; where the second part of each begins
    (0: nowhere)."""
    starts = np.cumsum(lengths) - lengths
    positions = np.arange(len(ids)) - np.repeat(starts, lengths)
    second = np.repeat(np.where(second_starts > 0, second_starts, len(ids)), lengths)
    place = np.empty(len(ids), np.int64)
    buckets, filled = [], 0
    for rows in _alike(lengths):
        length = int(lengths[rows].max())
        columns = np.arange(length)
        own = columns < lengths[rows, None]
        tokens = np.where(own, starts[rows, None] + columns, starts[rows, None])
        place[tokens[own]] = filled + np.flatnonzero(own)
        filled += tokens.size
        mask = None if own.all() else on(own[:, None, None, :], device)
        buckets.append(Bucket(on(tokens.ravel(), device), length, mask))
    return RaggedBatch(
        on(ids.astype(np.int64), device),
        on(positions, device),
        on((positions >= second).astype(np.int64), device),
        buckets,
        on(place, device),
    )


def _alike(lengths: Longs) -> Iterator[Longs]:
    """Rows whose lengths have the same power of two above them."""
    powers = np.ceil(np.log2(lengths))
    for power in np.unique(powers):
        yield np.flatnonzero(powers == power)


def on(values: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    return to_device(torch.from_numpy(np.ascontiguousarray(values)), device)
