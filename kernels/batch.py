"""ForwardBatch: the device-side description of one step that attention and KV writes read."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ForwardBatch:
    """A ragged batch of n rows and T tokens; row i owns tokens query_start[i]..query_start[i+1].

    All tensors live on the model's device. Under a CUDA graph they are static buffers padded to
    the graph's bucket: a padded row has seq_len 0 (and, in a decode batch, one padded token); a
    padded token has slot_mapping -1 and position 0. Outputs of padded tokens are never read but
    must stay finite.
    """

    positions: torch.Tensor
    """int32[T]: position of each token in its sequence."""
    slot_mapping: torch.Tensor
    """int64[T]: block * block_size + offset where the token's K and V go; -1: nowhere."""
    block_tables: torch.Tensor
    """int32[max_slots, max_blocks]: indexed by slot, not by row."""
    slots: torch.Tensor
    """int32[n]: slot of each row."""
    query_start: torch.Tensor
    """int32[n + 1]: prefix sum of the rows' token counts."""
    seq_lens: torch.Tensor
    """int32[n]: tokens in the row's sequence once this step's are written."""
    max_query_len: int
    """Upper bound of the rows' token counts, known on the host. 1: a decode batch."""
    max_seq_len: int
    """Upper bound of seq_lens, known on the host (under a CUDA graph: max_model_len)."""

    @property
    def num_rows(self) -> int:
        return self.slots.shape[0]
