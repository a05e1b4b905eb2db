"""What the runner needs of a model, whatever its family."""

from __future__ import annotations

from typing import Protocol

import torch

from octavo.kernels.batch import ForwardBatch

KVPair = tuple[torch.Tensor, torch.Tensor]


class CausalLM(Protocol):
    num_layers: int
    num_heads: int
    num_kv_heads: int
    """Both on this rank."""
    head_dim: int
    dtype: torch.dtype
    has_window: bool
    """Whether any layer sees a part of the sequence only."""

    def forward(self, input_ids: torch.Tensor, batch: ForwardBatch) -> torch.Tensor:
        """int32[T] -> hidden [T, H], after the final norm; [s, H] of the `sampled` alone where
        the batch names any: behind the last attention, others need not be computed."""
        ...

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[n, H] -> [n, vocab] in the model's dtype, the same on every rank."""
        ...

    def bind_kv_cache(self, caches: list[KVPair]) -> None: ...
