"""Poolers: the hidden states of a text's tokens become its one vector.

A prompt may come in chunks: what its earlier ones brought waits in the row's slot.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np
import torch

from octavo.services.worker.pooling.ragged import on
from octavo.services.worker.sampler import Hidden
from octavo.services.worker.slots import Rows


class PoolerLike(Protocol):
    needs_every: ClassVar[bool]
    """Whether the hidden states of all tokens are wanted, or only those of the last of a text."""

    def pool(self, hidden: Hidden, rows: Rows) -> torch.Tensor:
        """float32[k, H]: of the k rows whose prompts end in this step."""
        ...


class LastPooler:
    needs_every: ClassVar[bool] = False

    def __init__(self, slots: int, size: int, device: torch.device) -> None:
        """Needs no state."""

    def pool(self, hidden: Hidden, rows: Rows) -> torch.Tensor:
        return hidden.samples[: len(rows.samples)].float()


class FirstPooler:
    """The first token, a classification token in most encoders."""

    needs_every: ClassVar[bool] = True

    def __init__(self, slots: int, size: int, device: torch.device) -> None:
        self._first = torch.zeros(slots, size, device=device, dtype=torch.float32)

    def pool(self, hidden: Hidden, rows: Rows) -> torch.Tensor:
        begin = np.flatnonzero(rows.computed == 0)
        tokens = _index(rows.query_start[:-1][begin], hidden)
        found = _every(hidden).index_select(0, tokens).float()
        self._first.index_copy_(0, _index(rows.slots[begin], hidden), found)
        return self._first.index_select(0, _index(rows.sample_slots, hidden))


class MeanPooler:
    """The mean of all tokens, special ones too."""

    needs_every: ClassVar[bool] = True

    def __init__(self, slots: int, size: int, device: torch.device) -> None:
        self._sums = torch.zeros(slots, size, device=device, dtype=torch.float32)

    def pool(self, hidden: Hidden, rows: Rows) -> torch.Tensor:
        lengths = on(rows.num_tokens.astype(np.int64), hidden.samples.device)
        states = _every(hidden)[: rows.total_tokens].float()
        # Unchecked, for checking would wait for the device.
        sums = torch.segment_reduce(states, "sum", lengths=lengths, axis=0, unsafe=True)
        slots = _index(rows.slots, hidden)
        later = on((rows.computed > 0).astype(np.float32)[:, None], hidden.samples.device)
        sums += self._sums.index_select(0, slots) * later
        self._sums.index_copy_(0, slots, sums)
        counts = on(rows.positions.astype(np.float32)[:, None], hidden.samples.device)
        return self._sums.index_select(0, _index(rows.sample_slots, hidden)) / counts


POOLERS: dict[str, type[LastPooler] | type[FirstPooler] | type[MeanPooler]] = {
    "last": LastPooler,
    "cls": FirstPooler,
    "mean": MeanPooler,
}


def _every(hidden: Hidden) -> torch.Tensor:
    if hidden.every is None:
        raise RuntimeError("the hidden states of all tokens were not kept")
    return hidden.every


def _index(values: np.ndarray, hidden: Hidden) -> torch.Tensor:
    return on(values.astype(np.int64), hidden.samples.device)
