"""Vocabulary-parallel embedding and output head."""

from __future__ import annotations

import torch
from torch import nn

from octavo.kernels import ops
from octavo.services.worker.layers.placement import Placement, Placements
from octavo.services.worker.parallel import Parallel


class VocabShard(nn.Module):
    """A [vocab, hidden] matrix split by rows; the vocabulary is padded to a multiple of ranks."""

    def __init__(self, vocab_size: int, hidden_size: int, parallel: Parallel) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.parallel = parallel
        self.rows = -(-vocab_size // parallel.size)
        self.first = parallel.rank * self.rows
        self.weight = nn.Parameter(torch.zeros(self.rows, hidden_size), requires_grad=False)

    def placements(self, name: str) -> Placements:
        real = max(min(self.rows, self.vocab_size - self.first), 0)
        shape = (self.vocab_size, self.weight.shape[1])
        if real:
            yield name, Placement(self.weight[:real], shape, 0, self.first)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """int32[T] -> [T, hidden]."""
        if self.parallel.size == 1:
            return nn.functional.embedding(ids, self.weight)
        local = ids - self.first
        mine = (local >= 0) & (local < self.rows)
        found = nn.functional.embedding(torch.where(mine, local, 0), self.weight)
        return self.parallel.all_reduce(found * mine[:, None])

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[n, hidden] -> [n, vocab] in hidden's dtype, the same on every rank."""
        scores = ops.linear(hidden, self.weight)
        return self.parallel.all_gather(scores)[:, : self.vocab_size]
